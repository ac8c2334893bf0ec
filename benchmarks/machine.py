"""What the machine says of a process, and where processes run. Linux."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from asys import __version__
from benchmarks.plan import BenchmarkError


def threads(pid: int) -> list[int]:
    """The threads of a process."""
    return [int(name) for name in os.listdir(f"/proc/{pid}/task")]


@contextlib.contextmanager
def pinned(pids: Iterable[int]) -> Iterator[None]:
    """This process and `pids` share one CPU, the last that this process may use."""
    before = os.sched_getaffinity(0)
    everyone = [os.getpid(), *pids]
    _allow(everyone, {max(before)})
    try:
        yield
    finally:
        _allow(everyone, before)


def _allow(pids: Iterable[int], cpus: set[int]) -> None:
    for pid in pids:
        try:
            for thread in threads(pid):
                os.sched_setaffinity(thread, cpus)
        except OSError as error:
            raise BenchmarkError(f"process {pid} cannot be pinned: {error.strerror}") from error


def cpu_seconds(pid: int) -> float:
    """CPU time that the threads of a process have used so far."""
    total = 0
    for thread in threads(pid):
        total += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
    return total / 1e9


def proportional_kib(pid: int) -> int:
    """Resident memory; a page that n processes share counts 1/n (PSS)."""
    return _rollup(pid, "Pss")


def anonymous_kib(pid: int) -> int:
    """The part of it that is neither of a file nor shared."""
    return _rollup(pid, "Pss_Anon")


def locked_kib(pid: int) -> int:
    """The part of it that is locked."""
    return _rollup(pid, "Locked")


def _rollup(pid: int, what: str) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(rf"^{what}:\s+(\d+) kB", rollup, re.MULTILINE)
    if found is None:
        raise BenchmarkError(f"this kernel tells no {what} of a process")
    return int(found[1])


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return sorted(
        int(child)
        for thread in threads(pid)
        for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split()
    )


def process_count() -> int:
    """Processes on this machine, as its /proc shows them."""
    return sum(name.isdigit() for name in os.listdir("/proc"))


def described() -> dict[str, Any]:
    """What a run was made on, and with."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cryptography": version("cryptography"),
        "asys": __version__,
    }
