"""Rows of the result, on paper and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Final

from benchmarks.stats import Interval, Ratio

HEADER: Final = f"{'':<47} {'node':<21} {'':>14}   {'beside it':<21} {'ratio (quartiles)':<20} bar"


@dataclass(frozen=True, slots=True)
class Bar:
    """What a ratio is held to."""

    limit: float
    at_least: bool = False

    def holds(self, ratio: Ratio) -> bool:
        """Whether the median is on the right side."""
        return ratio.median >= self.limit if self.at_least else ratio.median <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"


class Side(Enum):
    """Where an interval has to be."""

    ALL_BELOW = "all <"
    ALL_ABOVE = "all >"
    NOT_ALL_ABOVE = "not all >"


@dataclass(frozen=True, slots=True)
class Bound:
    """What an interval is held to."""

    limit: float
    side: Side
    unit: str = ""

    def holds(self, interval: Interval) -> bool:
        """Whether the interval is where it has to be."""
        if self.side is Side.ALL_BELOW:
            return interval.high < self.limit
        above = interval.low > self.limit
        return above if self.side is Side.ALL_ABOVE else not above

    def __str__(self) -> str:
        return f"{self.side.value} {self.limit:g}{self.unit}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `value` and `beside_value` are medians in `unit`; only their ratio means much.

    A row has a ratio and a bar for it, or an interval and a bound for that.
    """

    group: str
    name: str
    node: str
    value: float | None = None
    unit: str = ""
    beside: str = ""
    beside_value: float | None = None
    ratio: Ratio | None = None
    bar: Bar | None = None
    skipped: str = ""
    interval: Interval | None = None
    bound: Bound | None = None

    @property
    def missed(self) -> bool:
        """Whether a bar is missed."""
        if self.bound is not None and self.interval is not None:
            return not self.bound.holds(self.interval)
        return self.bar is not None and self.ratio is not None and not self.bar.holds(self.ratio)

    @property
    def held_to(self) -> Bar | Bound | None:
        """What is judged here."""
        return self.bar or self.bound

    def line(self, *, bars: bool) -> str:
        """For people."""
        head = f"{self.group + ': ' + self.name:<47} {self.node:<21}"
        if self.skipped:
            return f"{head} left out: {self.skipped}"
        value = "" if self.value is None else f"{self.value:,.{_digits(self.value)}f} {self.unit}"
        beside = ""
        if self.beside_value is not None:
            beside = f"{self.beside} {self.beside_value:,.{_digits(self.beside_value)}f}"
        line = f"{head} {value:>14}   {beside:<21} {self.ratio or self.interval or ''!s:<20}"
        if bars and self.held_to is not None:
            line += f" {self.held_to} {'MISSED' if self.missed else 'ok'}"
        return line.rstrip()

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        fields = asdict(self)
        del fields["bound"]
        held_to = self.held_to
        verdict = None if held_to is None else "missed" if self.missed else "ok"
        return {**fields, "bar": None if held_to is None else str(held_to), "verdict": verdict}


def _digits(value: float) -> int:
    return 0 if value >= 1000 else 1 if value >= 10 else 2
