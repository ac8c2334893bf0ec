"""Who gets the CPU first when there is not enough of it (docs/decisions/0029-cpu-priority.md)."""

from __future__ import annotations

import os
from typing import Final

USUAL: Final = -10
"""The nice value at which asyd runs where nobody says another: what every program else has is 0."""

MOST: Final = -20
"""The smallest nice value that there is."""


def raise_priority(nice: int) -> str:
    """Gives this process a nice value, unless it has that or a smaller one. '', or why it cannot.

    Threads and processes that it starts later have the same; to be called before there are any.
    """
    now = os.getpriority(os.PRIO_PROCESS, 0)
    if now <= nice:
        return ""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except OSError as error:
        return f"it has no more of a busy CPU than others: {error.strerror}"
    return ""


def lower_priority() -> None:
    """Gives this process the usual nice value of programs, unless it has that or a greater one."""
    if os.getpriority(os.PRIO_PROCESS, 0) < 0:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
