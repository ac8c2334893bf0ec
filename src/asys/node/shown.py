"""Which processes a session has been shown, to tell a PID that was given away since."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asys.node.platform.base import TableSnapshot

SHOWN_PIDS: Final = 1024
"""PIDs that a session remembers having shown."""


class Shown:
    """The latest PIDs that were shown, each with when its process was started."""

    __slots__ = ("_starts", "last")

    def __init__(self) -> None:
        self._starts: dict[int, int] = {}
        self.last: TableSnapshot | None = None

    def add(self, processes: TableSnapshot) -> None:
        """The agent gets this table."""
        self.last = processes
        self.remember(processes.starts)

    def remember(self, shown: Mapping[int, int]) -> None:
        """The agent gets these PIDs; each comes with when its process was started."""
        starts = self._starts
        for pid, start in shown.items():
            starts.pop(pid, None)
            starts[pid] = start
        while len(starts) > SHOWN_PIDS:
            del starts[next(iter(starts))]

    def get(self, pid: int, default: int) -> int:
        """When the process was started that was shown with this PID; `default`: none was."""
        return self._starts.get(pid, default)
