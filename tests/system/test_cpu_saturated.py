"""Four times as many busy processes as cores, and an agent that looks ten times a second."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from support.children import HOG, resumed, suspended
from support.daemon import AGENT, running
from support.echo import Echo
from support.frames import OK, PROCS, STATUS

pytestmark = pytest.mark.root

HOGS = 4 * (os.cpu_count() or 1)
ROUNDS = 60
BETWEEN = 0.1


@contextmanager
def hogs() -> Iterator[list[int]]:
    """So many processes that take all CPU that they can get; their PIDs."""
    with ExitStack() as stack:
        found = []
        for _ in range(HOGS):
            one = subprocess.Popen([sys.executable, "-c", HOG], stdout=subprocess.PIPE)
            stack.enter_context(one)
            stack.callback(one.kill)
            assert one.stdout is not None
            found.append(one.pid)
        yield found


def nice(pid: int) -> set[int]:
    """The nice values of all threads of a process."""
    return {
        os.getpriority(os.PRIO_PROCESS, int(one.name))
        for one in Path(f"/proc/{pid}/task").iterdir()
    }


def told(what: str, seconds: Sequence[float]) -> str:
    """Half of them, nine of ten, and the worst, in milliseconds."""
    ordered = sorted(seconds)
    at = [statistics.median(ordered), ordered[len(ordered) * 9 // 10], ordered[-1]]
    return f"{what}: p50 {at[0] * 1e3:.2f} ms, p90 {at[1] * 1e3:.2f} ms, most {at[2] * 1e3:.2f} ms"


def test_every_request_is_answered_and_the_hogs_can_be_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as stack:
        asyd = stack.enter_context(running(tmp_path, "--audit", "on", agents={AGENT: "a caps=all"}))
        agent = stack.enter_context(asyd.connect())
        assert agent.alive()
        assert nice(asyd.pid) == {-10}
        echo = stack.enter_context(Echo())
        busy = stack.enter_context(hogs())
        mine: list[float] = []
        others: list[float] = []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            status = agent.ask(STATUS)
            answered = time.perf_counter()
            echo.ask(bytes(40))
            ended = time.perf_counter()
            assert (len(status), status[-2:]) == (23, OK)
            mine.append(answered - begun)
            others.append(ended - answered)
            time.sleep(BETWEEN)
        with capsys.disabled():
            print(f"\n{HOGS} busy processes; {told('SYS_STATUS', mine)}; {told('echo', others)}")

        assert len(agent.ask(PROCS)) == 44
        for pid in busy:
            assert agent.ask(agent.throttle(pid)) == OK
            suspended(pid)
        for pid in busy:
            assert agent.ask(agent.throttle(pid, 1)) == OK
            resumed(pid)
        # A newcomer comes in as well, within the time that a handshake has.
        with asyd.connect() as late:
            assert late.alive()


def test_as_it_was_started(tmp_path: Path) -> None:
    with running(tmp_path, "--nice", "0", agents={AGENT: "a"}) as asyd:
        assert nice(asyd.pid) == {os.getpriority(os.PRIO_PROCESS, 0)}
