"""Isolators of a test's own, and proof that nothing of theirs is left.

    with isolating() as made:
        isolator = made.isolator()

Whatever a test isolates is released at the end of the block, also when it fails.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final

from asys.node.platform.base import ProcessHandle
from asys.node.platform.isolation import bpf
from asys.node.platform.isolation.isolator import LinuxIsolator
from asys.node.platform.processes import cgroups
from asys.node.platform.processes.process import Guard, LinuxProcess
from support.cgroup import unified

GUARD: Final = Guard("", frozenset(), 0)
"""Protects nobody."""


def isolation_missing() -> str:
    """What this machine lacks for isolating, or ''."""
    if os.geteuid() != 0:
        return "needs root"
    with tempfile.TemporaryDirectory() as directory:
        isolator = LinuxIsolator(Path(directory), GUARD)
        isolator.close()
        return isolator.lack


@contextmanager
def held(pid: int) -> Iterator[ProcessHandle]:
    """A process as an isolator takes it."""
    process = LinuxProcess(pid, GUARD)
    try:
        yield process
    finally:
        process.close()


class Isolating:
    """A state directory, and the isolators that have it one after the other."""

    def __init__(self, directory: Path) -> None:
        self.directory: Final = directory
        self._made: list[LinuxIsolator] = []
        self.touched: set[tuple[int, int]] = set()

    def isolator(self, guard: Guard = GUARD) -> LinuxIsolator:
        """One that has seen what stands, as an asyd that has just started."""
        made = LinuxIsolator(self.directory, guard)
        assert made.lack == ""
        self._made.append(made)
        made.recover()
        return made

    def isolate(
        self, isolator: LinuxIsolator, pid: int, *, keep_loopback: bool = False
    ) -> tuple[int, int]:
        """Isolates a process; gives what `release` takes."""
        with held(pid) as process:
            isolator.isolate(process, keep_loopback=keep_loopback)
            return process.pid, process.start

    @property
    def left(self) -> list[str]:
        """All that is left of the isolations of this directory: a directory to mount at is not."""
        mounted = mounts_below(self.directory)
        return mounted + [str(base) for base in _system_pins(self.directory) if base.exists()]

    def __enter__(self) -> Isolating:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with ExitStack() as stack:
            for one in self._made:
                stack.callback(one.close)
            last = LinuxIsolator(self.directory, GUARD)
            stack.callback(last.close)
            for standing in last.recover():
                last.release(standing.pid, standing.start)
            if kind is None:
                assert self.left == []


def _system_pins(directory: Path) -> list[Path]:
    from asys.node.platform.isolation.pins import Pins

    return [Path(Pins(directory).system)]


@contextmanager
def isolating(directory: Path) -> Iterator[Isolating]:
    """Isolators with this state directory."""
    with Isolating(directory) as made:
        yield made


def cgroups_of(pid: int, start: int) -> list[str]:
    """The cgroups in which an isolation has put processes."""
    return list(cgroups.find(unified().point, f"asyd-isolate-{pid}-{start}"))


def place_of(pid: int) -> str:
    """The cgroup that a process is in now."""
    return unified().of(pid)


def stands_still(pid: int) -> bool:
    """Whether a process is frozen by its cgroup or one above."""
    with contextlib.suppress(FileNotFoundError):
        return cgroups.event(place_of(pid), "frozen")
    return False


def mounts_below(directory: Path) -> list[str]:
    """File systems of pins that are mounted there."""
    return [one for one in cgroups.mount_points("bpf") if one.startswith(str(directory))]


__all__ = [
    "GUARD",
    "Isolating",
    "bpf",
    "cgroups_of",
    "held",
    "isolating",
    "isolation_missing",
    "mounts_below",
    "place_of",
    "stands_still",
]
