"""How a worker is started: what asyd's pool asks of a launcher, and which one this machine has."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from asys.node.vendor.enabled import Enabled

WORKER: Final = Path(__file__).resolve().parents[2] / "vendor" / "worker.py"
"""The program of every worker."""

PROCESSES: Final = 32
"""How many processes and threads a worker may be."""


class LaunchError(Exception):
    """A worker cannot be started, now or here; the message says why."""


class Running(Protocol):
    """A worker that has been started."""

    socket: socket.socket
    """The connection to it, for whoever closes it."""

    @property
    def pids(self) -> tuple[int, ...]:
        """Its processes that no agent may touch; none once it has ended."""

    async def end(self) -> bool:
        """Sees to it that it has ended. Whether it was killed as memory ran out.

        A worker that has hung up gets a moment to end by itself, so that its end can be told.
        """


class Launcher(Protocol):
    """Starts workers in one way."""

    name: str
    """For the log."""

    def refusal(self, enabled: Enabled) -> str:
        """Why a vendor cannot have what it is to have, or ''."""

    async def launch(self, enabled: Enabled) -> Running:
        """Starts a worker. LaunchError."""

    async def close(self) -> None:
        """Nothing more will be started."""


def import_path() -> list[str]:
    """The directories from which asyd imports, so that a worker finds the same packages."""
    return [path for path in sys.path if path and os.path.isdir(path)]


def needed(path: Sequence[str]) -> tuple[str, ...]:
    """The directories that a worker must be able to read, none within another."""
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, str(WORKER.parents[2])}
    wanted = {os.path.abspath(one) for one in (*prefixes, *path)}
    wanted |= {os.path.realpath(one) for one in wanted}
    wanted = {one for one in wanted if os.path.isdir(one)}
    return tuple(
        one
        for one in sorted(wanted)
        if not any(one != other and Path(one).is_relative_to(other) for other in wanted)
    )
