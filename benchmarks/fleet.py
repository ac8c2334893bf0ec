"""Rows of a fleet: what many sessions cost each node, and what many nodes cost who asks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from statistics import median
from typing import Any, Final

from asys.client.identity import Identity
from asys.fleet import Fleet
from asys.protocol.keys import PrivateKey
from benchmarks.bench import Bench, Unavailable, side_by_side
from benchmarks.light_nodes import LightNode, light_nodes
from benchmarks.line import Target
from benchmarks.machine import cpu_seconds, proportional_kib
from benchmarks.many_nodes import CHECKOUT, START_SECONDS, Pollers, entries, real_nodes
from benchmarks.plan import BenchmarkError
from benchmarks.stats import Ratio
from benchmarks.table import Row

DEADLINE: Final = 30.0
"""Seconds that a node has; nobody waits for the one that is stopped."""


def many(bench: Bench, target: Target) -> Iterator[Row]:
    """Real nodes with many sessions each, then a client of light ones."""
    if target is not bench.own:
        raise Unavailable("a fleet is made of nodes of this run")
    yield from _real(bench)
    yield from _light(bench)


def _real(bench: Bench) -> Iterator[Row]:
    plan = bench.plan
    agent = PrivateKey.generate()
    with real_nodes(bench.directory / "fleet", plan.fleet_nodes, agent) as nodes:
        fresh = _memory(nodes)
        with Pollers(nodes, 1):
            single = _cpu(nodes, plan.seconds)
        with Pollers(nodes, plan.fleet_sessions):
            memory = _memory(nodes)
            cpu = _cpu(nodes, plan.seconds)
        whose = f"each of {len(nodes)}, {plan.fleet_sessions} sessions at 1 Hz"
        yield _row(f"memory, {whose}", memory, "MiB", "no session", fresh)
        yield _row(f"CPU, {whose}", cpu, "%", "1 session", single)
        yield _beside_a_stalled_one(bench, nodes, agent)


def _memory(nodes: Sequence[Target]) -> list[float]:
    return [proportional_kib(_pid(one)) / 1024 for one in nodes]


def _cpu(nodes: Sequence[Target], seconds: float) -> list[float]:
    """What each node uses, in percent of a CPU."""
    before = [cpu_seconds(_pid(one)) for one in nodes]
    began = time.perf_counter()
    time.sleep(max(seconds, 1.5))  # a question comes once a second
    elapsed = time.perf_counter() - began
    after = [cpu_seconds(_pid(one)) for one in nodes]
    return [100 * (two - one) / elapsed for one, two in zip(before, after, strict=True)]


def _row(
    name: str, values: Sequence[float], unit: str, beside: str, others: Sequence[float]
) -> Row:
    ratios = [one / other for one, other in zip(values, others, strict=True) if other]
    return Row(
        "fleet",
        name,
        "asyd",
        median(values),
        unit,
        beside,
        median(others),
        Ratio.of(ratios) if ratios else None,
    )


def _beside_a_stalled_one(bench: Bench, nodes: Sequence[Target], agent: PrivateKey) -> Row:
    """How long it takes until all others have answered: with one stopped, one dead, and without."""
    stalled, dead, *others = nodes
    names = {one.name for one in others}
    identity = Identity(agent)
    whole = Fleet(entries(nodes), identity=identity, deadline=DEADLINE)
    well = Fleet(entries(others), identity=identity, deadline=DEADLINE)

    async def answered(fleet: Fleet) -> float:
        began = time.perf_counter_ns()
        missing = set(names)
        async for row in fleet.status():
            if row.node in missing and not row.ok:
                raise BenchmarkError(f"{row.node}: {row.failure}")
            missing.discard(row.node)
            if not missing:
                break
        return time.perf_counter_ns() - began

    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        runner.run(whole.status().collect())
        os.kill(_pid(stalled), signal.SIGSTOP)
        stack.callback(os.kill, _pid(stalled), signal.SIGCONT)
        os.kill(_pid(dead), signal.SIGKILL)
        measured = side_by_side(
            bench.plan.fleet_rounds,
            lambda: runner.run(answered(whole)),
            lambda: runner.run(answered(well)),
        )
        runner.run(whole.close())
        runner.run(well.close())
    return Row(
        "fleet",
        "all others answered, 1 stopped, 1 dead",
        "asyd",
        measured.one / 1e6,
        "ms",
        "all well",
        measured.other / 1e6,
        measured.ratio,
    )


def _light(bench: Bench) -> Iterator[Row]:
    plan = bench.plan
    few, most = (_client(count, plan.fleet_rounds) for count in plan.light_nodes)
    count = plan.light_nodes[1]
    beside = f"of {plan.light_nodes[0]}"
    for name, key, unit in (
        ("memory", "memory_kib", "KiB"),
        ("CPU to connect", "first_us", "us"),
    ):
        # So few nodes may fit in memory that was there already.
        ratio = Ratio.of([most[key] / few[key]]) if few[key] > 0 else None
        yield Row(
            "fleet",
            f"client: {name}, each of {count}",
            "light",
            most[key],
            unit,
            beside,
            few[key],
            ratio if ratio is not None and ratio.median > 0 else None,
        )
    yield Row(
        "fleet",
        f"client: CPU of a poll, each of {count}",
        "light",
        most["poll_us"],
        "us",
        "SDK alone",
        most["bare_us"],
        Ratio.of(most["ratios"]),
    )


def _client(count: int, rounds: int) -> dict[str, Any]:
    agent = PrivateKey.generate()
    with light_nodes(count, agent.public) as nodes:
        return _measured(agent, nodes, rounds)


def _measured(agent: PrivateKey, nodes: Sequence[LightNode], rounds: int) -> dict[str, Any]:
    about = {
        "agent": agent.raw().hex(),
        "nodes": [[one.port, one.key.hex()] for one in nodes],
        "rounds": rounds,
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fleet_client"],
        input=json.dumps(about) + "\n",
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        timeout=START_SECONDS,
        check=False,
    )
    if done.returncode:
        raise BenchmarkError(f"the client of the light nodes failed: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _pid(node: Target) -> int:
    if node.pid is None:
        raise BenchmarkError(f"{node.name} does not run here")
    return node.pid
