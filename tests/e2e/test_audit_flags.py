"""AUDIT_DEGRADED: who sees it, where, and until when; and what the SDK makes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

import asys
from asys.isa.core import PAGES
from support.children import waiting
from support.daemon import AGENT, PATIENCE, running
from support.delegates import addition, sealed
from support.frames import CAPS, HELLO, NO_SUCH_INSTRUCTION, OK, PROCS, STATUS, frame
from support.loop_disk import LoopDisk, fill, loop_disk_missing
from support.raw_agent import RawAgent
from support.recording import Recording, actions, assert_whole, recording
from support.supervised import supervisord

IDENTITY = asys.Identity.generate()
AGENTS = {AGENT: "agent caps=all,security", IDENTITY.key: "sdk caps=all,security"}
DEGRADED = b"\x91\x01"
FLAGS, PAGE = 17, 33
FLAGGED = ("ABANDON", "AGENT_LIST", "REKEY")

Obstacle: TypeAlias = Callable[[Path], AbstractContextManager[Callable[[], None]]]
"""Puts something in the way of a directory; what it gives takes that away."""


@contextmanager
def in_the_way(directory: Path) -> Iterator[Callable[[], None]]:
    """Something that is no directory stands where one should be, until it is taken away."""
    directory.write_bytes(b"")
    yield directory.unlink


@contextmanager
def full(directory: Path) -> Iterator[Callable[[], None]]:
    """There is no room on its disk, until it is made."""
    fill(directory.parent)
    yield (directory.parent / "filler").unlink


def flags(agent: RawAgent) -> int:
    """What SYS_STATUS shows."""
    answer = agent.ask(STATUS)
    assert answer[-2:] == OK
    return answer[FLAGS]


def until_flags(agent: RawAgent, wanted: int) -> None:
    """Asks until they are so; nobody tells an agent."""
    end = time.monotonic() + PATIENCE
    while flags(agent) != wanted:
        assert time.monotonic() < end, f"the flags are never {wanted}"
        time.sleep(0.01)


def check_all(agent: RawAgent, child: int, flagged: bytes, flag: int) -> None:
    """Every success shows the flags where it may, and keeps 9000 where it must."""
    assert agent.ask(STATUS)[FLAGS] == flag
    for page in range(PAGES):
        assert agent.ask(frame(0x00, p1=page))[PAGE] == page | flag << 7
    assert agent.ask(CAPS)[PAGE] == flag << 7
    for request in (HELLO, CAPS, PROCS, agent.signed(0x01)):
        assert agent.ask(request)[-2:] == OK
    assert agent.ask(frame(0x05)) == NO_SUCH_INSTRUCTION
    assert agent.ask(agent.throttle(child, 1)) == OK
    handle = agent.ask(agent.restart("web"))
    assert handle[-2:] == OK
    assert agent.ask(frame(0x11, handle[:-2]))[-2:] == OK
    assert agent.ask(agent.throttle(1))[-2:] == b"\x69\x82"
    key = asys.Identity.generate().public
    for request in (
        frame(0x14),
        sealed(agent, 0x60, addition(key)),
        sealed(agent, 0x62),
        sealed(agent, 0x61, key),
        frame(0x13),
    ):
        assert agent.ask(request)[-2:] == flagged
        if request == frame(0x13):
            agent.link.rekey()


def sdk_takes_it(asyd: Recording, sw: int) -> None:
    """91xx is a success like any other; whoever looks at the exchange sees the flags."""
    seen: list[asys.Exchange] = []
    host, port = asyd.daemon.endpoint
    with asys.sync.connect(
        host,
        port,
        identity=IDENTITY,
        node_key=asyd.daemon.key,
        timeout=PATIENCE,
        trace=seen.append,
    ) as node:
        node.sys_hello()
        assert int(node.sys_status().node_flags) == int(sw == 0x9101)
        assert node.abandon().closed == 0
        assert node.agents() == ()
        node.rekey()
        assert node.abandon().closed == 0
    told = [(one.instruction, one.sw) for one in seen if one.instruction in FLAGGED]
    assert told == [(name, sw) for name in ("ABANDON", "AGENT_LIST", "REKEY", "ABANDON")]
    assert all(one.succeeded for one in seen)
    assert {one.node_flags for one in seen if one.instruction in FLAGGED} == {sw & 0xFF & (sw >> 8)}
    assert {one.node_flags for one in seen if one.instruction not in FLAGGED} == {0}


def degrades(place: Path, audit: Path, obstacle: Obstacle) -> None:
    """From the start to the end of what is in the way of an audit."""
    with (
        supervisord({"web": "sleep infinity"}) as url,
        waiting() as child,
        obstacle(audit) as clear,
        recording(place, "--supervisord", url, agents=AGENTS, audit=audit) as asyd,
        asyd.daemon.connect() as agent,
    ):
        try:
            until_flags(agent, 1)
            check_all(agent, child.pid, DEGRADED, 1)
            sdk_takes_it(asyd, 0x9101)
        finally:
            clear()
        until_flags(agent, 0)
        check_all(agent, child.pid, OK, 0)
        sdk_takes_it(asyd, 0x9000)
        asyd.daemon.wait_for("the audit cannot be written")
        asyd.daemon.wait_for("the audit is written again")
    assert_whole(audit)
    found = actions(audit)
    ours = [one for one in found if one.agent == "agent"]
    assert [one.sw for one in ours if one.instruction == "ABANDON"] == [0x9101, 0x9000]
    assert [one.sw for one in ours if one.instruction == "PROC_THROTTLE"] == [
        *[0x9000, 0x6982] * 2,
    ]
    # A task comes when it has ended.
    assert sorted(one.seq for one in ours if one.seq) == [*range(2, 8), *range(9, 15)]


def test_what_is_in_the_way_of_the_directory_shows_until_it_is_gone(tmp_path: Path) -> None:
    degrades(tmp_path, tmp_path / "audit", in_the_way)


@pytest.mark.root
@pytest.mark.skipif(bool(loop_disk_missing()), reason=loop_disk_missing())
def test_a_full_disk_shows_until_there_is_room(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with LoopDisk(tmp_path) as disk:
        degrades(tmp_path_factory.mktemp("asyd"), disk.small / "audit", full)


def test_nothing_shows_where_nothing_is_wrong(tmp_path: Path) -> None:
    with (
        recording(tmp_path, agents=AGENTS) as asyd,
        asyd.daemon.connect() as agent,
    ):
        agent.send(*[agent.throttle(1) for _ in range(3000)])
        for _ in range(3000):
            assert agent.answer() == b"\x69\x82"
        assert flags(agent) == 0
        assert agent.ask(frame(0x14)) == b"\0\0" + OK


def test_without_an_audit_no_flag_is_up(tmp_path: Path) -> None:
    with running(tmp_path, "--audit", "off", agents=AGENTS) as asyd, asyd.connect() as agent:
        assert flags(agent) == 0
        assert agent.ask(frame(0x00, p1=1))[PAGE] == 1
        assert agent.ask(frame(0x14)) == b"\0\0" + OK
