"""Every instruction of the declared set does its work under packaging/systemd/asyd.service."""

from __future__ import annotations

import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

import asys
from asys import isa
from asys.isa import REGISTRY, TaskStatus
from support.caged import FULL, SECONDS, Caged, caged, relaxed
from support.chained import CHAINED, seen
from support.frames import OK
from support.isolating import isolation_missing
from support.raw_agent import RawAgent
from support.systemd_box import Gate, SystemdBox

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(isolation_missing()), reason=isolation_missing()),
]

MORE: Final = 0x10
"""In CLA: a fragment, and more come."""

TALKS = """
import os, socket, sys
near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
far.bind(("127.0.0.1", 0))
near.connect(far.getsockname())
listening = socket.create_server(("127.0.0.1", 0))
def tried(what):
    try:
        what()
    except PermissionError:
        return b"cut "
    return b"open "
def new():
    socket.create_connection(listening.getsockname()).close()
    listening.accept()[0].close()
asked = socket.socket(socket.AF_UNIX)
asked.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
asked.listen()
open(sys.argv[1] + ".ready", "w").close()
while True:
    one, _ = asked.accept()
    one.sendall(tried(lambda: near.send(b"x")) + tried(new))
    one.close()
"""
"""Says whether a socket that it had, and a new one, get through."""


@dataclass
class Place:
    """asyd in its cage, and what is there for it to act on."""

    caged: Caged
    box: SystemdBox

    @property
    def node(self) -> asys.sync.Node:
        """A session of its own."""
        return self.caged.connect()

    def service(self, start: str = "/bin/sleep infinity", **settings: str) -> str:
        """A service that runs."""
        name = self.box.service(start, **settings)
        self.box.run("systemctl", "start", "--no-block", name)
        return name

    def pid(self, service: str) -> int:
        """Of the main process of one."""
        while not (pid := int(self.box.property(service, "MainPID"))):
            time.sleep(0.01)
        return pid

    def stopped(self, pid: int) -> bool:
        """Whether a process stands still."""
        return "State:\tT" in self.box.run("cat", f"/proc/{pid}/status").stdout

    def talker(self, **settings: str) -> tuple[int, Callable[[], str]]:
        """A process, and how to ask it whether it is cut off."""
        directory = self.box.share / "agents" / secrets.token_hex(4)
        directory.mkdir()
        directory.chmod(0o777)
        (directory / "talks.py").write_text(TALKS)
        inside = f"/run/box/agents/{directory.name}"
        command = f"{sys.executable} {inside}/talks.py {inside}/asked"
        service = self.service(command, **relaxed(), **settings)
        until((directory / "asked.ready").exists)

        def ask() -> str:
            with socket.socket(socket.AF_UNIX) as asking:
                asking.settimeout(SECONDS)
                asking.connect(str(directory / "asked"))
                told = b""
                while more := asking.recv(100):
                    told += more
            return told.decode().strip()

        return self.pid(service), ask


def until(what: Callable[[], bool]) -> None:
    """Asks until it is so."""
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


Try = Callable[[Place], None]
TRIED: Final[dict[int, Try]] = {}


def tries(*instructions: isa.AnyInstruction) -> Callable[[Try], Try]:
    """What follows tries these."""

    def mark(one: Try) -> Try:
        for instruction in instructions:
            TRIED[instruction.code] = one
        return one

    return mark


@tries(isa.SYS_CAPS, isa.SYS_HELLO)
def looks_at_the_machine(place: Place) -> None:
    with place.node as node:
        assert node.sys_hello().magic == b"ASYS"
        caps = node.sys_caps()
        assert caps.cpu_count > 0
        # KEY_STATEMENT is there while there is a next key.
        assert [one for one in REGISTRY if not node.can(one.name)] == [isa.KEY_STATEMENT]


@tries(isa.SYS_STATUS)
def tells_the_load(place: Place) -> None:
    with place.node as node:
        status = node.sys_status()
        assert status.available_mb > 0
        assert status.node_flags == isa.NodeFlags(0)  # and so the audit is not degraded


@tries(isa.SYS_PROCS)
def sees_all_processes(place: Place) -> None:
    burning = place.service("/bin/sh -c 'while :; do :; done'", User="nobody")
    pid = place.pid(burning)
    with place.node as node:
        until(lambda: node.sys_procs().top[0].pid == pid)
        assert isa.ProcessFlags.ROOT not in node.sys_procs().top[0].flags
    place.box.run("systemctl", "kill", "--signal=KILL", burning)


@tries(isa.CONTINUE)
def joins_fragments(place: Place) -> None:
    with RawAgent(place.caged.address) as agent:
        agent.handshake(place.caged.identity.key)
        handle = agent.ask(agent.signed(CHAINED.code, b"one", cla=0x04 | MORE))
        assert handle[-2:] == OK
        answer = agent.ask(agent.signed(isa.CONTINUE.code, handle[:4] + b"two"))
        assert answer == seen(b"onetwo").pack() + OK


@tries(isa.SVC_RESTART, isa.TASK_QUERY)
def restarts(place: Place) -> None:
    service = place.service()
    before = place.pid(service)
    with place.node as node:
        task = node.svc_restart(service)
        assert task.query() in (TaskStatus.PENDING, TaskStatus.SUCCESS)
        assert task.wait(timeout=SECONDS) is TaskStatus.SUCCESS
        with pytest.raises(asys.Denied):
            node.svc_restart("asyd")
    assert place.pid(service) != before


@tries(isa.TASK_CANCEL)
def cancels(place: Place) -> None:
    gate = Gate(place.box.share)
    first = place.service(gate.wait, Type="oneshot")
    second = place.box.service()
    text = f"[Unit]\nAfter={first}.service\n[Service]\nExecStart=sleep infinity\n"
    place.box.unit(f"{second}.service", text)
    try:
        with place.node as node:
            task = node.svc_restart(second)
            assert task.cancel() is TaskStatus.CANCELLED
    finally:
        gate.open()
        gate.close()


@tries(isa.REKEY)
def takes_new_keys(place: Place) -> None:
    with place.node as node:
        node.rekey()
        assert node.sys_hello().magic == b"ASYS"


@tries(isa.KEY_STATEMENT)
def states_its_next_key(place: Place) -> None:
    old = place.caged.key
    try:
        place.box.run("asyd", "key", "rotate")
        with place.node as node:
            statement = node.key_statement()
            assert statement.old_key == old
            assert statement.new_key == node.next_key
    finally:
        place.box.run("asyd", "key", "finish")
        place.caged.do("reload")  # its key is another one from now on
    assert place.caged.key == statement.new_key


@tries(isa.ABANDON)
def leaves_other_sessions(place: Place) -> None:
    with place.node, place.node as second:
        assert second.abandon().closed == 1


@tries(isa.PROC_THROTTLE)
def suspends_whoever_it_is(place: Place) -> None:
    with place.node as node:
        for user in ("nobody", "root"):
            pid = place.pid(place.service(User=user))
            node.proc_throttle(pid, "stop")
            until(lambda pid=pid: place.stopped(pid))  # type: ignore[misc]
            node.proc_throttle(pid, "continue")
            until(lambda pid=pid: not place.stopped(pid))  # type: ignore[misc]
        with pytest.raises(asys.Denied):
            node.proc_throttle(place.caged.pid, "stop")


@tries(isa.NET_ISOLATE)
def cuts_off(place: Place) -> None:
    """Also where systemd has given the cgroup to a user: only a real root may write there."""
    of_system, of_user = place.talker(), place.talker(User="nobody", Delegate="yes")
    with place.node as node:
        for pid, ask in (of_system, of_user):
            assert ask() == "open open"
            node.net_isolate(pid, "isolate")
            assert ask() == "cut cut"
            node.net_isolate(pid, "release")
            assert ask() == "open open"


@tries(isa.LOG_SUMMARY, isa.LOG_DETAIL)
def reads_the_journal(place: Place) -> None:
    word = secrets.token_hex(8)
    place.box.run("logger", "--priority=user.alert", "--tag=test-units", word)
    place.box.run("journalctl", "--sync")
    with place.node as node:
        summary = node.log_summary(3600, "alert", 32)
        assert summary.source is isa.LogSource.JOURNAL
        [event] = [one for one in summary.events if one.unit.raw == "test-units"][:1]
        entries = node.log_detail(event.event_id, 1, 1).entries
        assert word in [one.message.raw for one in entries]


@tries(isa.PROC_TREE)
def walks_through_families(place: Place) -> None:
    pid = place.pid(place.service("/bin/sh -c 'sleep infinity & wait'", User="nobody"))
    with place.node as node:

        def names() -> list[str]:
            return [one.name.raw for one in node.proc_tree(pid).processes]

        until(lambda: "sleep" in names())
        assert names()[0] == "systemd"


@tries(isa.AGENT_ADD, isa.AGENT_LIST, isa.AGENT_REMOVE)
def lets_agents_in(place: Place) -> None:
    helper = asys.Identity.generate()
    with place.node as node:
        node.agent_add(helper.public, caps="core", ttl_s=600)
        assert helper.public in [one.key for one in node.agents()]
        with asys.sync.connect(
            f"unix:{place.caged.address}",
            identity=helper,
            node_key=place.caged.key,
            timeout=SECONDS,
        ) as theirs:
            assert theirs.sys_hello().magic == b"ASYS"
        node.agent_remove(helper.public)
        assert helper.public not in [one.key for one in node.agents()]


@pytest.fixture(scope="module")
def node(systemd_box: SystemdBox) -> Iterator[Caged]:
    with caged(systemd_box, FULL) as [made]:
        made.admit("--caps", "all,AGENT_ADD,AGENT_REMOVE,AGENT_LIST", "--role", "admin")
        made.do("start")
        yield made


@pytest.fixture
def place(node: Caged, box: SystemdBox) -> Place:
    return Place(node, box)


def test_every_declared_instruction_is_tried() -> None:
    missing = [one.name for one in REGISTRY if one.code not in TRIED]
    assert not missing, f"nobody tries {missing} under the unit"


@pytest.mark.parametrize("tried", dict.fromkeys(TRIED.values()), ids=lambda one: one.__name__)
def test_it_works_in_the_cage(place: Place, tried: Try) -> None:
    tried(place)
    assert not [line for line in place.caged.log.splitlines() if " ERROR " in line]


def test_all_of_it_is_on_record(place: Place) -> None:
    """In files that can only grow; and the writers end by themselves when the unit is stopped."""
    with place.node as node:
        node.log_summary(60, "alert", 1)
    directory = Path("/var/lib/asyd/audit")
    verify = (sys.executable, "-c", "import sys; from asys.cli.agent import main; sys.exit(main())")
    place.caged.do("stop")
    assert place.caged.value("Result") == "success"
    try:
        place.box.run(*verify, "audit", "verify", directory)
        shown = place.box.run(*verify, "audit", "show", "--reads", directory).stdout
        assert "SYS_HELLO" in shown
        shown = place.box.run(*verify, "audit", "show", directory).stdout
        assert "LOG_SUMMARY" in shown
        flags = place.box.run("lsattr", directory / "audit-00000001.seg").stdout
        assert "a" in flags.split()[0]
    finally:
        place.caged.do("start")
