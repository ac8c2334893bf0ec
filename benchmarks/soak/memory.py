"""Whether a process keeps more and more: its memory over time, and the line through it.

Counted is anonymous memory: what a leak grows. Pages of files come and go with the neighbours.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Final

from benchmarks.plan import BenchmarkError
from benchmarks.stats import Interval

BLOCKS: Final = 10
"""Samples are averaged in so many blocks, as one sample is much like the one before it."""

_STUDENT: Final = 2.306
"""Of 95 %, with two degrees of freedom less than there are blocks."""

LEAK_KB: Final = 1.0
"""What must be found: so much for each connection, or for each 1,000 requests."""

STEP_KB: Final = 600.0
"""What allocators may take on top, until what they keep in pieces is as large as it gets."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Anonymous memory in KB, by a clock in seconds."""

    at: float
    anonymous: int


@dataclass(frozen=True, slots=True)
class Growth:
    """What processes kept over some minutes, in KB a minute, and what they must stay below."""

    slope: Interval
    most: float
    samples: Sequence[Sample]

    @property
    def found(self) -> bool:
        """Whether they keep more than they may: all of the interval is beyond."""
        return self.slope.low > self.most

    def __str__(self) -> str:
        one = self.slope
        return f"{one.middle:+.0f} KB/min [{one.low:+.0f} to {one.high:+.0f}], most {self.most:.0f}"


def sample(pids: Sequence[int]) -> Sample:
    """What some processes have together now. BenchmarkError when the first of them has ended."""
    anonymous = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            if pid == pids[0]:
                raise BenchmarkError(f"process {pid} has ended") from None
            continue
        anonymous += _field(text, "Anonymous") + _field(text, "Swap")
    return Sample(time.monotonic(), anonymous)


def _field(text: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    if found is None:
        raise BenchmarkError(f"this kernel does not tell {name} of a process")
    return int(found[1])


def helpers(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    return list(_below(pid))


def _below(pid: int) -> Iterator[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in map(int, text.split()):
        yield child
        yield from _below(child)


def files(pid: int) -> int:
    """Descriptors that a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def slope(samples: Sequence[Sample]) -> Interval:
    """KB a minute, by least squares over blocks, with 95 % confidence.

    BenchmarkError: there are less than two samples for each block.
    """
    if len(samples) < 2 * BLOCKS:
        raise BenchmarkError(f"{len(samples)} samples of memory; {2 * BLOCKS} are the least")
    edges = [round(number * len(samples) / BLOCKS) for number in range(BLOCKS + 1)]
    blocks = [samples[first:last] for first, last in pairwise(edges)]
    x = [fmean(one.at for one in block) / 60 for block in blocks]
    y = [fmean(one.anonymous for one in block) for block in blocks]
    middle_x, middle_y = fmean(x), fmean(y)
    spread = sum((one - middle_x) ** 2 for one in x)
    rise = sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True)) / spread
    rest = sum((b - middle_y - rise * (a - middle_x)) ** 2 for a, b in zip(x, y, strict=True))
    wide = _STUDENT * (rest / (BLOCKS - 2) / spread) ** 0.5
    return Interval(rise, rise - wide, rise + wide, 0.95, len(samples))


def judge(samples: Sequence[Sample], connections: float, requests: float) -> Growth:
    """What was kept while so many connections came and so many requests were answered.

    The most is half of what a leak of LEAK_KB for each connection, or for each 1,000 requests,
    would make, whichever is less; in a short time, STEP_KB.
    """
    minutes = (samples[-1].at - samples[0].at) / 60
    leak = LEAK_KB * min(connections, requests / 1000) / minutes
    return Growth(slope(samples), max(leak / 2, STEP_KB / minutes), samples)
