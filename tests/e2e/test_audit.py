"""What a real asyd leaves on record, as its own reader finds it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from asys.audit.entries import CleanEnd, Gap, SessionClosed, SessionOpened
from asys.audit.reading import Action, State
from asys.audit.segments import READS
from asys.isa import TaskStatus
from asys.protocol.keys import PrivateKey
from support.audit import entries, make_removable, records
from support.children import resumed, suspended, waiting
from support.daemon import AGENT, CORE_AGENT, PATIENCE, running
from support.delegates import addition, page, sealed
from support.frames import (
    CAPS,
    DENIED,
    HELLO,
    INVALID_PAYLOAD,
    NO_SUCH_INSTRUCTION,
    OK,
    STATUS,
    frame,
)
from support.own_daemon import config
from support.raw_agent import RawAgent
from support.recording import Recording, actions, assert_whole, mortal, recording
from support.supervised import supervisord

AGENTS = {AGENT: "agent caps=all,security", CORE_AGENT: "other"}


def peer(socket_name: tuple[str, int]) -> str:
    return f"{socket_name[0]}:{socket_name[1]}"


def test_what_was_done_in_order_by_whom_and_on_what(tmp_path: Path) -> None:
    added = PrivateKey.generate()
    payload = addition(added.public, {0x00, 0x01, 0x20}, label=b"helper")
    with (
        recording(tmp_path, agents=AGENTS) as asyd,
        waiting() as child,
        asyd.daemon.connect() as agent,
        asyd.daemon.connect(CORE_AGENT) as other,
    ):
        names = [peer(one.socket.getsockname()) for one in (agent, other)]
        assert agent.alive()
        assert other.ask(other.throttle(child.pid)) == NO_SUCH_INSTRUCTION
        assert agent.ask(agent.throttle(child.pid)) == OK
        suspended(child.pid)
        assert agent.ask(frame(0x20, bytes(4))) == DENIED
        assert agent.ask(sealed(agent, 0x20, child.pid.to_bytes(4, "big"), 1)) == OK
        resumed(child.pid)
        assert agent.ask(agent.throttle(1)) == DENIED
        assert agent.ask(sealed(agent, 0x60, payload))[-2:] == OK
        with asyd.daemon.connect(added) as helper:
            names.append(peer(helper.socket.getsockname()))
            assert helper.ask(helper.throttle(1)) == DENIED
        assert page(agent, 0)[0] == 1
        assert agent.ask(sealed(agent, 0x61, bytes(32))) == INVALID_PAYLOAD
    assert_whole(asyd.directory)
    found = actions(asyd.directory)
    assert [(one.agent, one.instruction, one.sw, one.intent_ns is not None) for one in found] == [
        ("other", "PROC_THROTTLE", 0x6A81, False),
        ("agent", "PROC_THROTTLE", 0x9000, True),
        ("agent", "PROC_THROTTLE", 0x6982, False),
        ("agent", "PROC_THROTTLE", 0x9000, True),
        ("agent", "PROC_THROTTLE", 0x6982, False),
        ("agent", "AGENT_ADD", 0x9000, True),
        ("helper", "PROC_THROTTLE", 0x6982, False),
        ("agent", "AGENT_LIST", 0x9000, True),
        ("agent", "AGENT_REMOVE", 0x6A80, False),
    ]
    assert [(one.cla, one.seq) for one in found if one.agent == "agent"] == [
        *[(4, 1), (0, 0), (8, 2), (4, 3)],
        *[(8, 4), (8, 5), (8, 6)],
    ]
    assert [one.payload for one in found if one.payload] == [payload]
    who = {}
    for one in found:
        assert one.who is not None
        who[one.agent] = (one.who.key, one.who.line, one.who.peer)
    assert who == {
        "agent": (AGENT.public, 1, names[0]),
        "other": (CORE_AGENT.public, 2, names[1]),
        "helper": (added.public, 1, names[2]),
    }
    times = [record.time_ns for _, record in records(asyd.directory)]
    assert times == sorted(times)
    everything = list(entries(asyd.directory))
    assert not [one for one in everything if isinstance(one, Gap)]
    assert len([one for one in everything if isinstance(one, SessionClosed)]) == 3
    assert len([one for one in everything if isinstance(one, CleanEnd)]) == 1


def test_readings_are_in_a_chain_of_their_own(tmp_path: Path) -> None:
    with recording(tmp_path, agents=AGENTS) as asyd, asyd.daemon.connect(CORE_AGENT) as agent:
        for _ in range(5):
            agent.send(*[HELLO] * 700, *[CAPS] * 300)
            for _ in range(1000):
                assert agent.answer()[-2:] == OK
        assert agent.ask(STATUS)[-2:] == OK
        assert agent.ask(frame(0x05)) == NO_SUCH_INSTRUCTION
    assert_whole(asyd.directory)
    counts: dict[tuple[str, int | None], int] = {}
    for one in actions(asyd.directory, READS):
        assert one.agent == "other"
        key = one.instruction, one.sw
        counts[key] = counts.get(key, 0) + one.times
    assert counts == {
        ("SYS_HELLO", 0x9000): 3500,
        ("SYS_CAPS", 0x9000): 1500,
        ("SYS_STATUS", 0x9000): 1,
    }
    assert [(one.instruction, one.sw) for one in actions(asyd.directory)] == [("05", 0x6A81)]
    opened = [one for one in entries(asyd.directory) if isinstance(one, SessionOpened)]
    assert [(one.label, one.line) for one in opened] == [("other", 2)]


def test_the_end_of_a_task_is_on_record_though_its_session_has_gone(tmp_path: Path) -> None:
    with (
        supervisord({"web": "sleep infinity"}, startsecs=1) as url,
        recording(tmp_path, "--supervisord", url, agents=AGENTS) as asyd,
    ):
        with asyd.daemon.connect() as agent:
            assert agent.ask(agent.restart("not-there"))[-2:] == OK
            assert agent.ask(agent.restart("web"))[-2:] == OK
        end = time.monotonic() + PATIENCE
        while len(ends := [one for one in found_so_far(asyd) if one.task is not None]) < 2:
            assert time.monotonic() < end, ends
            time.sleep(0.02)
    assert_whole(asyd.directory)
    assert [
        (one.agent, one.instruction, one.state, one.sw, one.seq, one.task)
        for one in actions(asyd.directory)
    ] == [
        ("agent", "SVC_RESTART", State.ENDED, 0x9000, 1, TaskStatus.FAILED),
        ("agent", "SVC_RESTART", State.ENDED, 0x9000, 2, TaskStatus.SUCCESS),
    ]


def found_so_far(asyd: Recording) -> list[Action]:
    """What its writer has written; there may be nothing yet."""
    return actions(asyd.directory) if asyd.directory.exists() else []


def killable(tmp_path: Path) -> tuple[Path, Path]:
    return config(tmp_path, AGENTS), tmp_path / "audit"


def test_every_answer_that_an_agent_has_is_on_record_though_asyd_is_killed(tmp_path: Path) -> None:
    count = 500
    config_dir, directory = killable(tmp_path)
    try:
        with mortal(config_dir, directory) as asyd, waiting() as child:
            with asyd.daemon.connect() as agent:
                agent.send(*[agent.throttle(child.pid, 1) for _ in range(10 * count)])
                for _ in range(count):
                    assert agent.answer() == OK
                asyd.kill()
            asyd.written()
        assert_whole(directory)
        found = [record for _, record in records(directory)]
        intents = [one.seq for one in found if not one.sw]
        outcomes = [one.seq for one in found if one.sw == 0x9000]
        assert len(intents) + len(outcomes) == len(found)
        assert intents == list(range(1, len(intents) + 1))
        assert outcomes == list(range(1, len(outcomes) + 1))
        assert len(outcomes) >= count
        assert len(intents) - len(outcomes) in (0, 1)
        with mortal(config_dir, directory) as asyd:
            with asyd.daemon.connect() as agent:
                assert agent.ask(agent.throttle(1)) == DENIED
            asyd.daemon.stop()
            asyd.written()
        assert_whole(directory)
        assert [one.sw for one in actions(directory)].count(0x6982) == 1
    finally:
        make_removable(directory)


def test_asyd_goes_on_when_its_writer_is_killed(tmp_path: Path) -> None:
    with recording(tmp_path, agents=AGENTS) as asyd, asyd.daemon.connect() as agent:
        writer = 0
        for _ in range(3):
            assert agent.ask(agent.throttle(1)) == DENIED
            writer = asyd.writer(other_than=writer)
            os.kill(writer, signal.SIGKILL)
            assert agent.ask(agent.throttle(1)) == DENIED
    assert_whole(asyd.directory)
    assert [one.seq for one in actions(asyd.directory)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_what_ends_or_reloads_asyd_does_not_disturb_the_writer(
    tmp_path: Path, number: signal.Signals
) -> None:
    with recording(tmp_path, agents=AGENTS) as asyd, asyd.daemon.connect() as agent:
        writer = asyd.writer()
        assert agent.ask(agent.throttle(1)) == DENIED
        asyd.daemon.reload({AGENT: "renamed caps=all", CORE_AGENT: "other"})
        for pid in (writer, asyd.keeper):
            os.kill(pid, number)
        assert agent.ask(agent.throttle(1)) == DENIED
        with asyd.daemon.connect() as later:
            assert later.ask(later.throttle(1)) == DENIED
        assert asyd.writer() == writer
    assert_whole(asyd.directory)
    # A session keeps the label under which it began.
    assert [(one.agent, one.seq) for one in actions(asyd.directory)] == [
        ("agent", 1),
        ("agent", 2),
        ("renamed", 1),
    ]


def test_without_an_audit_there_are_no_files_and_no_processes(tmp_path: Path) -> None:
    with running(tmp_path, "--audit", "off", agents=AGENTS) as asyd:
        children = psutil.Process(asyd.pid).children()
        assert not [one for one in children if "/audit/" in " ".join(one.cmdline())]
        with asyd.connect() as agent:
            assert agent.ask(agent.throttle(1)) == DENIED
        assert asyd.said("the audit is off")
    assert [path.name for path in tmp_path.rglob("*") if "audit" in path.name] == []


def test_the_audit_is_on_by_itself_in_the_state_directory(tmp_path: Path) -> None:
    directory = tmp_path / "asyd" / "state" / "audit"
    with running(tmp_path, "--audit", "on", agents=AGENTS) as daemon:
        asyd = Recording(daemon, directory)
        with daemon.connect() as agent:
            assert agent.ask(agent.throttle(1)) == DENIED
    try:
        asyd.written()
        assert_whole(directory)
        assert [one.sw for one in actions(directory)] == [0x6982]
        assert directory.stat().st_mode & 0o777 == 0o700
    finally:
        make_removable(directory)


def test_nobody_may_touch_the_writer(tmp_path: Path) -> None:
    with recording(tmp_path, agents=AGENTS) as asyd, asyd.daemon.connect() as agent:
        refuses(agent, asyd.keeper)
        first = asyd.writer()
        until_known(agent, first)
        refuses(agent, first)
        os.kill(first, signal.SIGKILL)
        second = asyd.writer(other_than=first)
        until_known(agent, second)
        refuses(agent, second)
    assert_whole(asyd.directory)


def until_known(agent: RawAgent, writer: int) -> None:
    """A writer says who it is as soon as it runs; asking to continue does no harm until then."""
    end = time.monotonic() + PATIENCE
    while agent.ask(agent.throttle(writer, 1)) != DENIED:
        assert time.monotonic() < end, "the writer is not protected"
        time.sleep(0.005)


def refuses(agent: RawAgent, pid: int) -> None:
    try:
        assert agent.ask(agent.throttle(pid)) == DENIED
        assert psutil.Process(pid).status() != psutil.STATUS_STOPPED
    finally:
        os.kill(pid, signal.SIGCONT)  # else nobody would write, or end
