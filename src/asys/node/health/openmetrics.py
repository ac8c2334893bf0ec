"""OpenMetrics 1.0 as text: what a family of metrics is, and how its samples are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

CONTENT_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

END: Final = "# EOF\n"


class Kind(StrEnum):
    """What the values of a family mean."""

    COUNTER = "counter"
    """Only grows, from 0 at the start of asyd."""
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"
    """Always 1: it is the labels that tell something."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many observations were in each class, up to its bound or beyond all bounds."""

    bounds: Sequence[float]
    counts: Sequence[int]
    """One more than bounds."""
    total: float
    """The sum of what was observed."""


Number: TypeAlias = int | float
Told: TypeAlias = Number | Mapping[str, Number] | Mapping[str, str] | Histogram
"""A number; a number for each value of the family's label; the labels of an INFO; a Histogram."""

Reading: TypeAlias = Told | None
"""None: there is nothing to tell here."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric, said once. Its name ends with `_unit` where it has one."""

    name: str
    kind: Kind
    help: str
    unit: str = ""
    label: str = ""
    """What tells samples of the family apart, if anything does."""

    def head(self) -> str:
        """The lines that come before its samples."""
        unit = f"# UNIT {self.name} {self.unit}\n" if self.unit else ""
        return f"# TYPE {self.name} {self.kind}\n{unit}# HELP {self.name} {_escaped(self.help)}\n"

    def samples(self, reading: Told) -> Iterator[str]:
        """Its lines, each with its end."""
        if isinstance(reading, Histogram):
            yield from self._buckets(reading)
        elif self.kind is Kind.INFO and isinstance(reading, Mapping):
            labels = ",".join(f'{name}="{_escaped(str(one))}"' for name, one in reading.items())
            yield f"{self.name}_info{{{labels}}} 1\n"
        else:
            name = self.name + ("_total" if self.kind is Kind.COUNTER else "")
            if isinstance(reading, Mapping):
                for value, number in reading.items():
                    yield f'{name}{{{self.label}="{_escaped(value)}"}} {number}\n'
            else:
                yield f"{name} {reading}\n"

    def _buckets(self, histogram: Histogram) -> Iterator[str]:
        so_far = 0
        for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
            so_far += count
            yield f'{self.name}_bucket{{le="{bound}"}} {so_far}\n'
        yield f"{self.name}_count {so_far}\n{self.name}_sum {histogram.total}\n"


def exposition(readings: Iterable[tuple[Family, Reading]]) -> str:
    """The whole text. A family that has no reading is left out."""
    lines: list[str] = []
    for family, reading in readings:
        if reading is not None:
            lines.append(family.head())
            lines.extend(family.samples(reading))
    lines.append(END)
    return "".join(lines)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
