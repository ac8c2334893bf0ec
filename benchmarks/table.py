"""Rows of the result, on paper and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from benchmarks.stats import Ratio

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


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `value` and `beside_value` are medians in `unit`; only their ratio means much."""

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

    @property
    def missed(self) -> bool:
        """Whether a bar is missed."""
        return self.bar is not None and self.ratio is not None and not self.bar.holds(self.ratio)

    def line(self, *, bars: bool) -> str:
        """For people."""
        head = f"{self.group + ': ' + self.name:<47} {self.node:<21}"
        if self.skipped:
            return f"{head} left out: {self.skipped}"
        value = "" if self.value is None else f"{self.value:,.{_digits(self.value)}f} {self.unit}"
        beside = ""
        if self.beside_value is not None:
            beside = f"{self.beside} {self.beside_value:,.{_digits(self.beside_value)}f}"
        line = f"{head} {value:>14}   {beside:<21} {self.ratio or ''!s:<20}"
        if bars and self.bar is not None:
            line += f" {self.bar} {'MISSED' if self.missed else 'ok'}"
        return line.rstrip()

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        verdict = None if self.bar is None else "missed" if self.missed else "ok"
        return {**asdict(self), "bar": str(self.bar) if self.bar else None, "verdict": verdict}


def _digits(value: float) -> int:
    return 0 if value >= 1000 else 1 if value >= 10 else 2
