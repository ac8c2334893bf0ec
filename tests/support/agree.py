"""Comparing a reading with another tool's, while the machine goes on changing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T", int, float)

TRIES = 200


def agree(read: Callable[[], T], other: Callable[[], T], slack: T) -> None:
    """AssertionError unless `read` says what `other` says right before or right after it.

    Tried again when it does not: the machine may have changed in between, but not every time.
    """
    seen = []
    for _ in range(TRIES):
        before, value, after = other(), read(), other()
        if min(before, after) - slack <= value <= max(before, after) + slack:
            return
        seen.append((before, value, after))
    raise AssertionError(f"they never agree, for example {seen[-3:]}")
