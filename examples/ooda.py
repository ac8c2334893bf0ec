"""The demo: an agent observes a node, finds the process that eats its CPU, and suspends it.

Everything is real: a node (`asyd`) on loopback with keys made for this run, a CPU hog, and an agent
that uses the SDK and nothing else. Needs no root. Exit status 1 when a step did not hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asys
from asys.isa import Process

HOG = "while True: pass"
BUSY_PERCENT = 20.0
CALM_PERCENT = 5.0
STEP_SECONDS = 30.0


class StepFailed(Exception):
    """A step of the demo did not hold."""


@contextlib.contextmanager
def running(*command: str, read: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A process that ends with the block, whatever happens in it."""
    output = subprocess.PIPE if read else None
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def node_for(agent: asys.Identity, directory: Path) -> Iterator[tuple[int, bytes]]:
    """A real asyd that knows `agent`; gives its port and its public key."""
    config = directory / "node"
    config.mkdir(mode=0o700)
    line = f"{agent.public.hex()} demo caps=core,PROC_THROTTLE\n"
    (config / "authorized_agents").write_text(line)
    (config / "authorized_agents").chmod(0o600)
    asyd = (sys.executable, "-c", "import sys; from asys.cli.daemon import main; sys.exit(main())")
    # The files of the audit can only grow, and this directory goes in the end.
    options = (
        "--config-dir",
        str(config),
        "--audit",
        "off",
        "--listen",
        "127.0.0.1",
        "--port",
        "0",
    )
    with running(*asyd, *options, read=True) as process:
        ready = process.stdout.readline().split() if process.stdout else []
        if not ready or ready[0] != "READY":
            raise StepFailed("asyd did not start; run it by hand to see why")
        yield int(ready[1].rpartition(":")[2]), bytes.fromhex(ready[2])


def show(exchange: asys.Exchange) -> None:
    """One line an answer: what it was, its status word, how long and how large it was."""
    print(
        f"    {exchange.instruction:<14} {exchange.sw:04X}  {exchange.round_trip_ns / 1000:8.0f} µs"
        f"  {exchange.bytes_sent:3d} bytes out, {exchange.bytes_received:3d} in"
    )


class Agent:
    """An agent at work; the last exchange is kept, so that polling prints one line a step."""

    def __init__(self) -> None:
        self.last: asys.Exchange | None = None

    def trace(self, exchange: asys.Exchange) -> None:
        """Notes every answer; a demo in which one is not 9000 has failed."""
        self.last = exchange

    def report(self, step: str) -> None:
        """Prints a step and the exchange that completed it."""
        print(f"  {step}")
        if self.last is not None:
            show(self.last)
            if self.last.sw != 0x9000:
                raise StepFailed(f"{self.last.instruction} answered {self.last.sw:04X}")

    async def until(self, node: asys.Node, pid: int, *, busy: bool) -> float:
        """Observes until the process is busy, or calm; returns its CPU in percent of a core."""
        async with asyncio.timeout(STEP_SECONDS):
            while True:
                found = [one for one in (await node.sys_procs()).top if one.pid == pid]
                cpu = found[0].cpu_percent if found else 0.0
                if cpu > BUSY_PERCENT if busy else cpu < CALM_PERCENT:
                    return cpu
                await asyncio.sleep(0.1)

    async def find_hog(self, node: asys.Node) -> Process:
        """Observes until one process takes a good part of a core for itself."""
        async with asyncio.timeout(STEP_SECONDS):
            while True:
                top = (await node.sys_procs()).top
                if top and top[0].cpu_percent > BUSY_PERCENT:
                    return top[0]
                await asyncio.sleep(0.1)


async def ooda(identity: asys.Identity, port: int, node_key: bytes, hog: int) -> None:
    """Observe, orient, decide, act; and look again after each act."""
    agent = Agent()
    async with asys.connect(
        "127.0.0.1", port, identity=identity, node_key=node_key, trace=agent.trace
    ) as node:
        await node.sys_hello()
        agent.report("connected: the node is alive")

        status = await node.sys_status()
        agent.report(f"observe: {status.cpu_percent} % CPU in use, load {status.load1}")

        process = await agent.find_hog(node)
        agent.report(f"orient:  PID {process.pid} takes {process.cpu_percent:.0f} % of a core")
        if process.pid != hog:
            print(
                f"    (this machine is busier than the demo's own hog, PID {hog}; that one it is)"
            )
            await agent.until(node, hog, busy=True)

        await node.proc_throttle(pid=hog, action="stop")
        agent.report(f"act:     suspend PID {hog}")

        cpu = await agent.until(node, hog, busy=False)
        agent.report(f"observe: PID {hog} takes {cpu:.0f} % of a core")
        status = await node.sys_status()
        agent.report(f"observe: {status.cpu_percent} % CPU in use")

        await node.proc_throttle(pid=hog, action="continue")
        agent.report(f"act:     resume PID {hog}")

        cpu = await agent.until(node, hog, busy=True)
        agent.report(f"observe: PID {hog} takes {cpu:.0f} % of a core again")


def main() -> int:
    """Sets the stage, lets the agent act, cleans up. Returns the exit status."""
    print("ASys: an agent finds a runaway process and suspends it; no shell anywhere")
    with tempfile.TemporaryDirectory(prefix="asys-demo-") as directory:
        identity = asys.Identity.create(Path(directory) / "agent")
        try:
            with (
                running(sys.executable, "-c", HOG) as hog,
                node_for(identity, Path(directory)) as (port, key),
            ):
                print(
                    f"  node on 127.0.0.1:{port}, key {key.hex()[:16]}...; CPU hog is PID {hog.pid}"
                )
                asyncio.run(ooda(identity, port, key, hog.pid))
        except (StepFailed, asys.AsysError, TimeoutError) as error:
            print(f"FAILED: {error or type(error).__name__}", file=sys.stderr)
            return 1
    print("every step answered 9000")
    return 0


if __name__ == "__main__":
    sys.exit(main())
