"""The process behind `many_nodes.Pollers`: one fleet for each session that a node is to have."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import Any, Final

from asys.client.identity import Identity
from asys.fleet import Fleet, NodeEntry
from asys.protocol.keys import PrivateKey
from benchmarks.light_nodes import allow_files

INTERVAL: Final = 1.0
"""Seconds from one question of a session to its next."""


class _Sessions:
    """Fleets that watch; counts the answers of each of their sessions."""

    def __init__(self, about: dict[str, Any]) -> None:
        identity = Identity(PrivateKey(bytes.fromhex(about["agent"])))
        nodes = [
            NodeEntry(name, host, port, bytes.fromhex(key))
            for name, host, port, key in about["nodes"]
        ]
        self._fleets = [Fleet(nodes, identity=identity) for _ in range(about["sessions"])]
        self._names = [one.name for one in nodes]
        self._answers: Counter[tuple[int, str]] = Counter()
        self._changed = asyncio.Condition()
        self._watching = [
            asyncio.create_task(self._watch(number)) for number in range(len(self._fleets))
        ]

    async def _watch(self, number: int) -> None:
        async for row in self._fleets[number].watch(INTERVAL):
            if row.ok:
                self._answers[number, row.node] += 1
                async with self._changed:
                    self._changed.notify_all()

    async def rounds(self, count: int, leaving_out: list[str]) -> int:
        """Returns when each of them has had so many more."""
        wanted = {
            (number, name): self._answers[number, name] + count
            for number in range(len(self._fleets))
            for name in self._names
            if name not in leaving_out
        }
        sessions = len(wanted)
        async with self._changed:
            while wanted:
                for key in [one for one in wanted if self._answers[one] >= wanted[one]]:
                    del wanted[key]
                if wanted:
                    await self._changed.wait()
        return sessions


async def _main() -> None:
    loop = asyncio.get_running_loop()
    about = json.loads(sys.stdin.readline())
    allow_files(about["sessions"] * len(about["nodes"]) + 256)
    sessions = _Sessions(about)
    order: dict[str, Any] = {"rounds": 1, "leaving_out": []}
    while True:
        answered = await sessions.rounds(order["rounds"], order["leaving_out"])
        print(json.dumps({"sessions": answered}), flush=True)
        line = await loop.run_in_executor(None, sys.stdin.readline)
        if not line:
            return
        order = json.loads(line)


if __name__ == "__main__":
    asyncio.run(_main())
