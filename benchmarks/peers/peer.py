"""What a peer is: a server that stands for the node, and a client as an agent would have it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.nodes import first_line, running
from benchmarks.peers.jobs import Job
from benchmarks.plan import BenchmarkError

HOST: Final = "127.0.0.1"

ASK_SECONDS: Final = 60.0
"""How long an answer may take before the peer counts as broken."""

KEPT_SECONDS: Final = 120.0
"""How long a connection is kept that nobody uses, where that can be chosen."""

Ask = Callable[[Job], str]
"""Has a job done; gives what a model would be shown. BenchmarkError: it was not done."""


@dataclass(frozen=True, slots=True)
class Rig:
    """What a peer gets: a directory of its own, and what its server is started with.

    `launcher` is a command that executes what stands behind it, in the same process.
    """

    directory: Path
    launcher: Sequence[str] = ()

    @contextmanager
    def serving(self, command: Sequence[str]) -> Iterator[int]:
        """A server that prints the port that it listens on; it ends with the block."""
        said = self.directory / "server.log"
        with (
            said.open("wb") as log,
            running([*self.launcher, *command], log, read=True) as process,
        ):
            line = first_line(process)
            if not line.strip().isdigit():
                raise BenchmarkError(f"the server did not start: {last_words(said.read_text())}")
            yield int(line)


class Peer(ABC):
    """One way to ask a node. Its server is started once; clients come and go."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    @abstractmethod
    def serve(self) -> AbstractContextManager[int]:
        """Starts the server; gives its port on loopback."""

    @abstractmethod
    def connect(self, port: int) -> AbstractContextManager[Ask]:
        """A new client of the server, which is at `port` or behind a relay there."""


def last_words(text: str) -> str:
    """The end of what a program said, for a message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
