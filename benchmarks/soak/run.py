"""A soak: the load in a process of its own, and asyd looked at meanwhile."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from asys.protocol.keys import PrivateKey
from benchmarks.line import Target
from benchmarks.machine import cpu_seconds
from benchmarks.many_nodes import line_of
from benchmarks.plan import BenchmarkError
from benchmarks.soak import questions
from benchmarks.soak.client import order_of
from benchmarks.soak.memory import Growth, Sample, files, helpers, judge, sample
from benchmarks.soak.plan import Plan
from benchmarks.soak.report import Report, Used

CHECKOUT: Final = Path(__file__).resolve().parents[2]


class Client:
    """The process that puts a node under a load. An order is answered with its counts so far."""

    def __init__(self, target: Target, agents: dict[PrivateKey, str], plan: Plan) -> None:
        """`agents` are the lines that the node has of `questions.lines`."""
        self._plan = plan
        listed = {key: questions.caps(line) for key, line in agents.items()}
        self._about = order_of(target.host, target.port, target.node_key, listed, plan)
        self._process: Final = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.soak.client"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
        )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def open(self) -> Any:
        """Opens all sessions. BenchmarkError: they cannot be, or the process has ended."""
        return self._ask(self._about, self._plan.patience)

    def warm_up(self) -> Any:
        """Asks for as long as memory does not count yet. BenchmarkError, as `open`."""
        plan = self._plan
        churn = plan.warm_up_churn or plan.churn
        return self._ask({"run": plan.warm_up, "churn": churn}, plan.warm_up)

    def run(self, meanwhile: Callable[[], None] = lambda: None) -> Any:
        """Asks for the rest of the time. `meanwhile` is called now and then; errors as `open`."""
        plan = self._plan
        seconds = plan.seconds - plan.warm_up
        return self._ask({"run": seconds, "churn": plan.churn}, seconds, meanwhile)

    def leave(self) -> Any:
        """Ends all sessions, once they have their answers. BenchmarkError, as `open`."""
        return self._ask({"leave": 0}, self._plan.patience + self._plan.answered_within)

    def _ask(
        self, order: dict[str, Any], seconds: float, meanwhile: Callable[[], None] = lambda: None
    ) -> Any:
        """The answer, which may take that long, and `patience` more."""
        into, out = self._process.stdin, self._process.stdout
        if into is None or out is None:
            raise BenchmarkError("a process without its pipes")
        try:
            into.write(json.dumps(order) + "\n")
            into.flush()
        except BrokenPipeError:
            raise BenchmarkError("the load has ended; see stderr") from None
        end = time.monotonic() + seconds + self._plan.patience
        while not select.select([out], [], [], self._plan.every)[0]:
            meanwhile()
            if time.monotonic() > end:
                raise BenchmarkError("the load does not do what it was told")
        line = line_of(self._process, self._plan.patience)
        if not line:
            raise BenchmarkError("the load has ended; see stderr")
        return json.loads(line)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()


class Watch:
    """Memory of asyd and of its helpers, over time."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._own: list[Sample] = []
        self._helpers: list[Sample] = []

    def look(self) -> None:
        """One more sample of both. BenchmarkError: asyd has ended."""
        self._own.append(sample([self._pid]))
        below = helpers(self._pid)
        if below:
            self._helpers.append(sample(below))

    def growth(self, connections: int, requests: int) -> dict[str, Growth]:
        """How each has grown."""
        return {
            name: judge(taken, connections, requests)
            for name, taken in (("asyd", self._own), ("its helpers", self._helpers))
            if taken
        }


def soak(
    target: Target, agents: dict[PrivateKey, str], plan: Plan, tell: Callable[[str], None]
) -> Report:
    """Puts a node under load, and tells how that goes.

    `agents` are the lines that the node has of `questions.lines`. BenchmarkError: it could not be
    done, or asyd has ended.
    """
    pid = target.pid
    if pid is None:
        raise BenchmarkError("a node is soaked where its process is to be seen")
    began, files_before = sample([pid]), files(pid)
    with Client(target, agents, plan) as client:
        tell(f"{plan.sessions} sessions are opened")
        client.open()
        opened = sample([pid])
        opening, added = opened.at - began.at, opened.anonymous - began.anonymous
        each = added / plan.sessions
        tell(f"they are open after {opening:.1f} s, {each:.1f} KB each; {plan.polled} are polled")
        before = Used.of(cpu_seconds(pid), cpu_seconds(client.pid))
        first = client.warm_up()
        watch = Watch(pid)
        tell(f"memory counts for {plan.seconds - plan.warm_up:.0f} s from now on")
        second = client.run(watch.look)
        used = Used.of(cpu_seconds(pid), cpu_seconds(client.pid)).since(before)
        growth = watch.growth(
            second["sessions"] - first["sessions"], second["answered"] - first["answered"]
        )
        counts = client.leave()
    return Report(
        plan=plan,
        counts=counts,
        there=second["there"],
        opening=opening,
        each_kb=each,
        growth=growth,
        used=used,
        files_left=_files_left(pid, files_before, plan.patience),
    )


def _files_left(pid: int, before: int, patience: float) -> int:
    """Descriptors that asyd has more than before, once it has had time to close what was left."""
    end = time.monotonic() + patience
    while (left := files(pid) - before) > 0 and time.monotonic() < end:
        time.sleep(0.1)
    return left
