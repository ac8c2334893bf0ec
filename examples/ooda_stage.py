"""What the examples for agent frameworks share: a node, a hog, a scripted model, and a person.

Nothing here belongs to a framework; the examples beside it show how each one is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asys

HOG = "while True: pass"
BUSY_PERCENT = 20.0
CALM_PERCENT = 5.0
POLL_SECONDS = 0.1
DEMO_SECONDS = 120.0

Wanted = tuple[str, dict[str, Any]]
"""A tool and its arguments."""


class StepFailed(Exception):
    """A step of the demo did not hold."""


@dataclass(frozen=True)
class Stage:
    """A node that grants this agent a little, and a process on it that takes too much."""

    identity: asys.Identity
    port: int
    node_key: bytes
    hog: int

    def connect(self) -> asys.Connecting:
        """A connection that is made again when it is lost."""
        return asys.connect(
            "127.0.0.1",
            self.port,
            identity=self.identity,
            node_key=self.node_key,
            reconnect=True,
        )


class Model:
    """A scripted model. It sees what any model sees: its tools, and the texts of their results."""

    def __init__(self, hog: int) -> None:
        self._thought = self._think(hog)
        self._last: Wanted | None = None
        self._begun = False

    async def decide(self, heard: str) -> Wanted | None:
        """What it wants after it has heard the last result; None: it has finished."""
        try:
            wanted = self._thought.send(heard) if self._begun else next(self._thought)
        except StopIteration:
            return None
        self._begun = True
        if wanted == self._last:
            await asyncio.sleep(POLL_SECONDS)
        self._last = wanted
        return wanted

    def _think(self, hog: int) -> Generator[Wanted, str, None]:
        print("observe: how is the node?")
        status = yield "sys_status", {}
        print(f"    {_line(status, 'cpu_percent')}, {_line(status, 'load1')}")
        print("orient:  which process is it?")
        while (yield from self._cpu(hog)) < BUSY_PERCENT:
            pass
        print(f"decide:  PID {os.getpid()}? The person says no, and so it does not happen")
        heard = yield "proc_throttle", {"pid": os.getpid(), "action": "stop"}
        if heard.startswith("proc_throttle: done"):
            raise StepFailed("something was done that nobody wanted")
        print(f"decide:  PID {hog} takes what others need, and can go on later: suspend it")
        print(f"    {_done((yield 'proc_throttle', {'pid': hog, 'action': 'stop'}))}")
        print("observe: did it help?")
        while (yield from self._cpu(hog)) > CALM_PERCENT:
            pass
        print("act:     let it go on")
        print(f"    {_done((yield 'proc_throttle', {'pid': hog, 'action': 'continue'}))}")
        while (yield from self._cpu(hog)) < BUSY_PERCENT:
            pass
        print("observe: it runs again")

    def _cpu(self, pid: int) -> Generator[Wanted, str, float]:
        """What share of a core the process takes, as the node says."""
        heard = yield "sys_procs", {}
        found = re.search(rf"\bpid {pid}, .*?\bcpu_percent ([0-9.]+) %", heard)
        return float(found[1]) if found else 0.0


def person(hog: int, arguments: Mapping[str, Any]) -> bool:
    """Says yes to what concerns the hog, and no to all else."""
    yes = arguments.get("pid") == hog
    print(f"    asked:  {dict(arguments)}? {'yes' if yes else 'no'}")
    return yes


def run(title: str, act: Callable[[Stage], Awaitable[None]]) -> int:
    """Sets the stage, lets the agent act, cleans up. Returns the exit status."""
    print(title)
    with tempfile.TemporaryDirectory(prefix="asys-demo-") as directory:
        identity = asys.Identity.create(Path(directory) / "agent")
        try:
            with (
                _running(sys.executable, "-c", HOG) as hog,
                _node_for(identity, Path(directory)) as (port, key),
            ):
                asyncio.run(_in_time(act(Stage(identity, port, key, hog.pid))))
        except (StepFailed, asys.AsysError, TimeoutError) as error:
            print(f"FAILED: {error or type(error).__name__}", file=sys.stderr)
            return 1
    print("every step held")
    return 0


async def _in_time(acting: Awaitable[None]) -> None:
    async with asyncio.timeout(DEMO_SECONDS):
        await acting


def _line(text: str, name: str) -> str:
    """The line of a result that has that name."""
    found = [line for line in text.splitlines() if line.startswith(f"{name}: ")]
    if not found:
        raise StepFailed(f"no {name} in {text!r}")
    return found[0]


def _done(text: str) -> str:
    if not text.startswith("proc_throttle: done"):
        raise StepFailed(text)
    return text


@contextlib.contextmanager
def _running(*command: str, read: bool = False) -> Iterator[subprocess.Popen[str]]:
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
def _node_for(agent: asys.Identity, directory: Path) -> Iterator[tuple[int, bytes]]:
    """A real asyd that grants `agent` a little; gives its port and its public key."""
    config = directory / "node"
    config.mkdir(mode=0o700)
    agents = config / "authorized_agents"
    agents.write_text(f"{agent.public.hex()} demo caps=core,PROC_THROTTLE\n")
    agents.chmod(0o600)
    asyd = (sys.executable, "-c", "import sys; from asys.cli.daemon import main; sys.exit(main())")
    options = ("--listen", "127.0.0.1", "--port", "0", "--audit", "off")
    with _running(*asyd, "--config-dir", str(config), *options, read=True) as process:
        ready = process.stdout.readline().split() if process.stdout else []
        if not ready or ready[0] != "READY":
            raise StepFailed("asyd did not start; run it by hand to see why")
        yield int(ready[1].rpartition(":")[2]), bytes.fromhex(ready[2])
