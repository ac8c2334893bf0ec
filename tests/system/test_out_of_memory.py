"""A machine that is out of memory, again and again: asyd answers, and ends it.

The machine is a memory cgroup with asyd, its interpreter and its libraries, and a hog in it. Each
time that the hog has taken what there is, the kernel takes back whatever it can from everybody, and
then ends the hog; and another one is started.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from asys.isa import SYS_STATUS
from support.cgroup import cgroup, version1
from support.daemon import AGENT, Daemon, running
from support.echo import Echo
from support.frames import INVALID_PAYLOAD, OK, STATUS
from support.own_python import OwnPython
from support.raw_agent import RawAgent

pytestmark = pytest.mark.root

MEMORY = 160 << 20
"""Bytes of the machine; asyd and its helpers take half of it."""

KILLS = 5
"""How often memory has to run out in a round."""

POLLS = 60
INTERVAL = 0.1

LATE = 0.050
"""Seconds of an answer's 99th percentile, beyond what an echo outside of the cgroup takes."""

ROUNDS = 4
"""Rounds of which one has to be so: others that run on this machine have their turn, too."""

SECONDS = 60

HOG = """
import time
with open("/proc/self/oom_score_adj", "w") as file:
    file.write("1000")
taken = []
while True:
    taken.append(b"x" * (1 << 21))
    time.sleep(0.002)
"""


class Hog:
    """Takes all memory in a cgroup until it is killed for it, and then once more."""

    def __init__(self, place: str) -> None:
        self._place = Path(place)
        self._ends = threading.Event()
        self.process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="hog")
        self._thread.start()

    @property
    def kills(self) -> int:
        """How often the kernel has ended a process for want of memory."""
        words = (self._place / "memory.oom_control").read_text().split()
        return int(words[words.index("oom_kill") + 1])

    def _run(self) -> None:
        enter = f'echo $$ > {self._place}/cgroup.procs; exec "$@"'
        command = ["sh", "-c", enter, "sh", sys.executable, "-I", "-S", "-c", HOG]
        while not self._ends.is_set():
            with subprocess.Popen(command) as process:
                self.process = process
                process.wait()

    def end(self) -> None:
        """No other one is started."""
        self._ends.set()
        while self._thread.is_alive():
            if self.process is not None:
                self.process.kill()
            self._thread.join(0.01)


class Machine:
    """The cgroup, asyd in it, and an agent of it that is outside."""

    def __init__(self, place: str, asyd: Daemon, hog: Hog, agent: RawAgent) -> None:
        self.place = place
        self.asyd = asyd
        self.hog = hog
        self.agent = agent

    def major_faults(self) -> int:
        """How often asyd has waited for a page from a disk."""
        stat = Path(f"/proc/{self.asyd.pid}/stat").read_text()
        return int(stat.rpartition(")")[2].split()[9])


@contextmanager
def machine(directory: Path, *options: str) -> Iterator[Machine]:
    own = OwnPython(directory / "python")
    with cgroup(version1("memory")) as place:
        Path(place, "memory.limit_in_bytes").write_text(str(MEMORY))
        launcher = own.launcher(place)
        with (
            running(
                directory, *options, agents={AGENT: "boss caps=all"}, launcher=launcher
            ) as asyd,
            asyd.connect() as agent,
        ):
            assert agent.ask(STATUS)[-2:] == OK
            hog = Hog(place)
            try:
                yield Machine(place, asyd, hog, agent)
            finally:
                hog.end()


class Round(NamedTuple):
    """What polling for a while has shown, in seconds."""

    kills: int
    median: float
    p99: float
    echo_p99: float
    faults: int

    def __str__(self) -> str:
        times = ", ".join(
            f"{name} {1000 * seconds:.1f} ms"
            for name, seconds in (
                ("median", self.median),
                ("p99", self.p99),
                ("p99 of an echo", self.echo_p99),
            )
        )
        return f"memory ran out {self.kills} times: {times}, {self.faults} major faults"


def poll(on: Machine, echo: Echo) -> Round:
    """Asks for SYS_STATUS at 10 Hz, until memory has run out often enough, and an echo with it."""
    answers: list[float] = []
    echoes: list[float] = []
    first = on.hog.kills
    faults = on.major_faults()
    end = time.monotonic() + SECONDS
    due = time.perf_counter()
    while len(answers) < POLLS or on.hog.kills < first + KILLS:
        assert time.monotonic() < end, f"memory ran out {on.hog.kills - first} times only"
        due = max(due + INTERVAL, time.perf_counter() - INTERVAL)
        time.sleep(max(due - time.perf_counter(), 0))  # the rhythm of an agent
        asked = time.perf_counter()
        answer = on.agent.ask(STATUS)
        answers.append(time.perf_counter() - asked)
        assert answer[-2:] == OK
        assert len(answer) == SYS_STATUS.reply.SIZE + 2
        asked = time.perf_counter()
        echo.ask(answer)
        echoes.append(time.perf_counter() - asked)
    return Round(
        on.hog.kills - first,
        statistics.median(answers),
        statistics.quantiles(answers, n=100)[98],
        statistics.quantiles(echoes, n=100)[98],
        on.major_faults() - faults,
    )


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < end
        time.sleep(0.005)


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def suspend(on: Machine) -> int:
    """PROC_THROTTLE on the hog that lives; one that dies meanwhile is none that there is."""
    end = time.monotonic() + SECONDS
    while True:
        assert time.monotonic() < end
        process = on.hog.process
        if process is None:
            continue
        answer = on.agent.ask(on.agent.throttle(process.pid))
        if answer == OK and state_of(process.pid) in ("T", "t"):
            return process.pid
        assert answer in (OK, INVALID_PAYLOAD), answer.hex()


def test_asyd_answers_and_suspends_the_hog(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds: list[Round] = []
    with Echo() as echo, machine(tmp_path, "--audit", "on", "--memory-lock", "require") as on:
        while len(rounds) < ROUNDS:
            rounds.append(poll(on, echo))
            with capsys.disabled():
                print(f"\nlocked: {rounds[-1]}")
            if rounds[-1].p99 - rounds[-1].echo_p99 < LATE:
                break
        pid = suspend(on)
        kills = on.hog.kills
        for _ in range(20):
            assert on.agent.ask(STATUS)[-2:] == OK
            time.sleep(INTERVAL / 2)
        assert state_of(pid) == "T"
        assert on.hog.kills == kills
        assert on.asyd.process.poll() is None
        assert on.agent.ask(on.agent.throttle(pid, 1)) == OK
        until(lambda: on.hog.kills > kills)  # the control: it was the throttle that ended it
    assert min(one.p99 - one.echo_p99 for one in rounds) < LATE, rounds
    assert min(one.faults for one in rounds) == 0, rounds


def test_what_it_is_without_the_lock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Shown, not judged: how much of asyd the kernel takes away is its own affair."""
    with Echo() as echo, machine(tmp_path, "--memory-lock", "off") as on:
        found = poll(on, echo)
    with capsys.disabled():
        print(f"\nnot locked: {found}")
