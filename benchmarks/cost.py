"""Rows of what a node takes from its machine: CPU while nobody or somebody asks, and memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from asys.isa import SYS_STATUS
from asys.node.platform.memory import BUFFERS, OBJECTS
from asys.protocol.apdu import encode_plain
from asys.protocol.limits import SW_SIZE
from benchmarks.bench import NOT_HERE, Bench, Unavailable, lines
from benchmarks.crowd import Crowd
from benchmarks.latency import POLL_NS
from benchmarks.line import Line, Target
from benchmarks.loop import play
from benchmarks.machine import (
    anonymous_kib,
    children,
    cpu_seconds,
    locked_kib,
    process_count,
    proportional_kib,
)
from benchmarks.nodes import own_node
from benchmarks.stats import Interval
from benchmarks.table import Bound, Row, Side

ASLEEP_AFTER: float = 5.5
"""Seconds without a request after which a sampler sleeps."""


AFTER_START: Final = Bound(60, Side.ALL_BELOW, " MiB")
SESSION: Final = Bound(40, Side.ALL_BELOW, " KiB")

IN_ADVANCE: Final = (OBJECTS + BUFFERS) >> 10
"""KiB of room that an asyd with the lock takes at its start."""

ENOUGH_SESSIONS: Final = 400
"""Below, what was taken in advance would be most of what each is said to take."""


def sampler(bench: Bench, target: Target) -> Iterator[Row]:
    """CPU of the node while one agent polls SYS_STATUS at 10 Hz, and asleep."""
    pid = _pid(target)
    seconds = bench.plan.seconds
    for count in bench.plan.crowds:
        with Crowd(max(count - process_count(), 0)):
            processes = process_count()
            with Line(target) as line:
                turns = max(round(seconds * 1e9 / POLL_NS), 2)
                frames = [encode_plain(SYS_STATUS.code)]
                size = SYS_STATUS.reply.SIZE + SW_SIZE
                line.check(play([line.turn(frames, size)]).answers, 1)
                used = cpu_seconds(pid)
                played = play([line.turn(frames, size) for _ in range(turns)], interval_ns=POLL_NS)
                used = cpu_seconds(pid) - used
                line.check(played.answers, turns)
                yield _cpu(target, "polled at 10 Hz", processes, used / (played.elapsed / 1e9))
                time.sleep(ASLEEP_AFTER)
                began = time.perf_counter()
                used = cpu_seconds(pid)
                time.sleep(seconds)
                used = cpu_seconds(pid) - used
                elapsed = time.perf_counter() - began
                yield _cpu(target, "asleep", processes, used / elapsed)


def _cpu(target: Target, what: str, processes: int, share: float) -> Row:
    name = f"{what}, {processes} processes"
    return Row("sampler", name, target.name, 100 * share, "% of a CPU")


def memory(bench: Bench, target: Target) -> Iterator[Row]:
    """Memory of a node, and what each session adds to it."""
    if target is not bench.own:
        yield from _memory(bench, target, "now")
        return
    audit = bench.directory / f"audit-{time.monotonic_ns()}"
    with own_node(bench.directory, audit=audit) as fresh:
        locked = locked_kib(_pid(fresh)) > 0
        when = "after start, locked" if locked else "after start, not locked here"
        yield from _memory(bench, fresh, when, judged=locked)
        for name, pid in _helpers(_pid(fresh)):
            yield Row("memory", f"helper {name}", fresh.name, proportional_kib(pid) / 1024, "MiB")
    with own_node(bench.directory, options=("--memory-lock", "off")) as fresh:
        loose = proportional_kib(_pid(fresh)) / 1024
        yield Row("memory", "without lock and audit", fresh.name, loose, "MiB")


def _memory(bench: Bench, target: Target, when: str, *, judged: bool = False) -> Iterator[Row]:
    """A session takes of what the node has taken in advance first: so that is counted as taken."""
    pid = _pid(target)
    count = bench.plan.sessions
    before = proportional_kib(pid)
    yield _held("memory", when, target, before / 1024, AFTER_START if judged else None)
    alone = anonymous_kib(pid)
    with lines(target, count):
        each = (anonymous_kib(pid) - alone + (IN_ADVANCE if judged else 0)) / count
    judged = judged and count >= ENOUGH_SESSIONS
    yield _held("memory", f"each of {count} sessions", target, each, SESSION if judged else None)


def _held(group: str, name: str, target: Target, value: float, bound: Bound | None) -> Row:
    """A row of one value that is held to a bound: it has no spread."""
    unit = "KiB" if bound is SESSION or "each" in name else "MiB"
    interval = Interval(value, value, value, 1.0, 1) if bound is not None else None
    return Row(group, name, target.name, value, unit, interval=interval, bound=bound)


def _helpers(pid: int) -> Iterator[tuple[str, int]]:
    """The processes below one, by the programs that they are."""
    for child in children(pid):
        words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        programs = [Path(os.fsdecode(one)) for one in words if one.endswith(b".py")]
        names = [f"{one.parent.name}/{one.stem}" for one in programs]
        yield names[0] if names else str(child), child
        for below, number in _helpers(child):
            yield f"{below}, forked", number


def _pid(target: Target) -> int:
    if target.pid is None:
        raise Unavailable(NOT_HERE)
    return target.pid
