"""PROC_THROTTLE on real processes, over a real socket: whom it hits, and whom nobody may touch."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.children import hog, resumed, suspended, waiting, zombie
from support.daemon import PATIENCE, Daemon
from support.frames import DENIED, INVALID_PAYLOAD, OK, PROCS
from support.raw_agent import RawAgent
from support.reuse import process_with_pid
from support.users import NOBODY


@pytest.fixture
def child() -> Iterator[int]:
    with waiting() as process:
        yield process.pid


def top(agent: RawAgent) -> list[int]:
    """The PIDs that SYS_PROCS shows."""
    answer = agent.ask(PROCS)
    assert answer[-2:] == OK
    return [int.from_bytes(answer[at : at + 4], "big") for at in range(2, 42, 8)]


def until_shown(agent: RawAgent, pid: int) -> None:
    end = time.monotonic() + PATIENCE
    while pid not in top(agent):
        assert time.monotonic() < end, f"PID {pid} is never among {top(agent)}"


def test_9000_means_done(agent: RawAgent, child: int) -> None:
    assert agent.ask(agent.throttle(child, 0)) == OK
    suspended(child)
    assert agent.ask(agent.throttle(child, 1)) == OK
    resumed(child)


def test_twice_is_as_once(agent: RawAgent, child: int) -> None:
    for action in (0, 0, 1, 1):
        assert agent.ask(agent.throttle(child, action)) == OK


def test_a_replayed_stop_stops_nobody(agent: RawAgent, child: int) -> None:
    stop = agent.throttle(child, 0)
    assert agent.ask(stop) == OK
    suspended(child)
    assert agent.ask(agent.throttle(child, 1)) == OK
    resumed(child)
    assert agent.ask(stop)[-2:] == b"\x69\x85"
    assert Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "T"


def test_a_zombie_is_no_process(agent: RawAgent) -> None:
    with zombie() as pid:
        assert agent.ask(agent.throttle(pid)) == INVALID_PAYLOAD


def test_a_thread_is_no_process(agent: RawAgent, asyd: Daemon) -> None:
    threads = {int(one.name) for one in Path(f"/proc/{asyd.pid}/task").iterdir()} - {asyd.pid}
    assert threads
    for thread in threads:
        assert agent.ask(agent.throttle(thread)) == INVALID_PAYLOAD


@pytest.mark.parametrize("action", [0, 1])
def test_asyd_and_its_ancestors_are_nobodys(agent: RawAgent, asyd: Daemon, action: int) -> None:
    family = {1, asyd.pid, os.getpid(), os.getppid()}
    for pid in family - {0}:
        assert agent.ask(agent.throttle(pid, action)) == DENIED


@pytest.mark.root
def test_kernel_threads_are_nobodys(agent: RawAgent) -> None:
    threads = [int(one.name) for one in Path("/proc").glob("[0-9]*") if is_kernel_thread(one)]
    if not threads:
        pytest.skip("no kernel thread is visible in this PID namespace")
    for pid in threads[:5]:
        assert agent.ask(agent.throttle(pid)) == DENIED


def is_kernel_thread(process: Path) -> bool:
    """Its parent is kthreadd, or it is that itself: nothing else has children there."""
    try:
        parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return False
    name = Path("/proc/2/comm").read_text() if Path("/proc/2").exists() else ""
    return name == "kthreadd\n" and 2 in (parent, int(process.name))


@pytest.mark.root
def test_another_users_process_as_root(agent: RawAgent) -> None:
    with waiting(user=NOBODY) as process:
        assert agent.ask(agent.throttle(process.pid)) == OK
        suspended(process.pid)


@pytest.mark.root
def test_a_pid_that_was_shown_and_belongs_to_another_process_by_now(asyd: Daemon) -> None:
    with asyd.connect() as shown, asyd.connect() as other:
        with hog() as pid:
            until_shown(shown, pid)
            assert shown.ask(shown.throttle(pid)) == OK
        with process_with_pid(pid):
            assert shown.ask(shown.throttle(pid)) == INVALID_PAYLOAD
            assert shown.ask(shown.throttle(pid, 1)) == INVALID_PAYLOAD
            assert other.ask(other.throttle(pid)) == OK  # to it the PID was never shown


def test_a_pid_that_was_shown_and_has_no_process_any_more(agent: RawAgent) -> None:
    with hog() as pid:
        until_shown(agent, pid)
    assert agent.ask(agent.throttle(pid)) == INVALID_PAYLOAD
