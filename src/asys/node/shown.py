"""Which processes a session has been shown, to tell a PID that was given away since."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asys.node.platform.base import TableSnapshot

SHOWN_PIDS: Final = 1024
"""PIDs that a session remembers having shown, and up to twice as many."""

START_BITS: Final = 40
"""Of when a process was started, which is compared and nothing else; above it stands the PID."""

_START: Final = (1 << START_BITS) - 1


class Shown:
    """The latest PIDs that were shown, each with when its process was started.

    Two generations of 8 bytes a PID, in order of PIDs: a session that has seen thousands of
    processes come and go holds 17 KB for it.
    """

    __slots__ = ("_before", "_now", "last")

    def __init__(self) -> None:
        self._now = array("Q")
        self._before = array("Q")
        self.last: TableSnapshot | None = None

    def add(self, processes: TableSnapshot) -> None:
        """The agent gets this table."""
        self.last = processes
        self.remember(processes.starts)

    def remember(self, shown: Mapping[int, int]) -> None:
        """The agent gets these PIDs; each comes with when its process was started."""
        now = self._now
        for pid, start in shown.items():
            entry = pid << START_BITS | start & _START
            at = bisect_left(now, pid << START_BITS)
            if at < len(now) and now[at] >> START_BITS == pid:
                now[at] = entry
                continue
            if len(now) == SHOWN_PIDS:
                self._before = now
                self._now = now = array("Q")
                at = 0
            now.insert(at, entry)

    def differs(self, pid: int, start: int) -> bool:
        """Whether this PID was shown when another process had it than that of `start`."""
        for generation in (self._now, self._before):
            at = bisect_left(generation, pid << START_BITS)
            if at < len(generation) and generation[at] >> START_BITS == pid:
                return (generation[at] ^ start) & _START != 0
        return False
