"""What all rows need: the plan, the echo, and how two sides are measured side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from benchmarks.echo import Echo
from benchmarks.line import Line, Target
from benchmarks.loop import Turn, play
from benchmarks.machine import pinned
from benchmarks.plan import BenchmarkError, Plan
from benchmarks.stats import Ratio

NOT_HERE: Final = "its process is not known here; see --peer-pid"


class Unavailable(BenchmarkError):
    """A row cannot be had on this machine, or of this node; no fault of the node."""


class SideBySide(NamedTuple):
    """Medians of both sides in ns, and the ratio of the pairs."""

    one: float
    other: float
    ratio: Ratio


def side_by_side(
    pairs: int, one: Callable[[], float], other: Callable[[], float], *, rate: bool = False
) -> SideBySide:
    """Measures two sides by turns, after one pair to warm up; which is first changes each time.

    The sides give ns. The ratio is one / other; with `rate` the other way round, as of speeds.
    """
    ones, others = [], []
    for number in range(pairs + 1):
        if number % 2:
            first, second = one(), other()
        else:
            second, first = other(), one()
        if number:
            ones.append(first)
            others.append(second)
    divided = [
        second / first if rate else first / second
        for first, second in zip(ones, others, strict=True)
    ]
    return SideBySide(median(ones), median(others), Ratio.of(divided))


class Bench:
    """Shared by all rows of a run."""

    def __init__(
        self, plan: Plan, echo: Echo, directory: Path, own: Target, services_missing: str
    ) -> None:
        self.plan = plan
        self.echo = echo
        self.directory = directory
        self.own = own
        self.services_missing = services_missing

    @contextlib.contextmanager
    def pinned(self, target: Target) -> Iterator[None]:
        """Client, node and echo share one CPU."""
        if target.pid is None:
            raise Unavailable(NOT_HERE)
        with pinned([target.pid, self.echo.pid]):
            yield

    def against_echo(
        self, turns: Callable[[], Sequence[Turn]], check: Callable[[Sequence[bytes]], object]
    ) -> SideBySide:
        """Round trips of `turns`, made anew for each batch, and of an echo of their sizes."""
        sample = turns()
        check(play(sample).answers)
        with self.echo.line(len(sample[0].data), sample[0].size) as echo:

            def node_side() -> float:
                played = play(turns())
                check(played.answers)
                return median(played.round_trips)

            def echo_side() -> float:
                return median(play([echo.turn()] * len(sample)).round_trips)

            return side_by_side(self.plan.pairs, node_side, echo_side)


@contextlib.contextmanager
def lines(target: Target, count: int) -> Iterator[list[Line]]:
    """So many sessions at a time. Unavailable when the node holds fewer."""
    with contextlib.ExitStack() as stack:
        opened: list[Line] = []
        for number in range(count):
            try:
                opened.append(stack.enter_context(Line(target)))
            except (BenchmarkError, OSError) as error:
                raise Unavailable(f"{number} sessions of {count} could be had: {error}") from error
        yield opened
