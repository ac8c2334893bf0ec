"""The D-Bus connection against a peer that follows a script, byte by byte."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from dbus_fast import Message, MessageType

from asys.node.platform.services.dbus import (
    AUTH_LINE_LIMIT,
    HEAD_SIZE,
    MESSAGE_LIMIT,
    CannotConnect,
    DBusConnection,
    NotSent,
    ReplyLost,
    decode,
    encode,
    message_size,
    socket_path,
)

OK = b"OK 0123456789abcdef0123456789abcdef\r\n"
METHOD_CALL, METHOD_RETURN, ERROR, SIGNAL = 1, 2, 3, 4
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


def call(kind: int, member: str = "Changed", body: bytes = b"") -> bytes:
    """A signal of the object /a, or a call of it."""
    fields: dict[int, tuple[str, str | int]] = {
        PATH: ("o", "/a"),
        INTERFACE: ("s", "a.b"),
        MEMBER: ("s", member),
    }
    if body:
        body = struct.pack("<I", len(body)) + body + b"\0"
        fields[SIGNATURE] = ("g", "s")
    return message(kind, fields, body)


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

    def on_signal(self, _: DBusConnection, message: Message) -> None:
        self.signals.append(message.member)

    def on_lost(self, _: DBusConnection) -> None:
        self.lost.set()

    async def open(
        self, address: str, timeout_s: float = 60, direct: bool = True
    ) -> DBusConnection:
        return await DBusConnection.open(
            address,
            direct=direct,
            timeout_s=timeout_s,
            signals=frozenset({"Changed"}),
            on_signal=self.on_signal,
            on_lost=self.on_lost,
        )


@pytest.fixture
def client() -> Client:
    return Client()


async def welcome(peer: Peer, extra: bytes = b"") -> socket.socket:
    """The peer's half of a good beginning: AUTH and BEGIN come together, and nothing behind."""
    end = await peer.accept()
    user = str(os.geteuid()).encode().hex().encode()
    assert await read(end) == b"\0AUTH EXTERNAL " + user + b"\r\nBEGIN\r\n"
    await send(end, OK + extra)
    return end


async def connected(
    peer: Peer, client: Client, timeout_s: float = 60
) -> tuple[DBusConnection, socket.socket]:
    opening = asyncio.create_task(client.open(peer.address, timeout_s))
    end = await welcome(peer)
    return await opening, end


def question() -> Message:
    return Message(destination="a.b", path="/a", interface="a.b", member="Ask")


def test_the_library_still_packs_and_parses() -> None:
    """What is private there and used here; fails when a new version breaks it."""
    raw = encode(Message(destination="a.b", path="/a", member="Ask", signature="s", body=["x"]))
    assert raw[:4] == b"l\x01\x00\x01"
    assert message_size(raw[:HEAD_SIZE]) == len(raw)
    message = decode(raw)
    assert message is not None
    assert (message.member, message.body) == ("Ask", ["x"])
    refused = decode(refusal(7, "no"))
    assert refused is not None
    assert refused.message_type is MessageType.ERROR
    assert (refused.error_name, refused.reply_serial, refused.body) == ("a.b.No", 7, ["no"])


@pytest.mark.parametrize(
    "raw", [b"", b"l", refusal(1)[:-1], b"x" + refusal(1)[1:], b"l" + b"\xff" * 63]
)
def test_what_is_no_message_is_none(raw: bytes) -> None:
    assert decode(raw) is None


async def test_a_call_and_its_reply(peer: Peer, client: Client) -> None:
    connection, end = await connected(peer, client)
    assert connection.alive
    asking = asyncio.create_task(connection.call(question()))
    asked = decode(await read(end))
    assert asked is not None
    assert (asked.member, asked.serial) == ("Ask", 1)
    await send(end, refusal(1, "no"))
    reply = await asking
    assert (reply.error_name, reply.body) == ("a.b.No", ["no"])
    await connection.close()
    assert client.lost.is_set()
    assert await read(end) == b""
    await connection.close()
    with pytest.raises(NotSent):
        await connection.call(question())


@pytest.mark.parametrize("direct", [True, False])
async def test_hello_is_for_a_bus_alone(peer: Peer, client: Client, direct: bool) -> None:
    opening = asyncio.create_task(client.open(peer.address, direct=direct))
    end = await welcome(peer)
    if not direct:
        hello = decode(await read(end))
        assert hello is not None
        assert (hello.member, hello.destination) == ("Hello", "org.freedesktop.DBus")
        await send(end, message(METHOD_RETURN, {REPLY_SERIAL: ("u", 1)}))
    connection = await opening
    asking = asyncio.create_task(connection.call(question()))
    asked = decode(await read(end))
    assert asked is not None
    assert asked.member == "Ask"
    await send(end, refusal(asked.serial))
    await asking
    await connection.close()


async def test_signals_right_behind_the_authentication_are_not_lost(
    peer: Peer, client: Client
) -> None:
    opening = asyncio.create_task(client.open(peer.address))
    end = await welcome(peer, call(SIGNAL) + call(SIGNAL, "Other") + call(SIGNAL))
    connection = await opening
    asking = asyncio.create_task(connection.call(question()))
    await read(end)
    await send(end, refusal(1))
    await asking
    assert client.signals == ["Changed", "Changed"]
    await connection.close()


async def test_messages_arrive_in_pieces(peer: Peer, client: Client) -> None:
    opening = asyncio.create_task(client.open(peer.address))
    end = await peer.accept()
    await read(end)
    for byte in OK + call(SIGNAL):
        await send(end, bytes([byte]))
        await asyncio.sleep(0)
    connection = await opening
    asking = asyncio.create_task(connection.call(question()))
    await read(end)
    for byte in refusal(1):
        await send(end, bytes([byte]))
        await asyncio.sleep(0)
    await asking
    assert client.signals == ["Changed"]
    await connection.close()


@pytest.mark.parametrize("path_first", [False, True], ids=["at-once", "in-two"])
async def test_a_message_too_long_passes_by(peer: Peer, client: Client, path_first: bool) -> None:
    connection, end = await connected(peer, client)
    asking = asyncio.create_task(connection.call(question()))
    await read(end)
    long = call(SIGNAL, body=b"x" * MESSAGE_LIMIT)
    if path_first:
        await send(end, long[:100])
        long = long[100:]
    await send(end, long + call(SIGNAL) + refusal(1))
    await asking
    assert client.signals == ["Changed"]
    await connection.close()


async def test_calls_from_the_peer_and_strange_replies_change_nothing(
    peer: Peer, client: Client
) -> None:
    connection, end = await connected(peer, client)
    asking = asyncio.create_task(connection.call(question()))
    await read(end)
    in_the_text = call(SIGNAL, "Other", body=b"Changed!")
    await send(end, refusal(99) + call(METHOD_CALL) + in_the_text + refusal(1) + refusal(1))
    assert (await asking).reply_serial == 1
    assert client.signals == []
    await connection.close()


async def test_a_connection_lost_during_a_call(peer: Peer, client: Client) -> None:
    connection, end = await connected(peer, client)
    asking = asyncio.create_task(connection.call(question()))
    await read(end)
    end.close()
    with pytest.raises(ReplyLost):
        await asking
    await client.lost.wait()
    assert not connection.alive
    with pytest.raises(NotSent):
        await connection.call(question())


@pytest.mark.parametrize(
    "garbage",
    [b"\xff" * 64, b"l\x03" + bytes(14), refusal(1)[:HEAD_SIZE] + b"\xff" * 64],
    ids=["no-message", "empty", "bad-fields"],
)
async def test_garbage_ends_the_connection(peer: Peer, client: Client, garbage: bytes) -> None:
    connection, end = await connected(peer, client)
    asking = asyncio.create_task(connection.call(question()))
    await read(end)
    await send(end, garbage)
    with pytest.raises(ReplyLost):
        await asking
    await connection.close()


async def test_a_call_that_is_not_answered_in_time(peer: Peer, client: Client) -> None:
    connection, end = await connected(peer, client, timeout_s=0.5)
    with pytest.raises(TimeoutError):
        await connection.call(question())
    assert connection.alive
    await send(end, refusal(1))
    connection.drop()
    await client.lost.wait()


async def test_a_caller_that_has_gone(peer: Peer, client: Client) -> None:
    connection, end = await connected(peer, client)
    asking = asyncio.create_task(connection.call(question()))
    await read(end)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    end.close()
    await client.lost.wait()


async def _closes(end: socket.socket) -> None:
    await read(end)
    end.close()


async def _refuses(end: socket.socket) -> None:
    await read(end)
    await send(end, b"REJECTED EXTERNAL\r\n")


async def _talks_on(end: socket.socket) -> None:
    await read(end)
    await send(end, b"O" * (AUTH_LINE_LIMIT + 1))


async def _knows_nobody(end: socket.socket) -> None:
    await read(end)
    await send(end, OK)
    await read(end)
    await send(end, refusal(1))


async def _closes_after_hello(end: socket.socket) -> None:
    await read(end)
    await send(end, OK)
    await read(end)
    end.close()


@pytest.mark.parametrize(
    "script", [_closes, _refuses, _talks_on, _knows_nobody, _closes_after_hello]
)
async def test_a_peer_that_is_no_bus(
    peer: Peer, client: Client, script: Callable[[socket.socket], Awaitable[None]]
) -> None:
    opening = asyncio.create_task(client.open(peer.address, direct=False))
    await script(await peer.accept())
    with pytest.raises(CannotConnect, match=r"unix:path=.*: \w+"):
        await opening
    await client.lost.wait()


async def test_a_peer_that_says_nothing(peer: Peer, client: Client) -> None:
    with pytest.raises(TimeoutError):
        await client.open(peer.address, timeout_s=0.05)


async def test_nobody_listens(client: Client, tmp_path: Path) -> None:
    with pytest.raises(CannotConnect, match="No such file"):
        await client.open(f"unix:path={tmp_path}/nobody")


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("unix:path=/run/bus", "/run/bus"),
        ("unix:path=/run/bus,guid=00ff", "/run/bus"),
        ("tcp:host=x;unix:guid=1,path=/a%20b", "/a b"),
    ],
)
def test_addresses(address: str, path: str) -> None:
    assert socket_path(address) == path


@pytest.mark.parametrize(
    "address", ["", "unix", "unix:", "unix:path=", "tcp:host=x,port=1", "/run/bus", "path=/x"]
)
def test_addresses_without_a_path(address: str) -> None:
    with pytest.raises(CannotConnect, match="unix:path="):
        socket_path(address)
