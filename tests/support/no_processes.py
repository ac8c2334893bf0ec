"""A cgroup in which no process and no thread can be started any more.

with bounded() as place, faulty(..., launcher=enclosed(place)) as asyd:
    with exhausted(place): ...
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from asys.node.platform.processes import cgroups
from support.cgroup import cgroup, version1


def pids_missing() -> str:
    """What this machine lacks for it, or ''."""
    if "pids" in cgroups.mounted().version1:
        return ""
    return "needs a cgroup hierarchy of version 1 with the pids controller"


FORKS: Final = """\
import os, sys, time
sys.stdout.write(str(os.getpid()) + "\\n"); sys.stdout.flush()
sys.stdin.readline()
made = 0
try:
    while True:
        if not os.fork():
            time.sleep(3600)
            os._exit(0)
        made += 1
except BlockingIOError:
    print(made, flush=True)
time.sleep(3600)
"""
"""A program that forks, when it is told to, until the kernel will not have it."""

ROOM: Final = 64
"""Tasks that may be there beyond those that are when the forks begin."""


@contextmanager
def bounded() -> Iterator[str]:
    """A cgroup in which the number of tasks can be bounded; its directory."""
    with cgroup(version1("pids")) as place:
        yield place


def close(place: str) -> None:
    """From now on also what ends in it makes no room for anything else."""
    Path(place, "pids.max").write_text("1")


def tasks(place: str) -> int:
    """How many are in it."""
    return int(Path(place, "pids.current").read_text())


@contextmanager
def exhausted(place: str) -> Iterator[None]:
    """While the block lasts nothing in the cgroup can have a process or a thread more."""
    forks = subprocess.Popen(
        [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert forks.stdin is not None
        assert forks.stdout is not None
        assert forks.stdout.readline()
        cgroups.move(place, forks.pid)
        Path(place, "pids.max").write_text(str(tasks(place) + ROOM))
        forks.stdin.write("\n")
        forks.stdin.flush()
        assert int(forks.stdout.readline()) > 0
        assert tasks(place) >= int(Path(place, "pids.max").read_text()) - 1
        yield
    finally:
        Path(place, "pids.max").write_text("max")
        others = set(map(int, Path(place, "cgroup.procs").read_text().split()))
        for pid in others:
            if parent(pid) == forks.pid:
                os.kill(pid, signal.SIGKILL)
        forks.kill()
        forks.communicate()


def parent(pid: int) -> int:
    """Of a process; 0 where there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except FileNotFoundError:
        return 0


def enclosed(place: str) -> tuple[str, ...]:
    """A command that puts what stands behind it into the cgroup."""
    return ("sh", "-c", f'echo $$ > {place}/cgroup.procs && exec "$@"', "sh")
