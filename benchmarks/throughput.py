"""Rows of rates: pipelined requests, the SDK as users have it, handshakes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from functools import partial
from statistics import median
from types import TracebackType
from typing import Final

import asys
from asys.isa import SYS_HELLO
from asys.protocol.apdu import encode_plain
from asys.protocol.limits import SW_SIZE
from benchmarks.bare import exchange_keys, open_and_seal
from benchmarks.bench import Bench, SideBySide, lines, side_by_side
from benchmarks.line import OVERHEAD, Line, PreparedHandshake, Target
from benchmarks.loop import play, undisturbed
from benchmarks.table import Bar, Row

FRAME: Final = encode_plain(SYS_HELLO.code)
SIZE: Final = SYS_HELLO.reply.SIZE + SW_SIZE

STREAM_BAR: Final = Bar(0.45, at_least=True)
WRITE: Final = 64
"""Requests in one write: as many as a session has in work."""

UNDER_WAY: Final = 4
"""Writes without an answer on each connection, so that the node never waits for the client."""

CONNECTIONS: Final = 64
AT_ONCE: Final = 64
"""Coroutines that call one connection at a time."""


def pipelined(bench: Bench, target: Target) -> Iterator[Row]:
    """SYS_HELLO back to back, beside a bare loop that opens and seals the same messages."""
    for count in (1, CONNECTIONS):
        with lines(target, count) as opened:
            yield _stream(bench, target, opened)


def _stream(bench: Bench, target: Target, opened: list[Line]) -> Row:
    rounds = max(bench.plan.stream // (WRITE * len(opened)), 1)
    total = rounds * WRITE * len(opened)

    def node_side() -> float:
        turns = [line.turn([FRAME] * WRITE, SIZE) for _ in range(rounds) for line in opened]
        played = play(turns, window=UNDER_WAY * len(opened))
        for place, line in enumerate(opened):
            line.check(played.answers[place :: len(opened)], rounds * WRITE)
        return played.elapsed

    bare = partial(open_and_seal, FRAME, bytes(SIZE), total)
    measured = side_by_side(bench.plan.stream_pairs, node_side, bare, rate=True)
    plural = "connection" if len(opened) == 1 else "connections"
    return _rate(
        Row("pipelined", f"SYS_HELLO, {len(opened)} {plural}", target.name, bar=STREAM_BAR),
        measured,
        total,
        "bare loop",
    )


def _rate(row: Row, measured: SideBySide, count: int, beside: str) -> Row:
    return Row(
        row.group,
        row.name,
        row.node,
        count * 1e9 / measured.one,
        "/s",
        beside,
        count * 1e9 / measured.other,
        measured.ratio,
        row.bar,
    )


def sdk(bench: Bench, target: Target) -> Iterator[Row]:
    """The SDK with everything that it does for its user."""
    count = bench.plan.calls
    pairs = bench.plan.stream_pairs
    names = {
        "asys.sync, one at a time": _blocking,
        "asys, one at a time": _one_at_a_time,
        f"asys, {AT_ONCE} at once": _many_at_once,
    }
    bare = partial(open_and_seal, FRAME, bytes(SIZE), count)
    with (
        _Sdk(target) as nodes,
        bench.echo.line(len(FRAME) + OVERHEAD, SIZE + OVERHEAD) as echo,
    ):
        for name, calls in names.items():
            many = calls is _many_at_once
            measured = side_by_side(
                pairs,
                partial(calls, nodes, count),
                bare if many else lambda: play([echo.turn()] * count).elapsed,
                rate=True,
            )
            beside = "bare loop" if many else "echo"
            yield _rate(Row("sdk", name, target.name), measured, count, beside)


class _Sdk:
    """A connection of each kind."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _Sdk:
        target = self._target
        identity = asys.Identity(target.agent)
        with contextlib.ExitStack() as stack:
            self.runner = stack.enter_context(asyncio.Runner())
            self.blocking = stack.enter_context(
                asys.sync.connect(
                    target.host, target.port, identity=identity, node_key=target.node_key
                )
            )

            async def connect() -> asys.Node:
                return await asys.connect(
                    target.host, target.port, identity=identity, node_key=target.node_key
                )

            self.node = self.runner.run(connect())
            stack.callback(lambda: self.runner.run(self.node.close()))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()


def _blocking(nodes: _Sdk, count: int) -> int:
    hello = nodes.blocking.sys_hello
    with undisturbed():
        began = time.perf_counter_ns()
        for _ in range(count):
            hello()
        return time.perf_counter_ns() - began


def _one_at_a_time(nodes: _Sdk, count: int) -> int:
    async def calls() -> int:
        hello = nodes.node.sys_hello
        began = time.perf_counter_ns()
        for _ in range(count):
            await hello()
        return time.perf_counter_ns() - began

    with undisturbed():
        return nodes.runner.run(calls())


def _many_at_once(nodes: _Sdk, count: int) -> int:
    async def caller() -> None:
        for _ in range(count // AT_ONCE):
            await nodes.node.sys_hello()

    async def calls() -> int:
        began = time.perf_counter_ns()
        await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
        return time.perf_counter_ns() - began

    with undisturbed():
        return nodes.runner.run(calls())


def handshake(bench: Bench, target: Target) -> Iterator[Row]:
    """From connecting to the node's last handshake message, beside the elliptic curve alone."""
    count = bench.plan.handshakes

    def node_side() -> float:
        times = []
        for prepared in [PreparedHandshake(target) for _ in range(count)]:
            with undisturbed():
                began = time.perf_counter_ns()
                turns = prepared.turns(target.host, target.port)
                played = play(turns)
                times.append(played.ended - began)
            prepared.check(played.answers)
            turns[0].sock.close()
        return median(times)

    with bench.pinned(target):
        measured = side_by_side(bench.plan.stream_pairs, node_side, lambda: exchange_keys(count))
    yield Row(
        "handshake",
        "pinned, with connecting",
        target.name,
        measured.one / 1000,
        "us",
        "X25519",
        measured.other / 1000,
        measured.ratio,
    )
