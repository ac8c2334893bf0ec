"""A whole node behind the handshake: every instruction with any parameters, in any order.

Nothing of this machine is in reach: the platform, its processes, services, logs and isolations are
made up, and remember what was done to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator, Mapping
from typing import Any, Final

from asys.isa import REGISTRY, REKEY, SVC_RESTART, AnyInstruction, TaskStatus, UntrustedText
from asys.isa.capmap import parse_caps
from asys.isa.core import ProcessFlags
from asys.isa.diagnostics import (
    EntryFlags,
    LogDetail,
    LogEntry,
    LogEvent,
    LogSource,
    LogSummary,
    ProcessTree,
    Severity,
    SummaryFlags,
    TreeProcess,
)
from asys.isa.sample import arguments, frame
from asys.node.held.isolations import Isolations
from asys.node.platform.base import NoSuchTarget, ProcessHandle, Tree
from asys.protocol.apdu import CLA_SEC, SEC_ENC_SIGN, encode_plain
from asys.protocol.link import LinkState
from asys.protocol.status import SW
from fuzz.choices import Choices, Script
from fuzz.logged import no_surprise
from support.clock import ManualClock
from support.isolator import MadeIsolator
from support.machine import MadePlatform
from support.node_rig import AGENT, Rig, RigAgent
from support.services import Services
from support.target import Target

COVERS = (
    "asys.node.dispatch",
    "asys.node.connection",
    "asys.node.session",
    "asys.node.chains",
    "asys.node.targets",
    "asys.node.handlers.control",
    "asys.node.handlers.core",
    "asys.node.handlers.diagnostics",
    "asys.node.handlers.network",
    "asys.node.handlers.process",
    "asys.node.handlers.security",
)

PIDS: Final = (4711, 4712)
GRANTS: Final = ("all", "core", "core,process users=33 services=web*", "all rate=PROC_TREE:1/h")
KNOWN: Final = tuple(one.code for one in REGISTRY)
MOST: Final = 12
"""Requests of one session."""

_QUICK: Final = 100
"""Rounds of the loop in which all is answered that needs no thread."""

_TURNS: Final = 60_000
"""Rounds after which an answer must be there; a thread has a millisecond in each."""


class _Platform(MadePlatform):
    """Two processes that can be held."""

    def __init__(self) -> None:
        super().__init__()
        self.targets = {pid: Target(pid) for pid in PIDS}

    def can_throttle(self) -> bool:
        """As Platform.can_throttle."""
        return True

    def process(self, pid: int) -> ProcessHandle:
        """As Platform.process."""
        if pid not in self.targets:
            raise NoSuchTarget(f"there is no process {pid}")
        self.targets[pid].handles += 1
        return self.targets[pid]

    def process_trees(self) -> _Trees:
        """As Platform.process_trees."""
        return _Trees()


class _Trees:
    """Knows the same two; one is the other's child."""

    def holds(self, pid: int) -> bool:
        """As ProcessTrees.holds."""
        return pid in PIDS

    def tree(self, pid: int, depth: int, busy: Mapping[int, float]) -> Generator[None, None, Tree]:
        """As ProcessTrees.tree."""
        yield
        rows = tuple(
            TreeProcess(one, 1, 0, 0.5, 1, at, "S", ProcessFlags.ROOT, 1, UntrustedText("sh"))
            for at, one in enumerate(PIDS)
        )
        found = ProcessTree(len(rows), len(rows), PIDS.index(pid), rows)
        return Tree(found.pack(), dict.fromkeys(PIDS, 100))

    def close(self) -> None:
        """As ProcessTrees.close."""


class _Logs:
    """One event, which is always there."""

    pids = (1,)
    has_room = True

    def start(self) -> None:
        """As Logs.start."""

    def remembers(self, event: int) -> bool:
        """As Logs.remembers."""
        return event == 1

    async def summary(self, window_s: int, priority: int, wanted: int) -> bytes:
        """As Logs.summary."""
        await asyncio.sleep(0)
        event = LogEvent(1, window_s, 1, 1, Severity(priority), UntrustedText("unit"))
        return LogSummary(1, 1, LogSource.JOURNAL, SummaryFlags(0), (event,)).pack()

    async def detail(self, event: int, before: int, after: int) -> bytes:
        """As Logs.detail."""
        entry = LogEntry(1, 1, Severity.ERR, EntryFlags(0), UntrustedText("it went wrong"))
        return LogDetail(1, 0, (entry,)).pack()

    async def close(self) -> None:
        """As Logs.close."""


def one(data: bytes) -> None:
    """A session that asks whatever the input says."""
    with no_surprise("asyd"):
        asyncio.run(_session(Choices(data)))


async def _session(choices: Choices) -> None:
    options = choices.pick(GRANTS)
    platform, services, isolator = _Platform(), Services(), MadeIsolator()

    def isolations(clock: ManualClock) -> Isolations:
        return Isolations(isolator, clock)

    rig = Rig(
        {AGENT: f"agent caps={options}"},
        platform=platform,
        services=services,
        logs=_Logs(),
        isolations=isolations,
    )
    try:
        agent = rig.session()
        in_step = True  # until bytes that were no request have made something else of it
        for _ in range(MOST):
            if not choices.left or agent.session.closed:
                break
            granted = parse_caps(options.split()[0])
            await _ask(rig, agent, choices, granted, in_step=in_step)
            session = agent.session
            in_step = in_step and not session._parser.pending and not session._held
    finally:
        await rig.close()
    assert all(target.handles == 0 for target in platform.targets.values())
    if options == "core":
        assert not services.restarts
        assert not isolator.calls
    if options != "all" and "rate" not in options:  # both processes are of uid 0
        assert not any(target.signals for target in platform.targets.values())
        assert not isolator.there
        assert all(unit.startswith("web") for unit in services.jobs)


async def _ask(rig: Rig, agent: RigAgent, choices: Choices, granted: int, *, in_step: bool) -> None:
    """One request, or something that is none. `in_step`: the next answer is the one to it."""
    kind = choices.below(8)
    if kind == 7:
        rig.advance(choices.byte() / 16)
        return
    if kind == 6:
        agent.send(choices.blob())
        await rig.settle()
        for answer in agent.responses():
            _is_known(answer)
        return
    code = choices.pick(KNOWN) if choices.flag() else choices.byte()
    p1, p2, more = choices.byte(), choices.byte(), choices.byte() == 0xFF
    payload = choices.take(choices.byte())
    signer = agent.link.signer
    if kind < 2:
        raw = encode_plain(code, p1, p2, payload, more=more)
    elif kind < 4:
        raw = signer.sign(code, p1, p2, payload, more=more)
    else:
        raw = signer.seal(code, p1, p2, payload, more=more)
    agent.send(raw)
    answers = await _answers(rig, agent)
    said = [_is_known(answer) for answer in answers]
    if not in_step:
        return
    assert len(said) == 1 or agent.session.closed
    if not said:
        return
    answer, sw = answers[0], said[0]
    exists = granted >> code & 1 and code in (*KNOWN, *range(0xC0, 0x100))
    if not exists and not agent.session.closed:
        assert sw in (SW.NO_SUCH_INSTRUCTION, SW.WRONG_LENGTH)
    known = REGISTRY.get(code)
    succeeded = sw == SW.SUCCESS or sw >> 8 == 0x91
    if succeeded and known is not None and not more and exists:
        assert raw[0] & CLA_SEC >= known.level << 2
        known.reply.unpack(answer[:-2])
        if known is REKEY:
            agent.link.rekey()
    if succeeded and known is SVC_RESTART and rig.node.services is not None:
        for job in getattr(rig.node.services, "jobs", {}).values():
            if choices.flag() and not job.result.done():
                job.result.set_result(TaskStatus.SUCCESS)


async def _answers(rig: Rig, agent: RigAgent) -> list[bytes]:
    for turn in range(_TURNS):
        rig.run()
        if agent.link.state is LinkState.OPEN:
            found = agent.responses()
            if found:
                return found
        if agent.session.closed or (not agent.session._held and turn > 4):
            return []
        await asyncio.sleep(0 if turn < _QUICK else 0.001)
        if 4 < turn < _QUICK:
            rig.clock.advance(0.05)  # a reading may have to be made first
    raise AssertionError("a request is not answered")


def _is_known(answer: bytes) -> int:
    """Its status word, which is one of the protocol's."""
    assert len(answer) >= 2
    sw = int.from_bytes(answer[-2:], "big")
    assert sw in set(SW) or sw >> 8 == 0x91
    assert sw != SW.NODE_UNKNOWN_ERROR
    return sw


def seeds() -> Iterator[bytes]:
    """A request of each instruction, for each grant; several of them; bytes that are no request."""
    for instruction in REGISTRY:
        raw = frame(instruction)
        payload = raw[5 : 5 + raw[4]][4 if instruction.level else 0 :]
        if raw[0] & CLA_SEC == SEC_ENC_SIGN:
            payload = instruction.make_request(**_arguments(instruction)).pack()
        kind = 2 * instruction.level
        at = KNOWN.index(instruction.code)
        asked = Script().byte(kind, 1, at, raw[2], raw[3], 0, len(payload)).raw(payload)
        for grant in range(len(GRANTS)):
            yield bytes((grant,)) + bytes(asked)
        yield bytes((0,)) + bytes(asked) * 3
    for pid in PIDS:
        body = pid.to_bytes(4, "big")
        held = [bytes((2, 0, code, 0, 0, 0, 4)) + body for code in (0x20, 0x21, 0x42)]
        freed = [bytes((2, 0, code, 1, 0, 0, 4)) + body for code in (0x20, 0x21)]
        for grant in range(len(GRANTS)):
            yield bytes((grant,)) + b"".join([*held, *freed])
    yield bytes(Script().byte(0, 6).blob(b"\0\1\0\0\0\0\0").byte(7, 200, 6).blob(b"\x20"))


def _arguments(instruction: AnyInstruction) -> dict[str, Any]:
    given = arguments(instruction)
    if isinstance(given.get("key"), str):
        given["key"] = bytes.fromhex(given["key"])
    return given
