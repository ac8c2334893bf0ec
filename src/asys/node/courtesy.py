"""Whoever has been answered runs before asyd goes on (docs/decisions/0038-answers-first.md)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, cast

SELDOM: Final = 0.001
"""Seconds without an answer after which asyd lets others run. Where answers follow each other
faster it goes on: it has more to do, and most of those whom it has answered as well."""

DEAR: Final = 0.0005
"""Seconds in which an agent takes its answer. Where asyd has not got the CPU back by then, whoever
has it needs all of it."""

SPARED: Final = 0.1
"""Seconds for which asyd then keeps the CPU; twice as many each time it finds the same again."""

MOST_SPARED: Final = 10.0
"""Seconds for which it keeps the CPU at the most."""


def _nobody() -> None:
    """Where the system cannot let others run."""


class Courtesy:
    """Gives the CPU away behind an answer, as long as that costs next to nothing.

    asyd goes before others (docs/decisions/0029-cpu-priority.md), so an agent on the same CPU
    that has its answer would wait until asyd has done the rest: what it keeps of the request, and
    one turn of its event loop.
    """

    __slots__ = ("_give", "_not_before", "_now", "_spared")

    def __init__(self, now: Callable[[], float], give: Callable[[], object] | None = None) -> None:
        """`now` is monotonic time in seconds, `give` what lets others run on this CPU."""
        self._now = now
        self._give: Callable[[], object] = give or cast(
            "Callable[[], object]", getattr(os, "sched_yield", _nobody)
        )
        self._not_before = float("-inf")
        self._spared = SPARED

    def answered(self) -> float:
        """An answer is on its way. Returns the time in seconds, after others have run."""
        read, give = self._now, self._give  # called from their slots they would be looked for first
        now = read()
        if now < self._not_before:
            self._not_before = max(self._not_before, now + SELDOM)
            return now
        give()
        again = read()
        if again - now > DEAR:
            self._not_before = again + self._spared
            self._spared = min(self._spared * 2, MOST_SPARED)
        else:
            self._not_before = again + SELDOM
            self._spared = SPARED
        return again
