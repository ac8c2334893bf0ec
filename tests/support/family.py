"""A process that forks when it is told to, and its descendants, in a session of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

PROGRAM: Final = """
import os, sys, time
def spin():
    while True: pass
def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
say("ready")
for line in sys.stdin:
    order = line.strip()
    child = os.fork()
    if not child:
        if order == "spin":
            spin()
        if order == "grow":  # a family of 50 that forks without being told
            for _ in range(50):
                if not os.fork():
                    time.sleep(3600)
                time.sleep(0.002)
        if order == "user":
            os.setuid(65534)
            say("there")
        time.sleep(3600)
    say(child)
"""


class Family:
    """The first of them; it has begun."""

    def __init__(self, user: int | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            user=user,
            start_new_session=True,
        )
        assert self._line() == "ready"

    @property
    def pid(self) -> int:
        """Of the first one."""
        return self.process.pid

    def child(self, order: str = "sleep") -> int:
        """The PID of a new child that does what it is told."""
        _pipe(self.process.stdin).write(order + "\n")
        _pipe(self.process.stdin).flush()
        lines = [self._line() for _ in range(2 if order == "user" else 1)]
        return int(next(line for line in lines if line != "there"))

    def _line(self) -> str:
        return _pipe(self.process.stdout).readline().strip()

    def end(self) -> None:
        """Nobody is left of it who has not gone away himself."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(BrokenPipeError):
                _pipe(pipe).close()


@contextmanager
def family(user: int | None = None) -> Iterator[Family]:
    """One that is ended with the block."""
    made = Family(user)
    try:
        yield made
    finally:
        made.end()


def cpu_ticks(pid: int) -> int:
    """CPU time of a process so far, in clock ticks of 10 ms."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat[stat.rindex(")") + 2 :].split()
    return int(fields[11]) + int(fields[12])


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
