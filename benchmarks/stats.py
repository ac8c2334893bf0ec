"""Medians with their spread, and intervals that hold with a stated confidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from random import SystemRandom
from statistics import fmean, median
from typing import Final

RESAMPLES: Final = 2000
"""Samples drawn anew by a bootstrap; 10 of them lie beyond each end of a 99 % interval."""

TRIM: Final = 0.1
"""Share of the values that a trimmed mean leaves out, at each end."""

LEAST_PAIRS: Final = 30
"""Values below which an interval of a median is shown and not judged."""


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values are; linear between neighbours."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


@dataclass(frozen=True, slots=True)
class Ratio:
    """Median over interleaved pairs, and the quartiles: half of the pairs are between them."""

    median: float
    low: float
    high: float
    pairs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Ratio:
        """From the ratio of each pair."""
        return cls(median(values), quantile(values, 0.25), quantile(values, 0.75), len(values))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, and where the true value is with a confidence such as 0.99."""

    middle: float
    low: float
    high: float
    confidence: float
    samples: int

    @property
    def farthest(self) -> Interval:
        """The same of the distance from zero, whatever its sign."""
        distances = sorted((abs(self.low), abs(self.high)))
        low = 0.0 if self.low <= 0 <= self.high else distances[0]
        return Interval(abs(self.middle), low, distances[1], self.confidence, self.samples)

    def __str__(self) -> str:
        digits = 2 if abs(self.high) < 10 else 0
        return f"{self.middle:.{digits}f} [{self.low:.{digits}f}-{self.high:.{digits}f}]"


def trimmed_mean(values: Sequence[float]) -> float:
    """The mean without the lowest and without the highest 10 % of the values."""
    cut = int(len(values) * TRIM)
    return fmean(sorted(values)[cut : len(values) - cut])


class Bootstrap:
    """Draws anew from so many values, with replacement; the same draws serve every series."""

    def __init__(self, count: int) -> None:
        choices = SystemRandom().choices
        self._draws = [choices(range(count), k=count) for _ in range(RESAMPLES)]

    def interval(
        self,
        values: Sequence[float],
        confidence: float,
        statistic: Callable[[Sequence[float]], float] = trimmed_mean,
    ) -> Interval:
        """Of the statistic, from the quantiles of what the draws give. As many values as draws."""
        drawn = [statistic([values[at] for at in draw]) for draw in self._draws]
        tail = (1 - confidence) / 2
        low, high = quantile(drawn, tail), quantile(drawn, 1 - tail)
        return Interval(statistic(values), low, high, confidence, len(values))


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Of the median: two of the values, chosen as the sign test does, whatever they come from.

    The confidence is at least what was asked for. So few values that none has it (below 6, for
    0.95) give the least and the greatest of them, with the confidence that these have.
    """
    ordered = sorted(values)
    count = len(ordered)
    outside = 0
    beyond = 2  # ways, of 2 ** count, in which the median lies outside of rank 0 and its mirror
    for rank in range(1, (count + 1) // 2):
        wider = beyond + 2 * comb(count, rank)
        if wider > (1 - confidence) * 2**count:
            break
        outside, beyond = rank, wider
    reached = 1 - beyond / 2**count
    return Interval(median(ordered), ordered[outside], ordered[-1 - outside], reached, count)
