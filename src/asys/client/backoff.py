"""Waiting longer and longer, and never all at the same moment; without I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

from asys.errors import ArgumentError

GROWTH: Final = 2.0
"""How much longer each delay is than the one before."""


def delays(first: float, most: float, random: Callable[[], float]) -> Iterator[float]:
    """Seconds to wait: `first`, doubled each time up to `most`, and between half and all of that.

    `random` gives numbers from 0 to below 1: who lost the same node comes back at other moments.
    """
    limit = min(first, most)
    while True:
        yield limit * (0.5 + random() / 2)
        limit = min(limit * GROWTH, most)


def check_seconds(name: str, value: float) -> None:
    """ArgumentError unless it is a positive, finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArgumentError(f"{name} must be a number of seconds, not {value!r}")
    if not (value > 0 and math.isfinite(value)):
        raise ArgumentError(f"{name} must be more than 0 seconds and finite, not {value}")


def check_times(name: str, value: int) -> None:
    """ArgumentError unless it is a whole number, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ArgumentError(f"{name} must be a whole number, 0 or more, not {value!r}")
