"""A D-Bus connection for a few small calls: every call has a deadline, signals go to a callback.

The peer is a message bus, or one service alone ("direct"), as behind systemd's private socket.
`dbus-fast` packs and parses the messages. Its own connections do not fit: they always say Hello,
which only a bus knows, and they leave closed descriptors with the event loop, over which uvloop
aborts the whole process.
"""

from __future__ import annotations

import asyncio
import io
import os
import struct
from collections.abc import Callable
from typing import Final, cast
from urllib.parse import unquote

from dbus_fast import Message, MessageType
from dbus_fast._private.unmarshaller import Unmarshaller

AUTH_LINE_LIMIT: Final = 1024
"""Bytes of an answer to the authentication."""

MESSAGE_LIMIT: Final = 1 << 20
"""Bytes of a message that is kept. A longer one is none of ours, and passes by unread."""

HEAD_SIZE: Final = 16
"""Bytes at the start of a message that tell its length."""

_SIGNAL: Final = MessageType.SIGNAL.value


class CannotConnect(Exception):
    """There is no connection; the message says why."""


class NotSent(Exception):
    """The connection had ended before the call was made."""


class ReplyLost(Exception):
    """The connection ended after the call was made: whether it was carried out is not known."""


def encode(message: Message) -> bytes:
    """A message as bytes. With decode(), all that leans on private names of the library."""
    return bytes(message._marshall(False))


def decode(raw: bytes) -> Message | None:
    """A whole message from its bytes; None where they are none."""
    try:
        # Any reader will do; only its type is narrower.
        return Unmarshaller(cast(io.BufferedRWPair, io.BytesIO(raw))).unmarshall()
    except Exception:  # what the parser lets out is of many kinds
        return None


def message_size(head: bytes) -> int:
    """The length of a message, from its first HEAD_SIZE bytes; 0 where they begin none."""
    if head[:1] not in (b"l", b"B"):
        return 0
    body, _, fields = struct.unpack_from("<3I" if head[:1] == b"l" else ">3I", head, 4)
    return HEAD_SIZE + int(fields + 7) // 8 * 8 + int(body)


def socket_path(address: str) -> str:
    """The path in a D-Bus address. CannotConnect when it has none."""
    for alternative in address.split(";"):
        transport, _, options = alternative.partition(":")
        for option in options.split(","):
            key, _, value = option.partition("=")
            if (transport, key) == ("unix", "path") and value:
                return unquote(value)
    raise CannotConnect(f"{address!r} has no Unix socket; write unix:path=/PATH")


class DBusConnection(asyncio.Protocol):
    """An open connection. One loop, no thread. `open()` makes one."""

    def __init__(
        self,
        timeout_s: float,
        signals: frozenset[bytes],
        on_signal: Callable[[DBusConnection, Message], None],
        on_lost: Callable[[DBusConnection], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s
        self._signals = signals
        self._on_signal = on_signal
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._authenticated: asyncio.Future[None] | None = loop.create_future()
        self._lost: asyncio.Future[None] = loop.create_future()
        self._buffer = bytearray()
        self._skip = 0
        self._serial = 0
        self._replies: dict[int, asyncio.Future[Message]] = {}

    @classmethod
    async def open(
        cls,
        address: str,
        *,
        direct: bool,
        timeout_s: float,
        signals: frozenset[str],
        on_signal: Callable[[DBusConnection, Message], None],
        on_lost: Callable[[DBusConnection], None],
    ) -> DBusConnection:
        """Connects to a D-Bus address `unix:path=...`.

        Signals whose member is one of `signals` are handed to `on_signal`; `on_lost` is called once
        when the connection has ended, for whatever reason. Raises CannotConnect, and TimeoutError
        after `timeout_s`.
        """
        path = socket_path(address)
        members = frozenset(signal.encode() for signal in signals)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_unix_connection(
                    lambda: cls(timeout_s, members, on_signal, on_lost), path
                )
                try:
                    await connection._introduce(direct)
                except BaseException:
                    await connection.close()
                    raise
        except TimeoutError:
            raise
        except (OSError, NotSent, ReplyLost) as error:
            reason = str(error) or "it does not speak D-Bus, or closed at once"
            raise CannotConnect(f"{address}: {reason}") from error
        return connection

    @property
    def alive(self) -> bool:
        """Whether a call can be made."""
        return self._transport is not None and not self._transport.is_closing()

    async def call(self, message: Message) -> Message:
        """Makes a method call and returns its reply, a METHOD_RETURN or an ERROR.

        Raises NotSent, ReplyLost, and TimeoutError after the connection's `timeout_s`.
        """
        if self._transport is None or self._transport.is_closing():
            raise NotSent
        self._serial += 1
        message.serial = serial = self._serial
        reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._replies[serial] = reply
        try:
            async with asyncio.timeout(self._timeout_s):
                self._transport.write(encode(message))
                return await reply
        finally:
            del self._replies[serial]
            if reply.done() and not reply.cancelled():
                reply.exception()  # seen, even where the caller has gone meanwhile

    def drop(self) -> None:
        """Ends the connection; `on_lost` follows."""
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """Ends the connection and waits until it has ended. May be called again."""
        self.drop()
        await asyncio.shield(self._lost)

    async def _introduce(self, direct: bool) -> None:
        """Names the user and begins, in one write; then says Hello where a bus listens.

        systemd's end goes to sleep over a first message that it reads together with BEGIN, until
        more arrives. BEGIN has no answer to wait for; so it travels with AUTH, which has one.
        """
        if self._transport is None or self._authenticated is None:
            raise NotSent
        user = str(os.geteuid()).encode().hex()
        self._transport.write(f"\0AUTH EXTERNAL {user}\r\nBEGIN\r\n".encode())
        await self._authenticated
        if not direct:
            hello = await self.call(
                Message(
                    destination="org.freedesktop.DBus",
                    path="/org/freedesktop/DBus",
                    interface="org.freedesktop.DBus",
                    member="Hello",
                )
            )
            if hello.message_type is MessageType.ERROR:
                raise ConnectionRefusedError(f"no bus answers there: {hello.error_name}")

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        self._buffer += data[skipped:]
        if self._authenticated is None or self._read_answer(self._authenticated):
            self._read_messages()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        waiting: list[asyncio.Future[None] | asyncio.Future[Message]] = [*self._replies.values()]
        if self._authenticated is not None:
            waiting.append(self._authenticated)
        for future in waiting:
            if not future.done():
                future.set_exception(ReplyLost())
        self._lost.set_result(None)
        self._on_lost(self)

    # What has been received

    def _read_answer(self, authenticated: asyncio.Future[None]) -> bool:
        """Reads the answer to AUTH. Whether messages follow."""
        line, end, rest = self._buffer.partition(b"\r\n")
        if not end and len(line) <= AUTH_LINE_LIMIT:
            return False
        if not end or not line.startswith(b"OK "):
            if not authenticated.done():
                authenticated.set_exception(PermissionError(f"user refused: {bytes(line[:80])!r}"))
            self.drop()
            return False
        self._authenticated = None
        self._buffer = rest
        if not authenticated.done():
            authenticated.set_result(None)
        return True

    def _read_messages(self) -> None:
        """Takes all whole messages out of the buffer."""
        while len(self._buffer) >= HEAD_SIZE:
            size = message_size(bytes(self._buffer[:HEAD_SIZE]))
            if not size:
                self.drop()
                self._buffer.clear()
                return
            if size > MESSAGE_LIMIT:
                self._skip = max(0, size - len(self._buffer))
                del self._buffer[:size]
                continue
            if size > len(self._buffer):
                return
            raw = bytes(self._buffer[:size])
            del self._buffer[:size]
            self._received(raw)

    def _received(self, raw: bytes) -> None:
        # systemd tells a direct peer of every change of every unit: most are not worth parsing.
        if raw[1] == _SIGNAL and not any(member in raw for member in self._signals):
            return
        message = decode(raw)
        if message is None:
            self.drop()
        elif message.message_type is MessageType.SIGNAL:
            if (message.member or "").encode() in self._signals:
                self._on_signal(self, message)
        elif message.message_type is not MessageType.METHOD_CALL:
            reply = self._replies.get(message.reply_serial)
            if reply is not None and not reply.done():
                reply.set_result(message)
