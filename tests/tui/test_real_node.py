"""The view of a real asyd: what a key does to a real process, as /proc has it."""

from __future__ import annotations

import asyncio
from itertools import repeat
from pathlib import Path

import pytest

from asys.tui.watcher import State
from support.children import hog
from support.daemon import AGENT, CORE_AGENT, Daemon, running
from support.own_daemon import argv, config
from support.recording import recording
from support.top import Top, shown, target

AGENTS = {AGENT: "boss caps=all", CORE_AGENT: "watcher"}


def state_of(pid: int) -> str:
    """The letter that /proc has for a process: T when it is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


async def asked(top: Top, pid: int, key: str) -> None:
    """Selects a process and presses the key; the question names that process."""
    await top.select(pid)
    await top.press(key)
    await top.until_shown("Cancel (n)")
    assert f"PID         {pid}" in top.screen


@pytest.mark.root
async def test_a_key_and_yes_stop_the_process_and_another_key_lets_it_go(tmp_path: Path) -> None:
    with running(tmp_path, agents=AGENTS) as asyd, hog() as pid:
        async with shown(target(asyd)) as top:
            await asked(top, pid, "s")
            assert "127.0.0.1" in top.screen
            assert "Reversible  Fully" in top.screen
            assert state_of(pid) != "T"
            await top.press("y")
            await top.until_shown("9000 done")
            assert state_of(pid) == "T"
            assert [row.pid for row in top.app.watcher.held] == [pid]

            await asked(top, pid, "r")
            await top.press("y")
            await top.until(lambda: state_of(pid) != "T")
            await top.until(lambda: not top.app.watcher.held)


@pytest.mark.root
async def test_cancelled_the_process_runs_on(tmp_path: Path) -> None:
    with running(tmp_path, agents=AGENTS) as asyd, hog() as pid:
        async with shown(target(asyd)) as top:
            for key in ("n", "enter"):
                await asked(top, pid, "s")
                await top.press(key)
                await top.until_shown("nothing was done")
            await top.rounds(1)
            assert state_of(pid) != "T"
            counted = {one.instruction for one in top.app.watcher.exchanges}
            assert "PROC_THROTTLE" not in counted


async def test_a_node_in_monitor_mode_offers_nothing_that_acts(tmp_path: Path) -> None:
    with running(tmp_path, "--mode", "monitor", agents=AGENTS) as asyd, hog() as pid:
        async with shown(target(asyd)) as top:
            await top.until(lambda: top.app.watcher.vitals.last is not None)
            await top.select(pid)
            assert not top.offers("s")
            assert not top.offers("r")
            await top.press("s")
            await top.rounds(1)
            assert "Cancel (n)" not in top.screen
        assert state_of(pid) != "T"


async def test_two_agents_are_offered_what_each_of_them_has(tmp_path: Path) -> None:
    with running(tmp_path, "--portable", agents=AGENTS) as asyd:
        async with shown(target(asyd, name="as-boss"), target(asyd, CORE_AGENT, "as-core")) as top:
            await top.until(lambda: all(one.rounds for one in top.app.watchers))
            assert not top.app.watchers[1].can_throttle
            assert top.app.watcher.caps is not None


async def test_an_asyd_that_ends_is_lost_and_back_when_it_is_back(tmp_path: Path) -> None:
    directory = config(tmp_path, AGENTS)
    first = Daemon(directory, argv(directory), read_log=True)
    try:
        first.await_ready()
        there = target(first)
        async with shown(there, waits=lambda: repeat(0.1)) as top:
            await top.until(lambda: top.app.watcher.rounds > 0)
            first.kill()
            await top.until(lambda: top.app.watcher.state is State.LOST)
            await top.until_shown("lost")
            second = Daemon(directory, argv(directory, "--port", str(there.port)), read_log=True)
            try:
                second.await_ready()
                await top.until(lambda: top.app.watcher.state is State.LIVE)
                rounds = top.app.watcher.rounds
                await top.until(lambda: top.app.watcher.rounds > rounds)
            finally:
                second.kill()
    finally:
        first.kill()


@pytest.mark.root
async def test_an_admin_sees_what_all_agents_do(tmp_path: Path) -> None:
    with recording(tmp_path, agents=AGENTS) as asyd, hog() as pid:
        there = target(asyd.daemon, CORE_AGENT)
        for _ in range(500):  # the writer makes its directory when asyd is there already
            if any(asyd.directory.glob("audit-*.seg")):
                break
            await asyncio.sleep(0.02)
        async with shown(there, audit=asyd.directory) as top:
            await top.until(lambda: top.app.watcher.rounds > 0)
            with asyd.daemon.connect(AGENT) as boss:
                boss.ask(boss.throttle(pid))
            await top.until_shown("PROC_THROTTLE")
            [line] = [one for one in top.lines if "PROC_THROTTLE" in one]
            assert "boss" in line
            assert "9000" in line
