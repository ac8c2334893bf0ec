"""File descriptors that connections must leave for asyd's own work.

Where they are all taken nothing can be opened: no process could be stopped and nothing be read any
more. So asyd refuses a connection before the last ones are gone.
"""

from __future__ import annotations

import os
import resource
import sys
from typing import Final

RESERVE: Final = 32
"""Descriptors for what an instruction, an admin or a helper's new start needs for a moment."""

LEAST: Final = 8
"""Connections that there is room for in any case: an agent must be able to come in."""


def opened() -> int:
    """Descriptors that this process has now; 0 where the system does not tell."""
    try:
        return len(os.listdir("/dev/fd")) - 1  # without the one that reads the directory
    except OSError:
        return 0


class Descriptors:
    """How many connections there may be at a time. The limit is looked at each time: it may be
    changed from outside while asyd runs.
    """

    def __init__(self) -> None:
        self._own = 0

    def count(self, connections: int) -> None:
        """Everything is open by now that stays open; `connections` of it are connections."""
        self._own = max(opened() - connections, 0)

    @property
    def connections(self) -> int:
        """How many connections may have one."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            return sys.maxsize
        return max(soft - self._own - RESERVE, LEAST)
