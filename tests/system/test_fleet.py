"""A fleet of real nodes that many sessions poll: one that stands still, one that has died.

What comes before what is told by what the test does in between, never by a clock: a node that is
stopped goes on only when everybody else's rows are there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from benchmarks.line import Target
from benchmarks.many_nodes import Pollers, entries, real_nodes

from asys.client.identity import Identity
from asys.fleet import Fleet
from asys.protocol.keys import PrivateKey

NODES = 20
SESSIONS = 50

PATIENCE = 120.0
"""Seconds; a stopped node is waited for as long as that, so its row cannot come by its deadline."""


@contextmanager
def stopped(node: Target) -> Iterator[None]:
    """A node that stands still, as a machine does that swaps or a process that is being traced."""
    assert node.pid is not None
    os.kill(node.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(node.pid, signal.SIGCONT)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a node that runs here")
async def test_neither_a_stalled_nor_a_dead_node_delays_the_rows_of_the_others(
    tmp_path: Path,
) -> None:
    agent = PrivateKey.generate()
    with real_nodes(tmp_path, NODES, agent) as nodes, Pollers(nodes, SESSIONS) as pollers:
        stalled, dead = nodes[0], nodes[7]
        others = {one.name for one in nodes} - {stalled.name, dead.name}
        async with Fleet(entries(nodes), identity=Identity(agent), deadline=PATIENCE) as fleet:
            assert all(row.ok for row in await fleet.status())
            assert dead.pid is not None
            os.kill(dead.pid, signal.SIGKILL)

            # one question to each
            rows = aiter(fleet.status())
            with stopped(stalled):
                first = [await anext(rows) for _ in range(NODES - 1)]
                assert {row.node for row in first if row.ok} == others
                [gone] = [row for row in first if not row.ok]
                assert gone.node == dead.name
                assert gone.failure is not None
                assert gone.failure.kind in ("ConnectFailed", "ConnectionLost")
            last = await anext(rows)
            assert (last.node, last.ok) == (stalled.name, True)

            # and again and again, at 1 Hz: here, and in all the sessions of the other process
            seen: Counter[str] = Counter()
            watching = fleet.watch(1.0)
            with stopped(stalled):
                async for row in watching:
                    assert row.node != stalled.name
                    assert row.ok is (row.node != dead.name)
                    seen[row.node] += 1
                    if min(seen[name] for name in others) >= 3:
                        break
                answered = pollers.rounds(2, [stalled.name, dead.name])
                assert answered == (NODES - 2) * SESSIONS
            async for row in watching:
                if row.node == stalled.name:
                    assert row.ok
                    break
            await watching.aclose()


async def test_a_deadline_ends_the_wait_for_a_stalled_node_alone(tmp_path: Path) -> None:
    agent = PrivateKey.generate()
    with real_nodes(tmp_path, 3, agent) as nodes:
        listed = entries(nodes)
        async with Fleet(listed, identity=Identity(agent), deadline=PATIENCE) as patient:
            await patient.status()
            async with Fleet(listed, identity=Identity(agent), deadline=0.5) as hasty:
                with stopped(nodes[1]):
                    rows = {row.node: row for row in await hasty.status()}
                    failure = rows[nodes[1].name].failure
                    assert failure is not None
                    assert failure.kind == "DeadlineExceeded"
                    named = hasty.throttle([(nodes[1].name, 1)])
                    [order] = await named
                    assert order.failure is not None
                    assert not order.failure.outcome_unknown  # there was nobody to send it to
            assert all(row.ok for row in await patient.status())
            assert {row.connection for row in await patient.status()} == {1}


@pytest.mark.skipif(sys.platform != "linux", reason="looks at a process in /proc")
async def test_throttle_stops_the_process_that_is_named_and_resume_lets_it_go_on(
    tmp_path: Path,
) -> None:
    agent = PrivateKey.generate()
    with real_nodes(tmp_path, 2, agent) as nodes, sleeping() as one, sleeping() as other:
        async with Fleet(entries(nodes), identity=Identity(agent), deadline=PATIENCE) as fleet:
            [row] = await fleet.throttle([(nodes[0].name, one)])
            assert row.ok
            assert becomes(one, "T")
            assert state(other) == "S"
            [row] = await fleet.resume([(nodes[1].name, one)])  # any node of this machine can
            assert row.ok
            assert becomes(one, "S")
            [row] = await fleet.throttle([(nodes[0].name, 2**32 - 1)])
            assert row.failure is not None
            assert row.failure.kind == "InvalidPayload"


@contextmanager
def sleeping() -> Iterator[int]:
    """The PID of a process that does nothing."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        assert becomes(process.pid, "S")  # it is on its way to its read
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def state(pid: int) -> str:
    """The state of a process, as /proc has it."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat[stat.rindex(")") + 2]


def becomes(pid: int, wanted: str) -> bool:
    """Whether a process gets into a state: the kernel puts it there when the process runs next."""
    deadline = time.monotonic() + PATIENCE
    while state(pid) != wanted:
        if time.monotonic() > deadline:
            return False
        os.sched_yield()
    return True
