"""What a node counts of itself: numbers that only grow; counting costs next to nothing.

Nobody here knows an agent. Every table has as many entries as its key has values, whatever comes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from enum import StrEnum
from operator import itemgetter
from typing import Final

from asys.audit.records import Refusal
from asys.protocol.status import SW

LAG_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: the upper bounds of the classes that lags are counted in; one more is without bound."""

TOO_SLOW: Final = "too_slow"
EVICTED: Final = "evicted"

REFUSALS: Final = (*(one.name.lower() for one in Refusal), TOO_SLOW, EVICTED)
"""Why a connection led to no session: as the audit has it, and what only is a matter of time and
room."""


class Closing(StrEnum):
    """Why a session ended, as logs say it; metrics have the name in small letters."""

    AGENT = "by the agent"
    IDLE = "idle"
    ABANDONED = "abandoned by another session of its agent"
    ADMIN = "the admin closed it"
    REVOKED = "it may not connect any more"
    REFUSED = "answered with a status word that ends it"
    FAULT = "what came was no whole record or frame"
    LOST = "an answer to it was lost, as memory ran out"


_SUCCESS: Final = SW.SUCCESS.wire
_SUCCESS_HIGH: Final = _SUCCESS[0]
"""No other status word begins with it."""

_high_byte: Final = itemgetter(-2)


class Lag:
    """How much later than due timers of the event loop ran, in seconds."""

    __slots__ = ("counts", "most", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(LAG_BOUNDS) + 1)
        """For each class of LAG_BOUNDS, and beyond."""
        self.total = 0.0
        self.most = 0.0

    def observe(self, seconds: float) -> None:
        """One timer; a loop whose own clock is coarser may run it a little early, which is 0."""
        late = max(seconds, 0.0)
        self.counts[bisect_left(LAG_BOUNDS, late)] += 1
        self.total += late
        self.most = max(self.most, late)


class Costs:
    """What the readings of one kind have taken of the event loop."""

    __slots__ = ("failures", "readings", "seconds", "slices")

    def __init__(self) -> None:
        self.readings = 0
        self.failures = 0
        self.slices = 0
        """Pieces that readings were cut into, so that others had their turn."""
        self.seconds = 0.0

    def took(self, seconds: float) -> None:
        """One slice."""
        self.slices += 1
        self.seconds += seconds


class Counts:
    """Of one node, from its start. Owned by its event loop."""

    __slots__ = ("answers", "closed", "lag", "opened", "refused")

    def __init__(self) -> None:
        self.answers: defaultdict[bytes, int] = defaultdict(int, {sw.wire: 0 for sw in SW})
        """Answers that were sent, by the two bytes of their status word."""
        self.opened = 0
        """Sessions that were confirmed."""
        self.closed = dict.fromkeys(Closing, 0)
        """How they ended."""
        self.refused = dict.fromkeys(REFUSALS, 0)
        """Connections that led to no session."""
        self.lag: Final = Lag()

    def answered(self, answers: Sequence[bytes]) -> None:
        """The answers of one write. Mostly all are successes: that takes 20 ns each to find out."""
        if len(answers) == 1:
            self.answers[answers[0][-2:]] += 1
            return
        good = list(map(_high_byte, answers)).count(_SUCCESS_HIGH)
        self.answers[_SUCCESS] += good
        if good != len(answers):
            for answer in answers:
                word = answer[-2:]
                if word != _SUCCESS:
                    self.answers[word] += 1
