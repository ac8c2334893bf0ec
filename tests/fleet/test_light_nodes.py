"""A hundred nodes, played by one process: each answers, by one connection, and nothing is left."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest
from benchmarks.light_nodes import HOST, light_nodes

import asys
from asys.fleet import Fleet, NodeEntry

COUNT = 100


def _sockets() -> int:
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except FileNotFoundError:
            continue  # that of the listing itself
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="counts the sockets of this process")
async def test_a_hundred_nodes_answer_by_one_connection_each() -> None:
    identity = asys.Identity.generate()
    with light_nodes(COUNT, identity.public) as nodes:
        before = _sockets()
        tasks = len(asyncio.all_tasks())
        entries = [
            NodeEntry(f"n{number}", HOST, one.port, one.key, labels={"rack": str(number % 10)})
            for number, one in enumerate(nodes)
        ]
        async with Fleet(entries, identity=identity, deadline=60, concurrency=16) as fleet:
            for _ in range(3):
                rows = await fleet.status()
                assert {row.node for row in rows if row.ok} == {one.name for one in entries}
                assert {row.connection for row in rows} == {1}
            assert _sockets() == before + COUNT
            assert len(await fleet.select("rack=3").procs()) == COUNT // 10
            assert len(asyncio.all_tasks()) == tasks
        assert _sockets() == before


async def test_they_let_nobody_else_in() -> None:
    with light_nodes(1, asys.Identity.generate().public) as [node]:
        entry = NodeEntry("n", HOST, node.port, node.key)
        async with Fleet([entry], identity=asys.Identity.generate(), deadline=60) as fleet:
            [row] = await fleet.status()
            assert row.failure is not None
            assert row.failure.kind in ("AgentRejected", "ConnectionLost")
