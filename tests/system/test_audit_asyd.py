"""A real asyd whose audit's disk hangs: it goes on, dies, and comes again while that lasts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from asys.audit.entries import Gap
from support.audit import entries, records
from support.children import resumed, suspended, waiting
from support.daemon import AGENT, PATIENCE
from support.frames import BLOCKED, DENIED, HELLO, OK, PROCS, STATUS, frame
from support.loop_disk import LoopDisk, fill, loop_disk_missing
from support.own_daemon import config
from support.raw_agent import RawAgent
from support.recording import Recording, actions, assert_whole, mortal

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(loop_disk_missing()), reason=loop_disk_missing()),
]

AGENTS = {AGENT: "agent caps=all,security"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    place = tmp_path / "disk"
    place.mkdir()
    with LoopDisk(place) as made:
        yield made


def until_degraded(agent: RawAgent, wanted: int = 1) -> None:
    """Asks until SYS_STATUS shows it, or that it is over."""
    end = time.monotonic() + PATIENCE
    while agent.ask(STATUS)[17] != wanted:
        assert time.monotonic() < end
        time.sleep(0.01)


def acts(agent: RawAgent, child: int) -> None:
    """Everything is answered, and done."""
    assert agent.ask(HELLO)[-2:] == OK
    assert agent.ask(PROCS)[-2:] == OK
    assert agent.ask(agent.throttle(child)) == OK
    suspended(child)
    assert agent.ask(agent.throttle(child, 1)) == OK
    resumed(child)
    assert agent.ask(agent.throttle(1)) == DENIED


def written(asyd: Recording, agent: RawAgent) -> None:
    """Returns when the disk has what the agent did so far."""
    end = time.monotonic() + PATIENCE
    while not asyd.directory.exists() or not sequence(asyd.directory, agent):
        assert time.monotonic() < end
        time.sleep(0.01)


def sequence(directory: Path, agent: RawAgent) -> bool:
    return any(one.seq == agent.seq for one in actions(directory))


def test_a_frozen_disk_and_a_death_in_between(disk: LoopDisk, tmp_path: Path) -> None:
    config_dir, directory = config(tmp_path, AGENTS), disk.path / "audit"
    with ExitStack() as last, waiting() as process:
        child = process.pid
        first = last.enter_context(mortal(config_dir, directory))
        with ExitStack() as frozen:
            with first.daemon.connect() as agent:
                acts(agent, child)
                written(first, agent)
                frozen.enter_context(disk.hung())
                begun = time.monotonic()
                acts(agent, child)
                until_degraded(agent)
                assert time.monotonic() - begun >= 1.9
                acts(agent, child)
                assert agent.ask(frame(0x14)) == b"\0\0\x91\x01"
                before = agent.seq
                first.kill()
            port = str(first.daemon.endpoint[1])
            second = last.enter_context(mortal(config_dir, directory, "--port", port))
            assert second.daemon.endpoint == first.daemon.endpoint
            with second.daemon.connect() as agent:
                acts(agent, child)
                until_degraded(agent)
                acts(agent, child)
            second.kill()
            third = last.enter_context(mortal(config_dir, directory, "--port", port))
            with third.daemon.connect() as agent:
                acts(agent, child)
                until_degraded(agent)
                acts(agent, child)
                frozen.close()
                until_degraded(agent, 0)
                acts(agent, child)
                assert agent.ask(frame(0x14)) == b"\0\0" + OK
        third.daemon.stop()
        for one in (first, second, third):
            one.written()
    assert_whole(directory)
    found = [one.seq for one in actions(directory) if one.seq]
    wanted = [list(range(1, last + 1)) for last in (before, 6, 9)]
    assert before == 9
    # Who waits for the disk at one time is not in any order.
    sessions = {one.session for one in actions(directory)}
    by_session = sorted(
        [one.seq for one in actions(directory) if one.session == session and one.seq]
        for session in sessions
    )
    assert by_session == sorted(wanted)
    assert len(found) == sum(map(len, wanted))
    assert {one.sw for one in actions(directory) if one.ins == 0x14} == {0x9101, 0x9000}
    assert all(one.intent_ns is not None for one in actions(directory) if one.sw == 0x9000)


def test_asyd_ends_in_time_though_the_disk_hangs(disk: LoopDisk, tmp_path: Path) -> None:
    config_dir, directory = config(tmp_path, AGENTS), disk.path / "audit"
    with ExitStack() as last, waiting() as process:
        asyd = last.enter_context(mortal(config_dir, directory))
        with asyd.daemon.connect() as agent:
            acts(agent, process.pid)
            written(asyd, agent)
            with disk.hung():
                acts(agent, process.pid)
                asyd.daemon.stop()  # while it hangs
        asyd.written()
    assert_whole(directory)
    assert [one.seq for one in actions(directory)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("full", ["refuse", "run"])
def test_what_becomes_of_a_flood_that_no_disk_takes(
    disk: LoopDisk, tmp_path: Path, full: str
) -> None:
    """The ring is full in the end: nothing runs then that leaves no record, or all does."""
    config_dir, directory = config(tmp_path, AGENTS), disk.path / "audit"
    fill(disk.path)
    without = BLOCKED if full == "refuse" else OK
    with ExitStack() as last, waiting() as process:
        asyd = last.enter_context(mortal(config_dir, directory, "--audit-full", full))
        with asyd.daemon.connect() as agent:
            answers: Counter[bytes] = Counter()
            for _ in range(100):
                agent.send(*[agent.throttle(process.pid, 1) for _ in range(1000)])
                answers.update(agent.answer() for _ in range(1000))
            assert set(answers) == {OK, without}
            assert agent.ask(frame(0x14)) == b"\0\0\x91\x01"
            assert agent.ask(agent.throttle(process.pid, 1)) == without
            (disk.path / "filler").unlink()
            until_degraded(agent, 0)
            assert agent.ask(agent.throttle(process.pid, 1)) == OK
        asyd.daemon.stop()
        asyd.written()
    assert_whole(directory)
    found = records(directory)
    intents = [one.seq for _, one in found if one.ins == 0x20 and not one.sw]
    assert intents == sorted(intents)
    done = [one.seq for _, one in found if one.sw == 0x9000]
    assert set(intents) <= set(done)
    assert intents[-1] == 100_002
    [gap] = [one for one in entries(directory) if isinstance(one, Gap)]
    if full == "refuse":
        assert intents == done  # whatever was done is there
        assert len(done) == answers[OK] + 1
        assert gap.count == answers[BLOCKED] + 2
