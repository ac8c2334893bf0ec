"""A D-Bus connection for a few small calls: every call has a deadline, signals go to a callback.

The peer is a message bus, or one service alone ("direct"), as behind systemd's private socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from dbus_fast import AuthError, InvalidAddressError, Message, MessageType
from dbus_fast.aio import MessageBus

# Its warnings tell of connections that end, which the code here reports to its caller.
logging.getLogger("dbus_fast").setLevel(logging.ERROR)

DIRECT_NAME: Final = ":direct"
"""Stands for the unique name that only a bus would give."""

AUTH_LINE_LIMIT: Final = 1024
"""Bytes of an answer to the authentication."""


class CannotConnect(Exception):
    """There is no connection; the message says why."""


class NotSent(Exception):
    """The connection ended before the call left this process: it may be made again."""


class ReplyLost(Exception):
    """The connection ended after the call was sent: whether it was carried out is not known."""


class _Bus(MessageBus):
    """A connection to a bus. Here and below is all that leans on private names of the library."""

    def gone(self) -> bool:
        """Whether the peer has closed and the loop has not come round to noticing it."""
        if self._sock is None:
            return True
        try:
            return not self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True


class _DirectBus(_Bus):
    """A connection without a bus."""

    async def _authenticate(self) -> None:
        """Names the user and begins, in one write.

        systemd's end goes to sleep over a first message that it reads together with BEGIN, until
        more arrives. BEGIN has no answer to wait for; so it travels with AUTH, which has one.
        """
        if self._sock is None:
            raise AuthError("not connected")
        loop = asyncio.get_running_loop()
        user = str(os.geteuid()).encode().hex()
        await loop.sock_sendall(self._sock, f"\0AUTH EXTERNAL {user}\r\nBEGIN\r\n".encode())
        line = b""
        while not line.endswith(b"\r\n"):  # no byte further: signals may follow at once
            byte = await loop.sock_recv(self._sock, 1)
            if not byte or len(line) >= AUTH_LINE_LIMIT:
                raise AuthError("no answer to the authentication")
            line += byte
        if not line.startswith(b"OK "):
            raise AuthError(f"authentication refused: {line!r}")


def _answer_hello(message: Message) -> None:
    """Makes a success of a direct peer's answer to Hello.

    Only a bus knows the Hello that the library opens every connection with; it is always the first
    call, and a direct peer answers it with an error like any method that it does not have.
    """
    if message.reply_serial == 1 and message.message_type is MessageType.ERROR:
        message.message_type = MessageType.METHOD_RETURN
        message.body = [DIRECT_NAME]


class DBusConnection:
    """An open connection. One loop, no thread. `open()` makes one."""

    def __init__(
        self,
        bus: _Bus,
        timeout_s: float,
        on_signal: Callable[[DBusConnection, Message], None],
        on_lost: Callable[[DBusConnection], None],
    ) -> None:
        self._bus = bus
        self._timeout_s = timeout_s
        self._on_signal = on_signal
        self._on_lost = on_lost
        self._replies: dict[int, asyncio.Future[Message]] = {}
        self._watch: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        address: str,
        *,
        direct: bool,
        timeout_s: float,
        on_signal: Callable[[DBusConnection, Message], None],
        on_lost: Callable[[DBusConnection], None],
    ) -> DBusConnection:
        """Connects to a D-Bus address.

        Each signal is handed to `on_signal`; `on_lost` is called once when the connection has
        ended, for whatever reason. Raises CannotConnect, and TimeoutError after `timeout_s`.
        """
        try:
            bus = (_DirectBus if direct else _Bus)(bus_address=address)
        except InvalidAddressError as error:
            raise CannotConnect(f"{address}: {error}") from error
        connection = cls(bus, timeout_s, on_signal, on_lost)
        if direct:
            bus.add_message_handler(_answer_hello)
        bus.add_message_handler(connection._received)
        try:
            async with asyncio.timeout(timeout_s):
                await bus.connect()
        except TimeoutError:
            raise
        except Exception as error:  # also what parsing an answer that is no D-Bus lets out
            raise CannotConnect(f"{address}: {error or type(error).__name__}") from error
        connection._watch = asyncio.create_task(connection._until_lost())
        if not (bus.unique_name or "").startswith(":"):
            await connection.close()
            raise CannotConnect(f"{address}: no bus answers there: {bus.unique_name}")
        return connection

    @property
    def alive(self) -> bool:
        """Whether a call can be made."""
        return self._bus.connected and not self._bus.gone()

    async def call(self, message: Message) -> Message:
        """Makes a method call and returns its reply, a METHOD_RETURN or an ERROR.

        Raises NotSent, ReplyLost, and TimeoutError after the connection's `timeout_s`.
        """
        if not self.alive:
            raise NotSent
        message.serial = self._bus.next_serial()
        reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._replies[message.serial] = reply
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    await self._bus.send(message)
                except OSError as error:
                    raise NotSent from error
                return await reply
        finally:
            del self._replies[message.serial]
            if not reply.cancel() and not reply.cancelled():
                reply.exception()  # seen, even when the call ended in another way

    def drop(self) -> None:
        """Ends the connection; `on_lost` follows."""
        self._bus.disconnect()

    async def close(self) -> None:
        """Ends the connection and waits until it has ended. May be called again."""
        self._bus.disconnect()
        if self._watch is not None:
            await asyncio.wait([self._watch])

    def _received(self, message: Message) -> None:
        if message.message_type is MessageType.SIGNAL:
            self._on_signal(self, message)
        elif message.message_type is not MessageType.METHOD_CALL:
            reply = self._replies.get(message.reply_serial)
            if reply is not None and not reply.done():
                reply.set_result(message)

    async def _until_lost(self) -> None:
        ended: Callable[[], Awaitable[None]] = self._bus.wait_for_disconnect
        with contextlib.suppress(Exception):  # how it ended makes no difference
            await ended()
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(ReplyLost())
        self._on_lost(self)
