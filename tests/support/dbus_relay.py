"""Stands between a D-Bus client and a real peer, to lose, hold back and reorder what passes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Final

METHOD_RETURN: Final = 2
SIGNAL: Final = 4


def kind(message: bytes) -> int:
    """The type of a D-Bus message."""
    return message[1]


def _size(head: bytes) -> int:
    """The length of a message, from its first 16 bytes."""
    body, _, fields = struct.unpack_from("<3I" if head[:1] == b"l" else ">3I", head, 4)
    return 16 + int(fields + 7) // 8 * 8 + int(body)


class DBusRelay:
    """Listens at `path` and connects each client to the peer at `upstream`.

    `requests` sees each chunk from a client and says what is passed on; `answers` sees each
    message from the peer (after the authentication) and says which are passed on in its place.
    Both may cut(). While not `accepting`, clients are turned away.
    """

    def __init__(self, path: str, upstream: str) -> None:
        self.path = path
        self.address = f"unix:path={path}"
        self.accepting = True
        self.connections = 0
        """Clients so far, the refused ones too."""
        self.requests: Callable[[bytes], bytes] = lambda chunk: chunk
        self.answers: Callable[[bytes], list[bytes]] = lambda message: [message]
        self._upstream = upstream
        self._server: asyncio.Server | None = None
        self._pairs: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> DBusRelay:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        await self.broken()
        if self._server is not None:
            await self._server.wait_closed()

    def cut(self) -> None:
        """Breaks every connection, now."""
        for writer in self._writers:
            writer.transport.abort()

    def hang_up(self) -> None:
        """Closes towards the clients in this very step of the loop: theirs cannot know it yet."""
        for writer in self._writers:
            if writer.get_extra_info("sockname") == self.path:
                writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    async def broken(self) -> None:
        """Breaks every connection, and returns when nothing can be sent on any of them."""
        self.cut()
        if self._pairs:
            await asyncio.wait(self._pairs)

    async def seen(self, connections: int) -> None:
        """Waits until so many clients have come, in all."""
        while self.connections < connections:
            self._changed.clear()
            await self._changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._changed.set()
        if not self.accepting:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("not in a task")
        self._pairs.add(task)
        peer_reader, peer_writer = await asyncio.open_unix_connection(self._upstream)
        self._writers |= {writer, peer_writer}
        ways = [
            asyncio.create_task(self._to_peer(reader, peer_writer)),
            asyncio.create_task(self._from_peer(peer_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (writer, peer_writer):
                self._writers.discard(end)
                end.transport.abort()
                with contextlib.suppress(OSError):
                    await end.wait_closed()
            self._pairs.discard(task)

    async def _to_peer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65536):
                writer.write(self.requests(chunk))

    async def _from_peer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            writer.write(await reader.readuntil(b"\r\n"))  # OK, the answer to AUTH
            while True:
                head = await reader.readexactly(16)
                message = head + await reader.readexactly(_size(head) - 16)
                for passed in self.answers(message):
                    writer.write(passed)
