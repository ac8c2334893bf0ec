"""`asys.node.agents.trial` says what a node answers: it is tried, and asked of a real asyd."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from asys.isa import REGISTRY, Level
from asys.isa.capmap import CORE, EVERYTHING, bits
from asys.node.agents.book import AgentBook, parse_agents
from asys.node.agents.delegated_store import DelegatedStore
from asys.node.agents.directory import Delegate, Directory
from asys.node.agents.trial import Asyd, Trial, Verdict, chain, grants, lacks
from asys.node.clock import Clock
from asys.node.disk.files import write_atomically
from asys.node.platform import choose_platform
from asys.node.platform.base import Isolator, Logs, ProcessHandle
from asys.node.platform.linux import LinuxPlatform
from asys.node.platform.processes.process import Guard, LinuxProcess, bus_owners
from asys.node.platform.services.supervisord import Supervisord
from asys.protocol.keys import PrivateKey
from asys.protocol.status import SW
from support.children import gone, waiting, zombie
from support.clock import ManualClock
from support.daemon import Daemon, running
from support.delegates import add, addition, sealed
from support.frames import OK, frame, pid_payload
from support.lit import answers, lit
from support.raw_agent import RawAgent
from support.services import Services
from support.supervised import FOR_EVER, supervisord
from support.users import NOBODY, plain_user


class Elsewhere(LinuxPlatform):
    """As in a command of its own: what the tests start are no children of whoever tries."""

    def process(self, pid: int) -> ProcessHandle:
        """As Platform.process."""
        return LinuxProcess(pid, Guard("", bus_owners(), 0))


THEIRS = NOBODY if os.geteuid() == 0 else os.geteuid()
"""Whose process `nobody's` is: only root can have one of another user."""

NAMES = ("boss", "web", "plain", "dim", "deputy", "hand", "spare")
KEYS = {name: PrivateKey(bytes([number]) * 32) for number, name in enumerate(NAMES, 1)}
LINES = {
    "boss": "boss caps=all,security,C0,90",
    "web": f"web caps=core,process services=all:web*,all:g?oup users={THEIRS} vendors=0x17",
    "plain": "",
    "dim": "caps=SYS_CAPS,SYS_HELLO,PROC_THROTTLE role=admin",
}
LESS = {**LINES, "boss": "boss caps=core,SVC_RESTART,AGENT_ADD services=web"}
"""What boss has added holds less, too."""

HANDED = {"deputy": {*range(4), 0x11, 0x20, 0x22, 0x60, 0x61}, "hand": {0, 1, 0x22}}


@dataclass
class World:
    """An asyd, and what it can be asked about."""

    asyd: Daemon
    url: str
    pids: dict[str, int]

    def trial(self) -> Trial:
        """From the files as they are now."""
        book = parse_agents((self.asyd.config_dir / "authorized_agents").read_text())
        stored = DelegatedStore(self.asyd.config_dir / "state").load()
        pid = self.asyd.pid
        family = frozenset({pid, os.getpid()})
        platform, services = Elsewhere(), Supervisord(self.url)
        return Trial(
            Directory(book, stored, node_key=self.asyd.key),
            self.asyd.key,
            platform,
            services,
            int(time.time()),
            asyd=Asyd(pid, family),
            lacks=lacks(platform, services, ManualClock(), self.asyd.config_dir / "state"),
        )


def book_of(written: dict[str, str]) -> AgentBook:
    text = "".join(f"{key.public.hex()} {rest}\n" for key, rest in lines(written).items())
    return parse_agents(text)


def lines(written: dict[str, str]) -> dict[PrivateKey, str]:
    return {KEYS[name]: line for name, line in written.items()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    programs = {name: "sleep infinity" for name in ("web", "web-1", "group", "db", "dbus-daemon")}
    with ExitStack() as stack:
        url = stack.enter_context(supervisord(programs, startsecs=FOR_EVER))
        directory = tmp_path_factory.mktemp("asyd")
        options = ("--supervisord", url, "--handshake-rate", "0")
        asyd = stack.enter_context(running(directory, *options, agents=lines(LINES)))
        user = NOBODY if os.geteuid() == 0 else None
        pids = {
            "mine": stack.enter_context(waiting()).pid,
            "nobody's": stack.enter_context(waiting(user=user)).pid,
            "zombie": stack.enter_context(zombie()),
            "gone": gone(),
            "asyd": asyd.pid,
            "parent": os.getpid(),
        }
        with asyd.connect(KEYS["boss"]) as boss:
            assert add(boss, KEYS["deputy"].public, HANDED["deputy"], 3600)[-2:] == OK
        with asyd.connect(KEYS["deputy"]) as deputy:
            assert add(deputy, KEYS["hand"].public, HANDED["hand"])[-2:] == OK
        yield World(asyd, url, pids)


Payload = Callable[[World], bytes]


def pid(name: str) -> Payload:
    return lambda world: pid_payload(world.pids[name])


def raw(data: bytes) -> Payload:
    return lambda world: data


def adds(name: str, codes: set[int], ttl: int = 0, label: bytes = b"") -> Payload:
    return raw(addition(KEYS[name].public, codes, ttl, label))


RESTARTS = ("web", "web-1", "group", "db", "all", "nothing", "dbus-daemon", "web.service", "Web")
TARGETS = ("mine", "zombie", "gone", "asyd", "parent")
PLAIN_CORE = (0x00, 0x01, 0x02, 0x03)
OPEN = {"zombie": SW.INVALID_PAYLOAD, "gone": SW.INVALID_PAYLOAD, "mine": SW.SUCCESS}
NOT_A_NAME = {name: SW.INVALID_PAYLOAD for name in ("web.service", "Web")}
ANYWHERE = {"dbus-daemon": SW.DENIED, **NOT_A_NAME}
IN_SCOPE = {name: SW.SUCCESS for name in ("web", "web-1", "group")} | NOT_A_NAME

CASES: list[Any] = [
    *[(who, code, 0, raw(b""), SW.SUCCESS) for who in ("plain", "web") for code in PLAIN_CORE],
    ("boss", 0x00, 3, raw(b""), SW.SUCCESS),
    ("boss", 0x00, 4, raw(b""), SW.INVALID_PAYLOAD),
    ("plain", 0x11, 0, raw(bytes(4)), SW.SUCCESS),
    ("plain", 0x11, 0, raw(bytes(3)), SW.WRONG_LENGTH),
    ("plain", 0x13, 0, raw(b"more"), SW.WRONG_LENGTH),
    ("plain", 0x13, 0, raw(b""), SW.SUCCESS),
    ("plain", 0x14, 0, raw(b""), SW.NO_SUCH_INSTRUCTION),
    ("plain", 0x20, 0, pid("mine"), SW.NO_SUCH_INSTRUCTION),
    ("dim", 0x02, 0, raw(b""), SW.NO_SUCH_INSTRUCTION),
    ("dim", 0x13, 0, raw(b""), SW.NO_SUCH_INSTRUCTION),
    # PROC_THROTTLE
    *[("boss", 0x20, 1, pid(name), OPEN.get(name, SW.DENIED)) for name in TARGETS],
    *[("deputy", 0x20, 1, pid(name), OPEN.get(name, SW.DENIED)) for name in TARGETS],
    ("boss", 0x20, 1, pid("nobody's"), SW.SUCCESS),
    ("boss", 0x20, 2, pid("mine"), SW.INVALID_PAYLOAD),
    ("boss", 0x20, 1, raw(bytes(5)), SW.WRONG_LENGTH),
    ("boss", 0x20, 1, raw(bytes(4)), SW.INVALID_PAYLOAD),
    ("boss", 0x20, 1, raw(pid_payload(1)), SW.DENIED),
    ("boss", 0x20, 1, raw(b"\xff" * 4), SW.INVALID_PAYLOAD),
    # Who is not root has no process of another user.
    pytest.param("web", 0x20, 1, pid("mine"), SW.DENIED, marks=pytest.mark.root),
    pytest.param("web", 0x20, 1, pid("zombie"), SW.DENIED, marks=pytest.mark.root),
    ("web", 0x20, 1, pid("gone"), SW.INVALID_PAYLOAD),
    ("hand", 0x20, 1, pid("mine"), SW.NO_SUCH_INSTRUCTION),
    # NET_ISOLATE: nobody is cut off
    *[
        pytest.param("boss", 0x21, 0, pid(name), OPEN.get(name, SW.DENIED), marks=pytest.mark.root)
        for name in TARGETS
        if name != "mine"
    ],
    pytest.param("boss", 0x21, 0, raw(pid_payload(1)), SW.DENIED, marks=pytest.mark.root),
    pytest.param("boss", 0x21, 0, raw(bytes(4)), SW.INVALID_PAYLOAD, marks=pytest.mark.root),
    pytest.param("web", 0x21, 0, pid("mine"), SW.DENIED, marks=pytest.mark.root),
    ("hand", 0x21, 0, pid("mine"), SW.NO_SUCH_INSTRUCTION),
    # SVC_RESTART
    *[("boss", 0x22, 0, raw(name.encode()), ANYWHERE.get(name, SW.SUCCESS)) for name in RESTARTS],
    *[("web", 0x22, 0, raw(name.encode()), IN_SCOPE.get(name, SW.DENIED)) for name in RESTARTS],
    ("hand", 0x22, 0, raw(b"db"), SW.SUCCESS),
    ("hand", 0x22, 0, raw(b"dbus-daemon"), SW.DENIED),
    ("boss", 0x22, 0, raw(b""), SW.WRONG_LENGTH),
    ("boss", 0x22, 0, raw(b"w" * 65), SW.INVALID_PAYLOAD),
    ("plain", 0x22, 0, raw(b"web"), SW.NO_SUCH_INSTRUCTION),
    # AGENT_ADD, AGENT_REMOVE, AGENT_LIST
    ("boss", 0x60, 0, adds("spare", {0, 1}, 60, b"label"), SW.SUCCESS),
    ("boss", 0x60, 0, adds("deputy", HANDED["deputy"], 3600), SW.SUCCESS),
    ("boss", 0x60, 0, adds("spare", {0xC1}), SW.DENIED),
    ("boss", 0x60, 0, adds("spare", {0, 0x10}), SW.SUCCESS),
    ("deputy", 0x60, 0, adds("spare", {0, 0x10}), SW.SUCCESS),
    ("boss", 0x60, 0, adds("spare", {0}, 0xFFFFFFFF), SW.INVALID_PAYLOAD),
    ("boss", 0x60, 0, adds("spare", {0}, label=b"a b"), SW.INVALID_PAYLOAD),
    ("boss", 0x60, 0, adds("spare", {0}, label=b"a" * 32), SW.INVALID_PAYLOAD),
    ("boss", 0x60, 0, adds("plain", {0}), SW.INVALID_PAYLOAD),
    ("boss", 0x60, 0, adds("boss", {0}), SW.INVALID_PAYLOAD),
    ("boss", 0x60, 0, adds("hand", {0}), SW.INVALID_PAYLOAD),
    ("boss", 0x60, 0, lambda world: addition(world.asyd.key, {0}), SW.INVALID_PAYLOAD),
    ("boss", 0x60, 0, raw(addition(bytes(32), {0})), SW.INVALID_PAYLOAD),
    ("boss", 0x60, 0, raw(addition(bytes(32), {0xC1})), SW.INVALID_PAYLOAD),
    ("boss", 0x60, 0, raw(bytes(68)), SW.WRONG_LENGTH),
    ("deputy", 0x60, 0, adds("spare", {0, 0x60}), SW.SUCCESS),
    ("deputy", 0x60, 0, adds("spare", {0, 0x62}), SW.DENIED),
    ("deputy", 0x60, 0, adds("boss", {0}), SW.INVALID_PAYLOAD),
    ("deputy", 0x61, 0, raw(KEYS["plain"].public), SW.DENIED),
    ("deputy", 0x61, 0, raw(KEYS["deputy"].public), SW.INVALID_PAYLOAD),
    ("boss", 0x61, 0, raw(KEYS["hand"].public), SW.SUCCESS),
    ("boss", 0x61, 0, raw(KEYS["spare"].public), SW.INVALID_PAYLOAD),
    ("boss", 0x61, 0, raw(bytes(31)), SW.WRONG_LENGTH),
    ("boss", 0x62, 7, raw(b""), SW.SUCCESS),
    ("deputy", 0x62, 0, raw(b""), SW.NO_SUCH_INSTRUCTION),
    ("dim", 0x61, 0, raw(KEYS["hand"].public), SW.NO_SUCH_INSTRUCTION),
]


@pytest.fixture
def as_it_was(world: World) -> Iterator[None]:
    """Who was added is there again, and nobody else, when the test has ended."""
    before = world.trial().directory.delegates
    yield
    with world.asyd.connect(KEYS["boss"]) as boss:
        boss.ask(sealed(boss, 0x61, KEYS["spare"].public))
        if world.trial().directory.delegates != before:
            assert add(boss, KEYS["deputy"].public, HANDED["deputy"], 3600)[-2:] == OK
            with world.asyd.connect(KEYS["deputy"]) as deputy:
                assert add(deputy, KEYS["hand"].public, HANDED["hand"])[-2:] == OK


def tried(trial: Trial, who: str, code: int, p1: int = 0, payload: bytes = b"") -> Verdict:
    holding = trial.directory.holding(KEYS[who].public, trial.now)
    assert holding is not None
    instruction = REGISTRY.get(code)
    assert instruction is not None
    return asyncio.run(trial.answer(holding, instruction, p1, 0, payload))


def asked(agent: RawAgent, code: int, p1: int, payload: bytes) -> SW:
    instruction = REGISTRY.get(code)
    assert instruction is not None
    if instruction.level is Level.ENC_SIGN:
        return status(agent.ask(sealed(agent, code, payload, p1)))
    if instruction.level is Level.SIGNED:
        return status(agent.ask(agent.signed(code, payload, p1)))
    return status(agent.ask(frame(code, payload, p1)))


def status(answer: bytes) -> SW:
    return SW(int.from_bytes(answer[-2:], "big"))


@pytest.mark.parametrize(("who", "code", "p1", "payload", "expected"), CASES)
def test_it_says_what_asyd_answers(
    world: World, as_it_was: None, who: str, code: int, p1: int, payload: Payload, expected: SW
) -> None:
    data = payload(world)
    verdict = tried(world.trial(), who, code, p1, data)
    with world.asyd.connect(KEYS[who]) as agent:
        assert (verdict.sw, asked(agent, code, p1, data)) == (expected, expected)
    assert verdict.rule


@pytest.mark.root
def test_a_process_of_a_user_within_the_scope(world: World) -> None:
    data = pid_payload(world.pids["nobody's"])
    verdict = tried(world.trial(), "web", 0x20, 1, data)
    with world.asyd.connect(KEYS["web"]) as agent:
        assert asked(agent, 0x20, 1, data) == verdict.sw == SW.SUCCESS
    assert f"users={THEIRS} has its owner" in verdict.rule


def test_asyd_itself_and_its_ancestors_are_known_only_where_asyd_is(world: World) -> None:
    trial = replace(world.trial(), asyd=Asyd())
    assert tried(trial, "boss", 0x20, 1, pid_payload(world.asyd.pid)).sw == SW.SUCCESS


@pytest.mark.parametrize(
    "options", [[], ["--mode", "monitor"], ["--portable"]], ids=["full", "monitor", "portable"]
)
@pytest.mark.parametrize("dark", [False, True])
def test_what_exists_is_what_asyd_says(tmp_path: Path, options: list[str], dark: bool) -> None:
    """All 256 codes, for each kind of map; there is no service manager here."""
    kinds = {name: KEYS[name] for name in ("boss", "web", "plain", "dim", "deputy")}
    boss, deputy = KEYS["boss"].public, KEYS["deputy"].public
    added = Delegate(deputy, boss, bits(HANDED["deputy"]), "deputy", 0)
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    write_atomically(state / "dark", b"1" if dark else b"0", 0o600)
    asyncio.run(DelegatedStore(state).save([added]))
    with running(tmp_path, *options, "--state-dir", str(state), agents=lines(LINES)) as asyd:
        platform = choose_platform(portable="--portable" in options)
        trial = Trial(
            Directory(book_of(LINES), [added], node_key=asyd.key),
            asyd.key,
            platform,
            None,
            int(time.time()),
            dark,
            CORE if "monitor" in options else EVERYTHING,
            lacks=lacks(platform, None, ManualClock(), state),
        )
        for name, key in kinds.items():
            holding = trial.directory.holding(key.public, trial.now)
            assert holding is not None
            said = {code: trial.gate(holding, code) for code in range(256)}
            with asyd.connect(key) as agent:
                there = {code for code, one in said.items() if one is None and code < 0xC0}
                assert lit(agent) == there, name  # no vendor is enabled
                for code, answer in answers(agent).items():
                    verdict = said[code]
                    if verdict is not None:
                        assert verdict.sw == status(answer), f"{name} {code:02X}"


class Lacking(LinuxPlatform):
    """One that cannot cut a process off, and that has no logs."""

    def isolator(self, state_dir: Path) -> Isolator | None:
        """As Platform.isolator."""
        isolator = super().isolator(state_dir)
        assert isolator is not None
        isolator.lack = "no bpf here"
        return isolator

    def logs(self, clock: Clock) -> Logs | None:
        """As Platform.logs."""
        return None


def test_what_a_machine_lacks_is_said_of_each_instruction(tmp_path: Path) -> None:
    there = lacks(Lacking(), Services(), ManualClock(), tmp_path)
    assert there.keys() == {0x21, 0x40, 0x41}
    assert there[0x21] == "no bpf here"
    portable = lacks(choose_platform(portable=True), None, ManualClock(), tmp_path)
    assert portable.keys() == {0x12, 0x20, 0x21, 0x22, 0x40, 0x41, 0x42}
    assert list(tmp_path.iterdir()) == []


# -- the words


def delegate(name: str, parent: str, codes: set[int]) -> Delegate:
    return Delegate(KEYS[name].public, KEYS[parent].public, bits(codes), name, 0)


def made(written: dict[str, str], *delegates: Delegate, dark: bool = False) -> Trial:
    """Without a service manager."""
    directory = Directory(book_of(written), delegates, node_key=bytes(32))
    return Trial(directory, bytes(32), Elsewhere(), None, 0, dark)


CHAIN = (
    delegate("deputy", "boss", {0, 1, 0x20, 0x22}),
    delegate("hand", "deputy", {0, 1, 0x22, 0x14}),
)


def test_a_chain_says_what_each_link_leaves() -> None:
    links = chain(made(LINES, *CHAIN).directory, KEYS["hand"].public)
    assert [link.name for link in links] == ["boss", "deputy", "hand"]
    assert [link.line for link in links] == [1, 0, 0]
    assert [link.left for link in links[1:]] == [bits({0, 1, 0x20, 0x22}), bits({0, 1, 0x22})]
    assert links[2].given == bits({0, 1, 0x14, 0x22})
    assert grants(links, "X") == "line 1 grants X, handed on by boss and then deputy"
    assert grants(links[:1], "X") == "line 1 grants X"
    assert chain(made({}).directory, KEYS["hand"].public) == ()


@pytest.mark.parametrize(
    ("who", "code", "rule"),
    [
        ("boss", 0x20, "line 1 does not grant PROC_THROTTLE"),
        (
            "hand",
            0x14,
            "line 1 does not grant ABANDON and boss has not handed ABANDON on to deputy",
        ),
        (
            "hand",
            0x20,
            "line 1 does not grant PROC_THROTTLE and deputy has not handed "
            "PROC_THROTTLE on to hand",
        ),
        ("deputy", 0x20, "line 1 does not grant PROC_THROTTLE"),
        (
            "hand",
            0x60,
            "boss has not handed AGENT_ADD on to deputy and deputy has not handed "
            "AGENT_ADD on to hand",
        ),
    ],
)
def test_every_link_that_lacks_it_is_named(who: str, code: int, rule: str) -> None:
    verdict = tried(made(LESS, *CHAIN), who, code)
    assert verdict == Verdict(SW.NO_SUCH_INSTRUCTION, rule)


def test_a_request_that_is_tried_changes_nothing() -> None:
    trial = made(LINES, *CHAIN)
    payload = addition(KEYS["spare"].public, {0})
    for _ in range(2):
        assert tried(trial, "boss", 0x60, payload=payload).sw == SW.SUCCESS
        assert tried(trial, "boss", 0x61, payload=KEYS["hand"].public).sw == SW.SUCCESS
    assert trial.directory.delegates == CHAIN


def test_a_release_hangs_on_what_only_a_running_node_knows() -> None:
    verdict = tried(made(LINES), "boss", 0x21, 1, pid_payload(os.getpid()))
    assert verdict.sw == SW.SUCCESS
    assert "only if this agent, or one below it, has isolated that PID" in verdict.notes[0]


def test_continue_follows_from_what_may_come_in_fragments() -> None:
    """Vendors' instructions may; whether one does, a running node knows."""
    notes = {name: tried(made(LINES), name, 0x10).notes for name in ("boss", "web", "plain")}
    assert {tried(made(LINES), name, 0x10).sw for name in notes} == {SW.NO_SUCH_INSTRUCTION}
    assert notes == {"boss": (), "web": (), "plain": ()}
    both = {**LINES, "boss": "boss caps=core,vendor vendors=0x17"}
    [note] = tried(made(both), "boss", 0x10).notes
    assert "no vendor of its vendors= that takes fragments" in note


def test_a_process_that_is_tried_is_not_touched() -> None:
    """It is a child: it could tell if it had been stopped."""
    with waiting() as child:
        assert tried(made(LINES), "boss", 0x20, payload=pid_payload(child.pid)).sw == SW.SUCCESS
        assert os.waitpid(child.pid, os.WNOHANG | os.WUNTRACED) == (0, 0)


@pytest.mark.root
def test_what_the_kernel_refuses() -> None:
    trial = made(LINES)
    with waiting(user=NOBODY - 1) as child, plain_user():
        verdict = tried(trial, "boss", 0x20, payload=pid_payload(child.pid))
    assert verdict.sw == SW.DENIED
    assert "the kernel does not let" in verdict.rule


def test_a_child_of_asyd() -> None:
    trial = replace(made(LINES), asyd=Asyd(os.getpid()))
    with waiting() as child:
        verdict = tried(trial, "boss", 0x20, payload=pid_payload(child.pid))
    assert verdict == Verdict(
        SW.DENIED, f"PID {child.pid} is protected for everybody: a child of asyd"
    )


@pytest.mark.parametrize("unit", ["own.unit", "web.unit"])
def test_the_units_of_asyd(unit: str) -> None:
    trial = replace(
        made(LINES), services=Services(), asyd=Asyd(4711, units=frozenset({"own.unit"}))
    )
    verdict = tried(trial, "boss", 0x22, payload=unit.removesuffix(".unit").encode())
    assert verdict.sw == (SW.DENIED if unit == "own.unit" else SW.SUCCESS)


def test_a_service_manager_that_cannot_be_asked(tmp_path: Path) -> None:
    trial = replace(made(LINES), services=Supervisord(f"unix://{tmp_path}/nobody"))
    verdict = tried(trial, "boss", 0x22, payload=b"web")
    assert verdict.sw >> 8 == 0x6F
    assert verdict.rule.startswith(f"supervisord cannot be asked: {tmp_path}/nobody")
