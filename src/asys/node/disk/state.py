"""The node's state on its disk, which may be full, broken or hung: asyd goes on, and can end.

The disk work is done by a child process. A thread would keep asyd alive: a process of which one
thread waits for a hung disk cannot be killed, and keeps asyd's port from its successor. The child
is started once (`scribe.py`), so that a write starts nothing: when memory has run out, nothing can
be started.
"""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Final

from asys.node.disk.scribe import Asked, Scribe
from asys.node.disk.state_writer import OVERWRITE, REMOVE, REPLACE, Write

PATIENCE: Final = 5.0
"""Seconds after which a caller no longer waits."""

_starting: Final = threading.Lock()
_scribe: Scribe | None = None


def start() -> Scribe:
    """Starts what writes, where that has not been done; asyd does it before anybody may ask.

    OSError when there is no thread to be had. The child is started, and started anew when it has
    died, by that thread.
    """
    global _scribe
    with _starting:
        if _scribe is None:
            _scribe = Scribe()
        return _scribe


def stop() -> None:
    """Lets go of what writes. What has been handed over whole is still written, by the child."""
    global _scribe
    with _starting:
        if _scribe is not None:
            _scribe.close()
            _scribe = None


async def replace(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replaces `path` by `data`, whole or not at all, on the disk when this returns.

    OSError as the disk says it. TimeoutError after `PATIENCE` seconds: it may still get there.
    Writes to one path are done in the order in which they were asked for; those that wait behind
    one that hangs are given up with a TimeoutError. Cancelling does not take a write back.
    """
    await _write(Asked(path, REPLACE, mode, data))


async def overwrite(path: Path, data: bytes) -> None:
    """Writes `data` over what is in `path`, on the disk when this returns.

    Takes no room, so that it works on a full disk; the file must be there with as many bytes.
    Atomic for one byte only. OSError, TimeoutError and order as with `replace`.
    """
    await _write(Asked(path, OVERWRITE, 0, data))


async def remove(path: Path) -> None:
    """Removes `path`, which need not be there; that is on the disk when this returns.

    OSError, TimeoutError and order as with `replace`.
    """
    await _write(Asked(path, REMOVE, 0, b""))


async def carry_out(write: Write) -> None:
    """Any of these, as it is written down. OSError and TimeoutError as with `replace`."""
    path = Path(os.fsdecode(write.path))
    await _write(Asked(path, write.what, write.mode, write.data))


async def _write(asked: Asked) -> None:
    scribe = start()
    scribe.ask(asked)
    try:
        async with asyncio.timeout(PATIENCE) as patience:
            await asyncio.wrap_future(asked.outcome)
    except TimeoutError:
        if not patience.expired():  # the disk itself may say so
            raise
        scribe.give_up(asked)
        message = f"{asked.name}: the disk has not answered for {PATIENCE:g} s"
        raise TimeoutError(message) from None
