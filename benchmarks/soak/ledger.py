"""What a load has asked, what came of it, and what must not have come."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Any, Final

from benchmarks.stats import quantile

MOST_COMPLAINTS: Final = 20
"""Broken promises that are told in words; all are counted."""

_PERCENTILES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "most": 1.0}


class Ledger:
    """Counts of all sessions of a load. A request is in one of four of them when all is over:

    `answered`; `abandoned`, as the load itself has left without waiting for it; `lost`; or
    `wrong`, as its answer was not its own, and nothing behind it in that session counts any more.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.answered = 0
        self.abandoned = 0
        self.lost = 0
        self.wrong = 0
        self.unasked = 0
        """Answers to nothing."""
        self.cut = 0
        """Sessions that the node has ended."""
        self.refused = 0
        """Sessions that the node did not take in after their handshake."""
        self.sessions = 0
        """Sessions that were opened, all together."""
        self.slow_starts = 0
        """Connections that ended before their handshake was done; they are tried again."""
        self.polls = 0
        self.late = 0
        """Polls that were left out, as the answer to the one before had not come."""
        self.ways: Counter[str] = Counter()
        """How connections went, by what the load did."""
        self.complaints: list[str] = []
        self._seconds = array("f")

    def took(self, seconds: float) -> None:
        """The answers to one write were all there after so long."""
        self._seconds.append(seconds)

    def complain(self, text: str) -> None:
        """Puts a broken promise in words."""
        if len(self.complaints) < MOST_COMPLAINTS:
            self.complaints.append(text)

    def as_json(self) -> dict[str, Any]:
        """All of it, with times in ms."""
        found = {name: it for name, it in vars(self).items() if not name.startswith("_")}
        times = self._seconds
        ordered = sorted(times)
        found["ms"] = {
            name: round(quantile(ordered, share) * 1000, 3) if ordered else 0.0
            for name, share in _PERCENTILES.items()
        }
        return found
