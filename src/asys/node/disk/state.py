"""The node's state on its disk, which may be full, broken or hung: asyd goes on, and can end.

The disk work is done by a child process. A thread would keep asyd alive: a process of which one
thread waits for a hung disk cannot be killed, and keeps asyd's port from its successor. What
threads do here is wait for the child.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import subprocess
import sys
import threading
from collections import deque
from concurrent.futures import Future
from pathlib import Path
from typing import Final

PATIENCE: Final = 5.0
"""Seconds after which a caller no longer waits."""

WRITER: Final = Path(__file__).with_name("state_writer.py")
"""The program of the child."""

_ERROR: Final = re.compile(rb"([0-9]+) ([^\n]*)\n")


async def replace(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replaces `path` by `data`, whole or not at all, on the disk when this returns.

    OSError as the disk says it. TimeoutError after `PATIENCE` seconds: it may still get there.
    Writes to one path are done in the order in which they were asked for; those that wait behind
    one that hangs are given up with a TimeoutError. Cancelling does not take a write back.
    """
    await _write(path, ("replace", f"{mode:o}"), data)


async def overwrite(path: Path, data: bytes) -> None:
    """Writes `data` over what is in `path`, on the disk when this returns.

    Takes no room, so that it works on a full disk; the file must be there with as many bytes.
    Atomic for one byte only. OSError, TimeoutError and order as with `replace`.
    """
    await _write(path, ("overwrite",), data)


async def _write(path: Path, what: tuple[str, ...], data: bytes) -> None:
    write = _Write(path, what, data)
    write.ask()
    try:
        async with asyncio.timeout(PATIENCE) as patience:
            await asyncio.wrap_future(write.outcome)
    except TimeoutError:
        if not patience.expired():  # the disk itself may say so
            raise
        write.give_up()
        message = f"{write.name}: the disk has not answered for {PATIENCE:g} s"
        raise TimeoutError(message) from None


_queues: Final[dict[str, deque[_Write]]] = {}
"""For each path that a thread is at work on, what comes next."""

_lock: Final = threading.Lock()


class _Write:
    """One write. A thread does those of one path, one after the other."""

    def __init__(self, path: Path, what: tuple[str, ...], data: bytes) -> None:
        self.name = os.path.abspath(path)
        self._what = what
        self._data = data
        self.outcome: Future[None] = Future()
        self.outcome.set_running_or_notify_cancel()  # a caller that is cancelled changes nothing

    def ask(self) -> None:
        """Has it done. OSError when there is no thread to be had."""
        with _lock:
            if self.name in _queues:
                _queues[self.name].append(self)
                return
            _queues[self.name] = deque([self])
            try:
                # No executor: it would be waited for when asyd ends.
                name = "asyd-state"
                threading.Thread(target=_work, args=(self.name,), name=name, daemon=True).start()
            except RuntimeError as error:
                del _queues[self.name]
                raise OSError(errno.EAGAIN, str(error), self.name) from error

    def give_up(self) -> None:
        """Has it not done, unless it has begun."""
        with _lock, contextlib.suppress(KeyError, ValueError):
            _queues[self.name].remove(self)

    def run(self) -> None:
        """Does it, however long that takes."""
        try:
            self._run()
        except BaseException as error:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(None)

    def _run(self) -> None:
        # Isolated, and without site-packages: it starts quickly and imports nothing foreign.
        command = [sys.executable, "-I", "-S", str(WRITER)]
        command += [*self._what, str(len(self._data)), self.name]
        with subprocess.Popen(  # noqa: S603  this package's own program
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            start_new_session=True,  # an interrupt from the terminal is not for it
        ) as child:
            answer, complaint = child.communicate(self._data)
        if answer == b"done\n":
            return
        if error := _ERROR.fullmatch(answer):
            raise OSError(int(error[1]), error[2].decode("utf-8", "replace"), self.name)
        last = complaint.decode("utf-8", "replace").strip().rpartition("\n")[2]
        what = f"its writer ended with {child.returncode} and no answer"
        raise OSError(errno.EIO, f"{what}: {last}" if last else what, self.name)


def _work(name: str) -> None:
    while True:
        with _lock:
            if not _queues[name]:
                del _queues[name]
                return
            write = _queues[name].popleft()
        write.run()
