"""Processes that nobody may touch, whatever was granted (docs/protocol.md, section 7)."""

from __future__ import annotations

import os
from collections.abc import Callable

from asys.node.platform.base import Platform


class Protection:
    """PID 1, asyd and its ancestors, known by number. A ProcessHandle knows what else there is.

    An orphan passes to an ancestor that it already has, or to PID 1. So nobody becomes an ancestor
    later, and the family as it was once covers all of it.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._parent = os.getppid()
        self._family = platform.ancestors()
        self.helpers: Callable[[], tuple[int, ...]] = tuple
        """PIDs of processes that asyd has started and relies on."""

    def pid_refusal(self, pid: int) -> str:
        """Why nobody may touch this PID, or ''."""
        if pid == 1:
            return "PID 1"
        parent = os.getppid()
        if parent != self._parent:  # an ancestor ended, and its PID may be somebody else's now
            self._parent = parent
            self._family = self._platform.ancestors()
        if pid in self._family:
            return "asyd or an ancestor of it"
        return "a helper of asyd" if pid in self.helpers() else ""
