"""Rows of what a node takes from its machine: CPU while nobody or somebody asks, and memory."""

from __future__ import annotations

import time
from collections.abc import Iterator

from asys.isa import SYS_STATUS
from asys.protocol.apdu import encode_plain
from asys.protocol.limits import SW_SIZE
from benchmarks.bench import NOT_HERE, Bench, Unavailable, lines
from benchmarks.crowd import Crowd
from benchmarks.latency import POLL_NS
from benchmarks.line import Line, Target
from benchmarks.loop import play
from benchmarks.machine import cpu_seconds, process_count, proportional_kib
from benchmarks.nodes import own_node
from benchmarks.table import Row

ASLEEP_AFTER: float = 5.5
"""Seconds without a request after which a sampler sleeps."""


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
    """Resident memory of a node, and what each session adds to it."""
    if target is not bench.own:
        yield from _memory(bench, target, "now")
        return
    with own_node(bench.directory) as fresh:
        yield from _memory(bench, fresh, "after start")


def _memory(bench: Bench, target: Target, when: str) -> Iterator[Row]:
    pid = _pid(target)
    count = bench.plan.sessions
    before = proportional_kib(pid)
    yield Row("memory", when, target.name, before / 1024, "MiB")
    with lines(target, count):
        each = (proportional_kib(pid) - before) / count
    yield Row("memory", f"each of {count} sessions", target.name, each, "KiB")


def _pid(target: Target) -> int:
    if target.pid is None:
        raise Unavailable(NOT_HERE)
    return target.pid
