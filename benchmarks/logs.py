"""Rows of what reading a large journal takes, and of whether it holds up anybody else."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from types import TracebackType
from typing import Final

from asys.isa import SYS_HELLO
from asys.protocol.apdu import encode_plain
from asys.protocol.limits import SW_SIZE
from benchmarks.bench import Bench, Unavailable
from benchmarks.journal import Journal
from benchmarks.line import Line, Target
from benchmarks.loop import play
from benchmarks.nodes import own_node
from benchmarks.plan import BenchmarkError
from benchmarks.stats import LEAST_PAIRS, Bootstrap, median_interval, quantile
from benchmarks.table import Bound, Row, Side

ANSWER: Final = Bound(250, Side.NOT_ALL_ABOVE, " ms")
LAG: Final = Bound(3, Side.NOT_ALL_ABOVE, " ms")

GRANTED: Final = "caps=core,LOG_SUMMARY"

INTERVAL_NS: Final = 500_000
"""From one SYS_HELLO to the next."""

_READER: Final = """\
import json, select, sys, time
import asys
from asys.protocol.keys import PrivateKey
about = json.loads(sys.stdin.readline())
identity = asys.Identity(PrivateKey(bytes.fromhex(about["agent"])))
with asys.sync.connect(
    "127.0.0.1", port=about["port"], identity=identity, node_key=bytes.fromhex(about["node"])
) as node:
    node.log_summary(window_s=0)
    print("ready", flush=True)
    while sys.stdin.readline():
        took = []
        while not took or not select.select([sys.stdin], [], [], 0)[0]:
            began = time.perf_counter_ns()
            node.log_summary(window_s=0)
            took.append(time.perf_counter_ns() - began)
        sys.stdin.readline()
        print(json.dumps(took), flush=True)
"""


class _Reader:
    """Another agent, in a process of its own, that asks for LOG_SUMMARY again and again."""

    def __init__(self, node: Target) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _READER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        about = {
            "port": node.port,
            "node": node.node_key.hex(),
            "agent": node.agent.raw().hex(),
        }
        self._say(json.dumps(about))
        if self._line() != "ready":
            self.close()
            raise BenchmarkError("the agent that reads logs could not begin")

    def begin(self) -> None:
        """From now on it asks."""
        self._say("")

    def end(self) -> list[int]:
        """It asks no more; how long each answer took, in ns."""
        self._say("")
        took: list[int] = json.loads(self._line())
        return took

    def _say(self, text: str) -> None:
        if self._process.stdin is None:
            raise BenchmarkError("the agent that reads logs has no stdin")
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def _line(self) -> str:
        if self._process.stdout is None:
            raise BenchmarkError("the agent that reads logs has no stdout")
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> _Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read(bench: Bench, target: Target) -> Iterator[Row]:
    """LOG_SUMMARY of a journal in which all matches, and SYS_HELLO of another agent meanwhile."""
    if target is not bench.own:
        raise Unavailable("only a node of this run can have a journal of its own")
    plan = bench.plan
    took: list[float] = []
    alone: list[float] = []
    beside: list[float] = []
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(Journal(plan.log_entries))
        node = stack.enter_context(
            own_node(bench.directory, granted=GRANTED, launcher=journal.launcher)
        )
        line = stack.enter_context(Line(node))
        reader = stack.enter_context(_Reader(node))
        _lag(line, plan.logged)
        for number in range(plan.logged_pairs):
            if number % 2:
                alone.append(_lag(line, plan.logged))
            reader.begin()
            beside.append(_lag(line, plan.logged))
            took += [ns / 1e6 for ns in reader.end()]
            if not number % 2:
                alone.append(_lag(line, plan.logged))
    judged = plan.logged_pairs >= LEAST_PAIRS
    p99 = partial(quantile, share=0.99)
    yield Row(
        "logs",
        "LOG_SUMMARY p99",
        "asyd",
        p99(took),
        "ms",
        "median",
        quantile(took, 0.5),
        interval=Bootstrap(len(took)).interval(took, 0.95, p99),
        bound=ANSWER if judged else None,
    )
    more = [one - other for one, other in zip(beside, alone, strict=True)]
    yield Row(
        "logs",
        "SYS_HELLO p99.9 while logs are read, more",
        "asyd",
        quantile(beside, 0.5),
        "ms",
        "not read",
        quantile(alone, 0.5),
        interval=median_interval(more),
        bound=LAG if judged else None,
    )


def _lag(line: Line, count: int) -> float:
    """The 99.9th percentile of so many round trips, in ms."""
    frame = encode_plain(SYS_HELLO.code)
    size = SYS_HELLO.reply.SIZE + SW_SIZE
    played = play([line.turn([frame], size) for _ in range(count)], interval_ns=INTERVAL_NS)
    line.check(played.answers, count)
    return quantile(played.round_trips, 0.999) / 1e6
