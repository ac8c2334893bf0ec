"""Rows of what the audit costs, and of whether a disk that hangs holds up anybody."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from asys.isa import PROC_THROTTLE, SYS_HELLO, SYS_STATUS, AnyInstruction, ThrottleAction
from asys.isa.core import NodeFlags, Status
from asys.protocol.apdu import encode_plain
from asys.protocol.limits import SW_SIZE
from benchmarks.bench import Bench, Unavailable
from benchmarks.crowd import Crowd
from benchmarks.disk import Disks, frozen
from benchmarks.line import Line, Target
from benchmarks.loop import play
from benchmarks.machine import cpu_seconds, pinned
from benchmarks.nodes import own_node
from benchmarks.plan import BenchmarkError
from benchmarks.stats import LEAST_PAIRS, Interval, median_interval, quantile
from benchmarks.table import Bound, Row, Side
from benchmarks.throughput import UNDER_WAY, WRITE

BOUND: Final = Bound(1.15, Side.NOT_ALL_ABOVE)

AGAIN: Final = "A/A"
DISKS: Final = 3
"""One hangs, the others do not: each in its turn."""

HANG: Final = 12
"""Rounds while one disk hangs; what is on record in them stays in memory."""

SHOWN_SECONDS: Final = 10.0
"""Deadline for AUDIT_DEGRADED to rise and to fall; it rises 2 s after the first record."""


class _Node(NamedTuple):
    """A session with a node, and the node's process."""

    line: Line
    pid: int


@dataclass(frozen=True, slots=True)
class _Case:
    instruction: AnyInstruction
    frame: Callable[[Line], bytes]
    share: float = 1
    """Of the plan's requests: one that takes longer is asked for less often."""
    bound: Bound | None = None


def recorded(bench: Bench, target: Target) -> Iterator[Row]:
    """CPU with the audit on, off, and on again, by turns; then a tail while a disk hangs."""
    if target is not bench.own:
        raise Unavailable("only nodes of this run can go without the audit")
    with Crowd(1) as sleeper:
        pid = sleeper.pids[0].to_bytes(4, "big")

        def resume(line: Line) -> bytes:
            return line.link.signer.sign(PROC_THROTTLE.code, ThrottleAction.CONTINUE, 0, pid)

        yield from _cpu(bench, resume)
        try:
            yield from _tail(bench, resume)
        except Unavailable as error:
            yield Row("audit", "PROC_THROTTLE p99, disk hangs", "asyd", skipped=str(error))


def _open(stack: contextlib.ExitStack, bench: Bench, audit: Path | None) -> _Node:
    node = stack.enter_context(own_node(bench.directory, audit=audit))
    if node.pid is None:
        raise BenchmarkError("a node of this run has no process")
    return _Node(stack.enter_context(Line(node)), node.pid)


# -- CPU


def _cpu(bench: Bench, resume: Callable[[Line], bytes]) -> Iterator[Row]:
    cases = (
        _Case(SYS_HELLO, lambda _line: encode_plain(SYS_HELLO.code), bound=BOUND),
        _Case(PROC_THROTTLE, resume, share=0.25),
    )
    with contextlib.ExitStack() as stack:
        on, on_too = (_open(stack, bench, bench.directory / f"audit-{at}") for at in range(2))
        nodes = (on, on_too, _open(stack, bench, None))
        for case in cases:
            yield from _cpu_rows(bench, case, nodes)


def _cpu_rows(bench: Bench, case: _Case, nodes: Sequence[_Node]) -> Iterator[Row]:
    """Rounds in which each node has its turn, in an order that changes; pairs are of one round."""
    writes = max(round(bench.plan.audited * case.share) // WRITE, 1)
    sides = [partial(_stream_cpu, case, node, writes) for node in nodes]
    on, on_too, off = zip(*_rounds(bench.plan.audited_pairs, sides), strict=True)
    name = case.instruction.name
    judged = case.bound if len(on) >= LEAST_PAIRS else None
    yield _row(f"{name}, CPU each", on, "audit off", off, judged)
    yield _row(f"{name}, CPU each, {AGAIN}", on, "audit on", on_too)


def _rounds(count: int, sides: Sequence[Callable[[], float]]) -> Iterator[list[float]]:
    """What each side gave in each round, after one to warm up; the order of the sides changes."""
    orders = list(permutations(range(len(sides))))
    for number in range(count + 1):
        found = [0.0] * len(sides)
        for place in orders[number % len(orders)]:
            found[place] = sides[place]()
        if number:
            yield found


def _stream_cpu(case: _Case, node: _Node, writes: int) -> float:
    """CPU time of asyd in us for one request, of so many writes of WRITE requests."""
    size = case.instruction.reply.SIZE + SW_SIZE
    line = node.line
    turns = [line.turn([case.frame(line) for _ in range(WRITE)], size) for _ in range(writes)]
    used = cpu_seconds(node.pid)
    played = play(turns, window=UNDER_WAY)
    used = cpu_seconds(node.pid) - used
    line.check(played.answers, writes * WRITE)
    return used * 1e6 / (writes * WRITE)


def _row(
    name: str, one: Sequence[float], beside: str, other: Sequence[float], bound: Bound | None = None
) -> Row:
    return Row(
        "audit",
        name,
        "asyd",
        median(one),
        "us",
        beside,
        median(other),
        interval=_ratio(one, other),
        bound=bound,
    )


def _ratio(one: Sequence[float], other: Sequence[float]) -> Interval:
    return median_interval([a / b for a, b in zip(one, other, strict=True)])


# -- a disk that hangs


def _tail(bench: Bench, resume: Callable[[Line], bytes]) -> Iterator[Row]:
    """p99 of a signed instruction: three nodes, each with a disk of its own that hangs in turn.

    The node whose disk hangs, and then the other two, are the sides: what nodes and disks differ by
    is in the A/A as well.
    """
    plan = bench.plan
    rounds: list[list[float]] = []
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=bench.directory)))
        disks = stack.enter_context(Disks(place, DISKS))
        nodes = [_open(stack, bench, disk / "audit") for disk in disks.paths]
        stack.enter_context(pinned(node.pid for node in nodes))

        def p99(line: Line) -> float:
            size = PROC_THROTTLE.reply.SIZE + SW_SIZE
            played = play([line.turn([resume(line)], size) for _ in range(plan.tailed)])
            line.check(played.answers, plan.tailed)
            return quantile(played.round_trips, 0.99) / 1000

        each = min(max(plan.tailed_pairs // DISKS, 1), HANG)
        turn = 0
        while len(rounds) < plan.tailed_pairs:
            sides = [nodes[(turn + at) % DISKS] for at in range(DISKS)]
            line = sides[0].line
            with frozen(disks.paths[turn % DISKS]):
                p99(line)
                _await_flags(line, NodeFlags.AUDIT_DEGRADED)
                rounds += _rounds(each, [partial(p99, side.line) for side in sides])
            _await_flags(line, NodeFlags(0))
            turn += 1
    hanging, well, well_too = zip(*rounds, strict=True)
    spread = _ratio(well, well_too)
    limit = round(max(spread.high, 1 / spread.low), 3)
    judged = Bound(limit, Side.NOT_ALL_ABOVE) if len(rounds) >= LEAST_PAIRS else None
    yield _row("PROC_THROTTLE p99, disk hangs", hanging, "healthy", well, judged)
    yield _row(f"PROC_THROTTLE p99, {AGAIN}", well, "healthy", well_too)


def _await_flags(line: Line, flags: NodeFlags) -> None:
    deadline = time.monotonic() + SHOWN_SECONDS
    turn = [encode_plain(SYS_STATUS.code)]
    size = SYS_STATUS.reply.SIZE + SW_SIZE
    while True:
        (payload,) = line.check(play([line.turn(turn, size)]).answers, 1)
        if int(Status.unpack(payload).node_flags) == flags.value:
            return
        if time.monotonic() > deadline:
            raise BenchmarkError(f"SYS_STATUS does not come to the node flags {flags!r}")
        time.sleep(0.02)
