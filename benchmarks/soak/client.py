"""The process behind a soak: `python -m benchmarks.soak.client`.

It reads orders, a line of JSON each, and answers each with one: first what the load is to be, which
opens the sessions; then `{"run": SECONDS, "churn": HERTZ}` and `{"leave": 0}`. It ends when its
stdin does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from types import ModuleType
from typing import Any

from asys.protocol.keys import PrivateKey
from benchmarks.light_nodes import allow_files
from benchmarks.plan import BenchmarkError
from benchmarks.soak.crowd import Crowd
from benchmarks.soak.plan import Plan
from benchmarks.soak.session import Agent

try:
    import uvloop
except ImportError:
    uvloop: ModuleType | None = None  # type: ignore[no-redef]

SPARE_FILES = 512


def order_of(
    host: str, port: int, node_key: bytes, agents: dict[PrivateKey, str], plan: Plan
) -> dict[str, Any]:
    """The first order; `agents` has the capabilities of each."""
    return {
        "host": host,
        "port": port,
        "node": node_key.hex(),
        "agents": [[key.raw().hex(), listed] for key, listed in agents.items()],
        "plan": asdict(plan),
    }


async def _main() -> None:
    loop = asyncio.get_running_loop()

    async def order() -> Any:
        line = await loop.run_in_executor(None, sys.stdin.readline)
        return json.loads(line) if line else None

    about = await order()
    plan = Plan(**about["plan"])
    allow_files(plan.sessions + SPARE_FILES)
    node_key = bytes.fromhex(about["node"])
    agents = [
        Agent(PrivateKey(bytes.fromhex(key)), node_key, listed) for key, listed in about["agents"]
    ]
    crowd = Crowd(about["host"], about["port"], agents, plan)
    await crowd.open()
    while True:
        print(json.dumps({"there": crowd.there, **crowd.ledger.as_json()}), flush=True)
        said = await order()
        if said is None:
            return
        if "run" in said:
            await crowd.run(said["run"], said["churn"])
        else:
            await crowd.leave()


if __name__ == "__main__":
    try:
        factory = uvloop.new_event_loop if uvloop is not None else None
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_main())
    except BenchmarkError as error:
        print(f"soak: {error}", file=sys.stderr)
        sys.exit(2)
