"""The process that measures what a fleet costs the side that asks. See `benchmarks.fleet`.

It reads one line of JSON, {"agent", "nodes": [[port, key], ...], "rounds"}, and prints one: memory
in KiB and CPU time in us, for each node.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from statistics import median
from typing import Any

from asys.client.aio import Node, connect
from asys.client.identity import Identity
from asys.fleet import Fleet, NodeEntry
from asys.protocol.keys import PrivateKey
from benchmarks.light_nodes import HOST, allow_files
from benchmarks.machine import proportional_kib

DEADLINE = 60.0


def _cpu_us() -> float:
    return time.process_time_ns() / 1000


async def _fleet_round(fleet: Fleet, count: int) -> float:
    began = _cpu_us()
    rows = await fleet.status()
    used = _cpu_us() - began
    if len(rows) != count or not all(row.ok for row in rows):
        raise RuntimeError(str(next(row.failure for row in rows if not row.ok)))
    return used / count


async def _bare_round(nodes: list[Node]) -> float:
    began = _cpu_us()
    await asyncio.gather(*(one.sys_status() for one in nodes))
    return (_cpu_us() - began) / len(nodes)


async def _main(about: dict[str, Any]) -> dict[str, Any]:
    identity = Identity(PrivateKey(bytes.fromhex(about["agent"])))
    places = [(port, bytes.fromhex(key)) for port, key in about["nodes"]]
    count = len(places)
    entries = [
        NodeEntry(f"light{number}", HOST, port, key) for number, (port, key) in enumerate(places)
    ]
    async with Fleet(entries[:1], identity=identity, deadline=DEADLINE) as one:
        await one.status()  # everything is imported now
    gc.collect()
    before = proportional_kib(os.getpid())
    async with Fleet(entries, identity=identity, deadline=DEADLINE) as fleet:
        first = await _fleet_round(fleet, count)
        await _fleet_round(fleet, count)
        gc.collect()
        memory = (proportional_kib(os.getpid()) - before) / count
        bare: list[Node] = []
        for port, key in places:
            bare.append(
                await connect(HOST, port, identity=identity, node_key=key, timeout=DEADLINE)
            )
        pairs = []
        for number in range(about["rounds"]):
            if number % 2:
                mine = await _fleet_round(fleet, count)
                pairs.append((mine, await _bare_round(bare)))
            else:
                plain = await _bare_round(bare)
                pairs.append((await _fleet_round(fleet, count), plain))
        for node in bare:
            await node.close()
    return {
        "memory_kib": memory,
        "first_us": first,
        "poll_us": median(mine for mine, _ in pairs),
        "bare_us": median(plain for _, plain in pairs),
        "ratios": [mine / plain for mine, plain in pairs],
    }


if __name__ == "__main__":
    given = json.loads(sys.stdin.readline())
    allow_files(2 * len(given["nodes"]) + 256)
    print(json.dumps(asyncio.run(_main(given))), flush=True)
