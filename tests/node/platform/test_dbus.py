"""The D-Bus connection against a peer that follows a script, byte by byte."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from dbus_fast import Message

from asys.node.platform.dbus import (
    AUTH_LINE_LIMIT,
    CannotConnect,
    DBusConnection,
    NotSent,
    ReplyLost,
)

OK = b"OK 0123456789abcdef0123456789abcdef\r\n"
METHOD_CALL, ERROR, SIGNAL = 1, 3, 4
PATH, INTERFACE, MEMBER, ERROR_NAME, REPLY_SERIAL, SIGNATURE = 1, 2, 3, 4, 5, 8


def message(kind: int, fields: dict[int, tuple[str, str | int]], body: bytes = b"") -> bytes:
    """A little-endian message, after the D-Bus specification's "Message Format"."""
    packed = b""
    for code, (signature, value) in fields.items():
        packed += bytes(-len(packed) % 8) + struct.pack(
            "<BB2s", code, 1, signature.encode() + b"\0"
        )
        if isinstance(value, int):
            packed += struct.pack("<I", value)
        elif signature == "g":
            packed += bytes([len(value)]) + value.encode() + b"\0"
        else:
            packed += struct.pack("<I", len(value)) + value.encode() + b"\0"
    head = struct.pack("<cBBBIII", b"l", kind, 0, 1, len(body), 7, len(packed))
    return head + packed + bytes(-len(packed) % 8) + body


def refusal(serial: int, text: str = "") -> bytes:
    """An error in reply to a call."""
    fields: dict[int, tuple[str, str | int]] = {
        ERROR_NAME: ("s", "a.b.No"),
        REPLY_SERIAL: ("u", serial),
    }
    if not text:
        return message(ERROR, fields)
    body = struct.pack("<I", len(text)) + text.encode() + b"\0"
    return message(ERROR, fields | {SIGNATURE: ("g", "s")}, body)


def call(kind: int) -> bytes:
    """A signal a.b.C of the object /a, or a call of that method."""
    return message(kind, {PATH: ("o", "/a"), INTERFACE: ("s", "a.b"), MEMBER: ("s", "C")})


class Peer:
    """Accepts one connection after another; a test reads and writes at its end."""

    def __init__(self, path: Path) -> None:
        self.address = f"unix:path={path}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.setblocking(False)
        self._ends = [self._listener]

    async def accept(self) -> socket.socket:
        end, _ = await asyncio.get_running_loop().sock_accept(self._listener)
        end.setblocking(False)
        self._ends.append(end)
        return end

    def close(self) -> None:
        for end in self._ends:
            end.close()


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    peer = Peer(tmp_path / "bus")
    yield peer
    peer.close()


async def read(end: socket.socket, size: int = 65536) -> bytes:
    return await asyncio.get_running_loop().sock_recv(end, size)


async def send(end: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(end, data)


class Client:
    """What a connection reports."""

    def __init__(self) -> None:
        self.signals: list[str | None] = []
        self.lost = asyncio.Event()
        self.signalled = asyncio.Event()

    def on_signal(self, _: DBusConnection, message: Message) -> None:
        self.signals.append(message.member)
        self.signalled.set()

    def on_lost(self, _: DBusConnection) -> None:
        self.lost.set()

    async def open(
        self, address: str, timeout_s: float = 60, direct: bool = True
    ) -> DBusConnection:
        return await DBusConnection.open(
            address,
            direct=direct,
            timeout_s=timeout_s,
            on_signal=self.on_signal,
            on_lost=self.on_lost,
        )


@pytest.fixture
def client() -> Client:
    return Client()


async def welcome(peer: Peer, extra: bytes = b"") -> socket.socket:
    """The peer's half of a good beginning; it stops reading where AUTH and BEGIN should end."""
    end = await peer.accept()
    user = str(os.geteuid()).encode().hex().encode()
    begin = b"\0AUTH EXTERNAL " + user + b"\r\nBEGIN\r\n"
    assert await read(end, len(begin)) == begin
    await send(end, OK + extra)
    hello = await read(end)
    assert b"Hello" in hello
    await send(end, refusal(1))
    return end


async def connected(peer: Peer, client: Client) -> tuple[DBusConnection, socket.socket]:
    opening = asyncio.create_task(client.open(peer.address))
    end = await welcome(peer)
    return await opening, end


def question() -> Message:
    return Message(destination="a.b", path="/a", interface="a.b", member="Ask")


async def test_a_direct_peer_gets_auth_and_begin_at_once_and_may_not_know_hello(
    peer: Peer, client: Client
) -> None:
    """Fails when the library no longer calls what is overridden here, or closes after Hello."""
    connection, end = await connected(peer, client)
    asking = asyncio.create_task(connection.call(question()))
    assert b"Ask" in await read(end)
    await send(end, refusal(2))
    reply = await asking
    assert (reply.error_name, reply.reply_serial) == ("a.b.No", 2)
    await connection.close()
    assert client.lost.is_set()
    assert await read(end) == b""
    await connection.close()


async def test_signals_right_behind_the_authentication_are_not_lost(
    peer: Peer, client: Client
) -> None:
    opening = asyncio.create_task(client.open(peer.address))
    await welcome(peer, call(SIGNAL) * 2)
    connection = await opening
    assert client.signals == ["C", "C"]
    await connection.close()


async def test_calls_from_the_peer_and_strange_replies_change_nothing(
    peer: Peer, client: Client
) -> None:
    connection, end = await connected(peer, client)
    asking = asyncio.create_task(connection.call(question()))
    await read(end)
    await send(end, refusal(99) + call(METHOD_CALL))
    assert b"UnknownMethod" in await read(end)
    await send(end, refusal(2) + refusal(2))
    assert (await asking).reply_serial == 2
    await connection.close()


async def test_a_connection_lost_before_after_and_between_calls(peer: Peer, client: Client) -> None:
    connection, end = await connected(peer, client)
    asking = asyncio.create_task(connection.call(question()))
    await read(end)
    end.close()
    with pytest.raises(ReplyLost):
        await asking
    await client.lost.wait()
    with pytest.raises(NotSent):
        await connection.call(question())


@pytest.mark.parametrize("last_words", [b"", call(SIGNAL)], ids=["silent", "with-a-signal"])
async def test_a_call_into_a_connection_that_is_gone_unnoticed_was_not_sent(
    peer: Peer, client: Client, last_words: bytes
) -> None:
    connection, end = await connected(peer, client)
    assert connection.alive
    end.send(last_words)
    end.close()
    assert not client.lost.is_set()
    with pytest.raises(NotSent):
        await connection.call(question())
    await client.lost.wait()


async def test_a_call_that_is_not_answered_in_time(peer: Peer, client: Client) -> None:
    opening = asyncio.create_task(client.open(peer.address, timeout_s=0.5))
    await welcome(peer)
    connection = await opening
    with pytest.raises(TimeoutError):
        await connection.call(question())
    assert connection.alive
    connection.drop()
    await client.lost.wait()


async def _closes(end: socket.socket) -> None:
    await read(end)
    end.close()


async def _refuses(end: socket.socket) -> None:
    await read(end)
    await send(end, b"REJECTED EXTERNAL\r\n")


async def _talks_on(end: socket.socket) -> None:
    await read(end)
    await send(end, b"O" * (AUTH_LINE_LIMIT + 2))


async def _closes_after_hello(end: socket.socket) -> None:
    await read(end)
    await send(end, OK)
    await read(end)
    end.close()


async def _answers_hello_with_garbage(end: socket.socket) -> None:
    await read(end)
    await send(end, OK)
    await read(end)
    await send(end, b"\xff" * 64)


@pytest.mark.parametrize(
    "script",
    [_closes, _refuses, _talks_on, _closes_after_hello, _answers_hello_with_garbage],
)
async def test_a_peer_that_is_none(
    peer: Peer, client: Client, script: Callable[[socket.socket], Awaitable[None]]
) -> None:
    opening = asyncio.create_task(client.open(peer.address))
    await script(await peer.accept())
    with pytest.raises(CannotConnect, match="unix:path="):
        await opening


async def test_a_peer_that_says_nothing(peer: Peer, client: Client) -> None:
    with pytest.raises(TimeoutError):
        await client.open(peer.address, timeout_s=0.05)


async def test_a_bus_that_refuses_hello(peer: Peer, client: Client) -> None:
    opening = asyncio.create_task(client.open(peer.address, direct=False))
    end = await peer.accept()
    while b"AUTH" not in await read(end):
        pass
    await send(end, OK)
    while b"Hello" not in await read(end):
        pass
    await send(end, refusal(1, "off"))
    with pytest.raises(CannotConnect, match="no bus answers there: off"):
        await opening


@pytest.mark.parametrize("address", ["", "unix", "unix:path=/nonexistent/bus", "carrier:pigeon=1"])
async def test_an_address_that_leads_nowhere(client: Client, address: str) -> None:
    with pytest.raises(CannotConnect):
        await client.open(address)
