"""The clock of a running asyd is set on and back, by years, while agents are connected."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

import asys
from asys.protocol.keys import PrivateKey
from support.asyd_cli import asyd_command, told
from support.audit import make_removable
from support.children import resumed, suspended, waiting
from support.daemon import AGENT, CORE_AGENT, PATIENCE, STRANGER, Daemon, write_agents
from support.frames import DENIED, HELLO, OK
from support.isolating import isolation_missing
from support.own_daemon import config, faulty, sdk
from support.recording import Recording, actions, assert_whole
from support.stepped import SteppedClock, faketime_missing

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(faketime_missing()), reason=faketime_missing()),
]

DAY: Final = 86_400
YEAR: Final = 365 * DAY
CHILD: Final = PrivateKey.generate()


def lines(last_day: int = 1) -> dict[PrivateKey, str]:
    """One line without an end, and one that ends with a day from now."""
    last = datetime.now(UTC) + timedelta(days=last_day)
    return {
        AGENT: "agent caps=all,security",
        CORE_AGENT: f"guest caps=core expires={last:%Y-%m-%d}",
    }


@pytest.fixture
def clock(tmp_path: Path) -> SteppedClock:
    return SteppedClock(tmp_path)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield config(tmp_path, lines())
    make_removable(tmp_path / "asyd" / "state" / "audit")


def off_by(session: asys.sync.Node) -> int:
    """How far the node says that its clock is off, in days."""
    return round((session.sys_hello().time_ns - time.time_ns()) / 1e9 / DAY)


def shut_out(asyd: Daemon, key: PrivateKey) -> bool:
    """Whether the node refuses a key."""
    with asyd.connect(key) as agent:
        return agent.ask(HELLO)[-2:] == DENIED


def test_sessions_stay_and_what_has_ended_stays_ended(clock: SteppedClock, directory: Path) -> None:
    with ExitStack() as stack:
        child = stack.enter_context(waiting()).pid
        asyd = stack.enter_context(faulty(directory, "--audit", "on", launcher=clock.launcher))
        agent = stack.enter_context(sdk(asyd))
        guest = stack.enter_context(asyd.connect(CORE_AGENT))
        assert guest.alive()
        agent.agent_add(CHILD.public, "core", ttl_s=3600, label="helper")
        helper = stack.enter_context(asyd.connect(CHILD))
        assert helper.alive()

        clock.set_by(3 * DAY)
        assert off_by(agent) == 3
        assert not guest.alive()
        assert not helper.alive()
        assert shut_out(asyd, CORE_AGENT)
        assert shut_out(asyd, CHILD)
        agent.proc_throttle(child, "stop")
        suspended(child)

        for days in (0, -400, 0):
            clock.set_by(days * DAY)
            assert off_by(agent) == days
            assert shut_out(asyd, CORE_AGENT)
            assert shut_out(asyd, CHILD)
        agent.proc_throttle(child, "continue")
        resumed(child)
        assert [one.label for one in agent.agent_list().agents] == []

        asyd.reload(lines())
        asyd.wait_for("line 2 has ended and stays so, though the clock was set back since")
        assert shut_out(asyd, CORE_AGENT)
        assert "has expired" in asyd_command(directory, "agents", "show", "guest").stderr
        first = Recording(asyd, directory / "state" / "audit")
    first.written()
    with faulty(directory, "--audit", "on", launcher=clock.launcher) as asyd:
        assert shut_out(asyd, CORE_AGENT)
        assert shut_out(asyd, CHILD)
        asyd.reload(lines(2))
        with asyd.connect(CORE_AGENT) as guest:
            assert guest.alive()
        second = Recording(asyd, first.directory)
    second.written()
    assert_whole(first.directory)
    done = [one.instruction for one in actions(first.directory) if one.succeeded]
    assert done == ["AGENT_ADD", "PROC_THROTTLE", "PROC_THROTTLE", "AGENT_LIST"]


def test_a_ttl_is_as_long_as_it_was_meant(clock: SteppedClock, directory: Path) -> None:
    with faulty(directory, launcher=clock.launcher) as asyd, sdk(asyd) as agent:
        agent.agent_add(CHILD.public, "core", ttl_s=2)
        clock.set_by(-YEAR)
        end = time.monotonic() + PATIENCE
        while not shut_out(asyd, CHILD):
            assert time.monotonic() < end, "it has outlived its TTL"
            time.sleep(0.05)
        agent.agent_add(STRANGER.public, "core", ttl_s=3600)
        with asyd.connect(STRANGER) as other:
            assert other.ask(HELLO)[-2:] == OK


@pytest.mark.skipif(bool(isolation_missing()), reason=isolation_missing())
def test_an_isolation_holds_as_long_as_it_was_meant(clock: SteppedClock, directory: Path) -> None:
    """Over steps both ways, also while asyd does not run."""
    with waiting() as process:
        try:
            with faulty(directory, launcher=clock.launcher) as asyd, sdk(asyd) as agent:
                agent.net_isolate(process.pid, "isolate", ttl_s=100_000)
                clock.set_by(YEAR)
                agent.sys_hello()
                assert str(process.pid) in told(directory, "isolations", "list")
            for step in (2 * YEAR, -YEAR):
                clock.set_by(step)
                with faulty(directory, launcher=clock.launcher) as asyd:
                    assert str(process.pid) in told(directory, "isolations", "list")
            clock.set_by(0)
            with faulty(directory, launcher=clock.launcher) as asyd, sdk(asyd) as agent:
                agent.net_isolate(process.pid, "isolate", ttl_s=1)
                clock.set_by(-YEAR)
                asyd.wait_for("is released: its time has passed")
                assert str(process.pid) not in told(directory, "isolations", "list")
        finally:
            asyd_command(directory, "isolations", "release", "--all")


def test_without_a_clock_that_runs_wrong_a_line_holds_to_its_last_day(
    clock: SteppedClock, directory: Path
) -> None:
    """What the other tests show as ended is not ended by being looked at."""
    with faulty(directory, launcher=clock.launcher) as asyd:
        for seconds in (-YEAR, 0, -DAY):
            clock.set_by(seconds)
            with asyd.connect(CORE_AGENT) as guest:
                assert guest.alive()
    write_agents(directory, lines(-1))
    with faulty(directory, launcher=clock.launcher) as asyd:  # a day behind: not ended yet
        with asyd.connect(CORE_AGENT) as guest:
            assert guest.alive()
        clock.set_by(0)
        assert shut_out(asyd, CORE_AGENT)
