"""Rows of what capability maps, scopes and rates cost: two nodes with them, and one without."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from statistics import median
from typing import Final, NamedTuple

from asys.isa import PROC_THROTTLE, SYS_HELLO, AnyInstruction, ThrottleAction
from asys.protocol.apdu import encode_plain
from asys.protocol.limits import SW_SIZE
from benchmarks.bench import Bench, Unavailable
from benchmarks.crowd import Crowd
from benchmarks.line import Line, Target
from benchmarks.loop import play
from benchmarks.nodes import own_node
from benchmarks.stats import LEAST_PAIRS, median_interval
from benchmarks.table import Bound, Row, Side
from benchmarks.throughput import UNDER_WAY, WRITE

BOUND: Final = Bound(1.05, Side.NOT_ALL_ABOVE)

RATE: Final = 1_000_000
"""Uses a second: looked at each time, never reached."""

CHECKS: Final = "maps and scopes"
RATES: Final = "and rates"
AGAIN: Final = "A/A"


def scoped() -> str:
    """An agent for whom each map and scope has something to look at, and lets it pass."""
    return (
        f"caps=core,PROC_THROTTLE services=nginx*,web-? users={os.getuid()} "
        "vendors=0x401 from=127.0.0.0/8"
    )


def rated() -> str:
    """The same agent, with a rate for each instruction that is asked for."""
    rates = ",".join(f"{one.name}:{RATE}/s" for one in (SYS_HELLO, PROC_THROTTLE))
    return f"{scoped()} rate={rates}"


@dataclass(frozen=True, slots=True)
class _Case:
    instruction: AnyInstruction
    frame: Callable[[Line], bytes]
    share: float = 1
    """Of the plan's requests: one that takes longer is asked for less often."""


class _Sides(NamedTuple):
    """A session with each node."""

    on: Line
    on_too: Line
    rated: Line
    off: Line


def on_and_off(bench: Bench, target: Target) -> Iterator[Row]:
    """Pipelined requests with the checks on and off, and on beside on, by turns."""
    if target is not bench.own:
        raise Unavailable("only a node of this run can leave its checks out")
    with contextlib.ExitStack() as stack:

        def line(granted: str, *, checked: bool = True) -> Line:
            node = own_node(bench.directory, granted=granted, checked=checked)
            return stack.enter_context(Line(stack.enter_context(node)))

        sides = _Sides(line(scoped()), line(scoped()), line(rated()), line(rated(), checked=False))
        sleeper = stack.enter_context(Crowd(1))
        pid = sleeper.pids[0].to_bytes(4, "big")

        def resume(line: Line) -> bytes:
            return line.link.signer.sign(PROC_THROTTLE.code, ThrottleAction.CONTINUE, 0, pid)

        cases = (
            _Case(SYS_HELLO, lambda _line: encode_plain(SYS_HELLO.code)),
            _Case(PROC_THROTTLE, resume, share=0.25),
        )
        for case in cases:
            yield from _rows(bench, case, sides)


def _rows(bench: Bench, case: _Case, sides: _Sides) -> Iterator[Row]:
    """Rounds in which each side has its turn, in an order that changes; pairs are of one round."""
    writes = max(round(bench.plan.checked * case.share) // WRITE, 1)
    orders = list(permutations(range(len(sides))))
    rounds: list[list[float]] = []
    for number in range(bench.plan.checked_pairs + 1):
        elapsed = [0.0] * len(sides)
        for place in orders[number % len(orders)]:
            elapsed[place] = _stream(case, sides[place], writes)
        if number:
            rounds.append(elapsed)
    on, on_too, rated, off = zip(*rounds, strict=True)

    def row(what: str, one: Sequence[float], beside: str, other: Sequence[float]) -> Row:
        judged = what == CHECKS and len(rounds) >= LEAST_PAIRS
        requests = writes * WRITE * 1e9
        return Row(
            "checks",
            f"{case.instruction.name}, {what}",
            "asyd",
            requests / median(one),
            "/s",
            beside,
            requests / median(other),
            interval=median_interval([a / b for a, b in zip(one, other, strict=True)]),
            bound=BOUND if judged else None,
        )

    yield row(CHECKS, on, "checks off", off)
    yield row(RATES, rated, "checks off", off)
    yield row(AGAIN, on, "checks on", on_too)


def _stream(case: _Case, line: Line, writes: int) -> float:
    """Time in ns for so many writes of WRITE requests, back to back."""
    size = case.instruction.reply.SIZE + SW_SIZE
    turns = [line.turn([case.frame(line) for _ in range(WRITE)], size) for _ in range(writes)]
    played = play(turns, window=UNDER_WAY)
    line.check(played.answers, writes * WRITE)
    return played.elapsed
