"""A fleet of real nodes on this machine, and a process that polls them from many sessions."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

from asys.fleet import NodeEntry
from asys.protocol.keys import PrivateKey
from benchmarks.line import Target
from benchmarks.nodes import ASYD, running
from benchmarks.plan import BenchmarkError

HOST: Final = "127.0.0.1"

START_SECONDS: Final = 300.0
"""For all of them together: they start at once, and share what CPUs there are."""

CHECKOUT: Final = Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def real_nodes(directory: Path, count: int, agent: PrivateKey) -> Iterator[list[Target]]:
    """So many asyd, each with its files below `directory`; they end with the block."""
    with contextlib.ExitStack() as stack:
        started = [
            (name, stack.enter_context(_asyd(directory / name, agent)))
            for name in names("node", count)
        ]
        found = []
        for name, process in started:
            words = line_of(process, START_SECONDS).split()
            if len(words) != 3 or words[0] != "READY":
                said = (directory / name / "log").read_text().strip()
                raise BenchmarkError(f"asyd did not start: {said}")
            port = int(words[1].rpartition(":")[2])
            found.append(Target(name, HOST, port, bytes.fromhex(words[2]), agent, process.pid))
        yield found


@contextlib.contextmanager
def _asyd(directory: Path, agent: PrivateKey) -> Iterator[subprocess.Popen[str]]:
    directory.mkdir(mode=0o700, parents=True)
    agents = directory / "authorized_agents"
    agents.write_text(f"{agent.public.hex()} bench caps=core,PROC_THROTTLE\n")
    agents.chmod(0o600)
    options = ["--config-dir", str(directory), "--listen", HOST, "--port", "0", "--audit", "off"]
    options += ["--max-sessions-per-key", "1024", "--handshake-rate", "0"]
    with (
        (directory / "log").open("wb") as log,
        running([sys.executable, "-c", ASYD, *options], log, read=True) as process,
    ):
        yield process


def names(stem: str, count: int) -> list[str]:
    """Names of so many nodes."""
    return [f"{stem}{number:04}" for number in range(count)]


def entries(nodes: Sequence[Target]) -> list[NodeEntry]:
    """The nodes as an inventory has them."""
    return [NodeEntry(one.name, one.host, one.port, one.node_key) for one in nodes]


def line_of(process: subprocess.Popen[str], seconds: float) -> str:
    """The next line that a process prints; nothing where none comes in time."""
    out = _pipe(process.stdout)
    return out.readline() if select.select([out], [], [], seconds)[0] else ""


class Pollers:
    """Another process, with so many sessions on each node, all of which ask SYS_STATUS at 1 Hz."""

    def __init__(self, nodes: Sequence[Target], sessions: int) -> None:
        self._process: Final = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.pollers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
        )
        about = {
            "agent": nodes[0].agent.raw().hex(),
            "sessions": sessions,
            "nodes": [[one.name, one.host, one.port, one.node_key.hex()] for one in nodes],
        }
        try:
            self._ask(about)
        except BaseException:
            self.close()
            raise

    def rounds(self, count: int, leaving_out: Sequence[str] = ()) -> int:
        """Returns when each session has had so many more answers, those with some nodes left out.

        It gives how many sessions that are. BenchmarkError when it takes too long.
        """
        answered: int = self._ask({"rounds": count, "leaving_out": list(leaving_out)})["sessions"]
        return answered

    def _ask(self, order: dict[str, Any]) -> Any:
        into = _pipe(self._process.stdin)
        into.write(json.dumps(order) + "\n")
        into.flush()
        line = line_of(self._process, START_SECONDS)
        if not line:
            raise BenchmarkError("the sessions that poll have stopped to do so")
        return json.loads(line)

    def close(self) -> None:
        """Ends it, and its sessions."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Pollers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise BenchmarkError("a process without its pipes")
    return pipe
