"""The process that writes, as the one that listens sees it: started, talked to, started again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
from pathlib import Path
from typing import Final, Protocol, cast

from asys.audit.collector.frames import FrameReader, Message, What
from asys.node.children import runner
from asys.node.clock import Clock, Handle

_log = logging.getLogger("asys.collector")

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 10.0
"""Seconds until a process that has died is started again; doubled each time."""

PROGRAM: Final = Path(__file__).with_name("disk.py")


class CannotStart(Exception):
    """The process that writes cannot work; why, and what to do."""


class Hearer(Protocol):
    """Who is told what the disk has said."""

    def answered(self, message: Message) -> None:
        """An answer for a connection."""

    def nodes_read(self, data: bytes | None, why: str) -> None:
        """`authorized_nodes` as it is now; None: it cannot be read, and why."""

    def disk_lost(self) -> None:
        """The process that writes has died: nothing that was said to it will be answered."""


class Keeper(asyncio.Protocol):
    """The process that writes; `up` while it serves."""

    def __init__(self, root: Path, hearer: Hearer, clock: Clock, *, debug: bool) -> None:
        self._root = root
        self._hearer = hearer
        self._clock = clock
        self._debug = debug
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pause = FIRST_PAUSE
        self._timer: Handle | None = None
        self._closed = False
        self.up = False

    @property
    def pid(self) -> int:
        """Of the process that writes; 0 while there is none."""
        return 0 if self._process is None else self._process.pid

    async def start(self) -> None:
        """Returns when it serves for the first time. CannotStart."""
        await self._launch()
        await self._first

    def say(self, connection: int, what: What, body: bytes = b"") -> None:
        """Says something to the disk; nothing happens while it is not up."""
        if self.up and self._transport is not None:
            self._transport.write(Message(connection, what, body).pack())

    def close(self) -> None:
        """Lets it end, which it does as soon as its disk lets it; that is not waited for."""
        self._closed = True
        self.up = False
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            with contextlib.suppress(OSError):  # at once; the transport itself closes later
                self._transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            self._transport.abort()
        if self._process is not None:
            try:
                self._process.wait(1)
            except subprocess.TimeoutExpired:
                _log.error(
                    "the disk of %s hangs: process %d can end only when it answers",
                    self._root,
                    self.pid,
                )
                self._process.returncode = 0  # PID 1 will ask how it ended

    async def _launch(self) -> None:
        """Starts it and the line to it. CannotStart."""
        ours = self._spawn()
        await asyncio.get_running_loop().create_connection(lambda: self, sock=ours)

    def _spawn(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        words = [str(theirs.fileno()), str(self._root), "1" if self._debug else "0"]
        try:
            self._process = subprocess.Popen(  # noqa: S603  this package's own program
                [*runner(), PROGRAM, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        except OSError as error:
            ours.close()
            raise CannotStart(f"the process that writes cannot be started: {error}") from error
        finally:
            theirs.close()
        return ours

    # -- as asyncio calls them

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The line to it."""
        self._reader = FrameReader()
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """What it says."""
        for message in self._reader.feed(data):
            self._hear(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has died, or was let go."""
        self.up = False
        self._transport = None
        if self._closed:
            return
        if not self._first.done():
            self._first.set_exception(CannotStart("the process that writes died as it began"))
            return
        _log.error("the process that writes has died; it is started again")
        self._hearer.disk_lost()
        self._timer = self._clock.call_later(self._pause, self._again)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _hear(self, message: Message) -> None:
        if message.what == What.MESSAGE:
            self._hearer.answered(message)
        elif message.what == What.NODES:
            self._hearer.nodes_read(message.body, "")
        elif message.what == What.NO_NODES:
            self._hearer.nodes_read(None, message.body.decode("utf-8", "replace"))
        elif message.what == What.FAILED:
            words = message.body.decode("utf-8", "replace")
            if self._first.done():
                _log.error("%s", words)
            else:
                self._first.set_exception(CannotStart(words))
        elif message.what == What.READY:
            self.up = True
            self._pause = FIRST_PAUSE
            if self._first.done():
                _log.warning("the process that writes is there again")
            else:
                self._first.set_result(None)

    def _again(self) -> None:
        self._timer = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0)  # reaps it
        self._starting = asyncio.get_running_loop().create_task(self._restart())

    async def _restart(self) -> None:
        try:
            await self._launch()
        except CannotStart as error:
            _log.error("%s", error)
            self._timer = self._clock.call_later(self._pause, self._again)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
