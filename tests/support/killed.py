"""An asyd that a test may kill, also in the middle of a call."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from typing import Final

from support.daemon import PATIENCE, Daemon
from support.own_daemon import argv, config

_ESTABLISHED: Final = "01"


@contextmanager
def started(directory: Path) -> Iterator[Daemon]:
    """An asyd that knows AGENT, and may be killed at any time; its files are in `directory`."""
    config_dir = config(directory)
    daemon = Daemon(config_dir, argv(config_dir), read_log=True)
    try:
        daemon.await_ready()
        yield daemon
    finally:
        daemon.kill()


@asynccontextmanager
async def killed_at_next_call(daemon: Daemon) -> AsyncIterator[None]:
    """Stops an asyd, and kills it as soon as something is sent to it, which it never reads."""
    os.kill(daemon.pid, signal.SIGSTOP)
    killing = asyncio.create_task(_kill_when_sent(daemon))
    try:
        yield
        await killing
    finally:
        killing.cancel()
        await asyncio.wait((killing,))


async def _kill_when_sent(daemon: Daemon) -> None:
    async with asyncio.timeout(PATIENCE):
        await _until_sent(daemon.endpoint[1])
    daemon.kill()


async def _until_sent(port: int) -> None:
    # The kernel tells nobody of this, so one has to look.
    for _ in count():
        if _unread(port):
            return
        await asyncio.sleep(0.01)


def _unread(port: int) -> int:
    """Bytes that have arrived at a port of loopback, on all connections, and were not read."""
    found = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, _, status, queues = line.split()[1:5]
        if status == _ESTABLISHED and int(local.partition(":")[2], 16) == port:
            found += int(queues.partition(":")[2], 16)
    return found
