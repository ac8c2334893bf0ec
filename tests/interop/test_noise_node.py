"""Our SDK against a node that shares no code with it.

The handshake and the channel are those of the PyPI library `noiseprotocol`; frames are cut by hand,
and tags are checked with hmac and hashlib alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from noise.connection import Keypair, NoiseConnection

import asys
from asys.protocol.keys import PrivateKey

NODE_PRIVATE = hashlib.sha256(b"a node's key, for tests").digest()
NODE_PUBLIC = X25519PrivateKey.from_private_bytes(NODE_PRIVATE).public_key().public_bytes_raw()
AGENT_PRIVATE = hashlib.sha256(b"an agent's key, for tests").digest()
AGENT_PUBLIC = X25519PrivateKey.from_private_bytes(AGENT_PRIVATE).public_key().public_bytes_raw()

CAPS = bytes.fromhex("0002000f0000000501000612002c0002000100005e29000000000003efe300010100")
HELLO = b"ASYS" + struct.pack(">IQ", 0x3D1219C7, 1_700_000_000_123_456_789)
STATUS = struct.pack(">BBBIBIHHB4x", 24, 18, 100, 22798, 11, 7, 300, 400, 50)
PROCS = struct.pack(">HIHBB", 124, 25632, 9268, 3, 4) + bytes(32)


def tag_of(key: bytes, frame: bytes) -> bytes:
    """The Auth_Tag of a standard signed frame, from the protocol's text."""
    epoch = hmac.new(key, b"asys-epoch-v1", hashlib.blake2b).digest()[:4]
    header, data = frame[:5], frame[5 : 5 + frame[4]]
    return hmac.new(key, header + epoch + data, hashlib.blake2b).digest()[:16]


@dataclass
class Node:
    """What the node saw of one agent."""

    agent_key: bytes = b""
    frames: list[bytes] = field(default_factory=list)
    seq: int = 0
    services: dict[int, bytes] = field(default_factory=dict)

    def answer(self, frame: bytes, key: bytes) -> bytes:
        """Payload and status word for a frame; checks what the protocol says of it."""
        cla, ins, p1, p2, length = frame[:5]
        payload = frame[5 : 5 + length]
        assert frame[5 + length] == 0
        assert len(frame) == 5 + length + 1 + (16 if cla else 0)
        if cla:
            assert cla == 0x04
            if not hmac.compare_digest(frame[-16:], tag_of(key, frame)):
                return b"\x69\x82"
            (seq,) = struct.unpack(">I", payload[:4])
            if seq <= self.seq:
                return b"\x69\x85"
            self.seq = seq
            payload = payload[4:]
        plain = {0: CAPS, 1: HELLO, 2: STATUS, 3: PROCS}
        if ins in plain:
            assert payload == b""
            return plain[ins] + b"\x90\x00"
        if ins == 0x11:
            (handle,) = struct.unpack(">I", payload)
            return (b"\x01" if self.services.pop(handle, b"") else b"\xff") + b"\x90\x00"
        if not cla:
            return b"\x69\x82"
        if ins == 0x20:
            (pid,) = struct.unpack(">I", payload)
            return b"\x90\x00" if (pid, p1, p2) in ((77, 0, 0), (77, 1, 0)) else b"\x6a\x80"
        assert ins == 0x22
        self.services[0xABCD1234] = payload
        return struct.pack(">I", 0xABCD1234) + b"\x90\x00"


async def serve(node: Node, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One agent, from the magic to its end."""
    noise: Any = NoiseConnection.from_name(b"Noise_IK_25519_ChaChaPoly_BLAKE2b")
    noise.set_as_responder()
    noise.set_keypair_from_private_bytes(Keypair.STATIC, NODE_PRIVATE)
    noise.start_handshake()
    assert await reader.readexactly(4) == b"ASYS"
    writer.write(b"ASYS\x01\x00" + NODE_PUBLIC)
    assert bytes(noise.read_message(await reader.readexactly(96))) == b""
    node.agent_key = noise.noise_protocol.handshake_state.rs.public_bytes
    message_2 = bytes(noise.write_message(b""))
    assert len(message_2) == 48
    writer.write(message_2)
    key = noise.noise_protocol.cipher_state_decrypt.k
    while True:
        (length,) = struct.unpack(">H", await reader.readexactly(2))
        frame = bytes(noise.decrypt(await reader.readexactly(length)))
        node.frames.append(frame)
        sealed = bytes(noise.encrypt(node.answer(frame, key)))
        writer.write(struct.pack(">H", len(sealed)) + sealed)


@contextlib.asynccontextmanager
async def listening(node: Node) -> AsyncIterator[int]:
    """The node on loopback; gives its port. A failed check in it fails the test."""
    failures: list[Exception] = []
    ended = asyncio.Event()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(node, reader, writer)
        except asyncio.IncompleteReadError:
            pass
        except Exception as failure:
            failures.append(failure)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            ended.set()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await ended.wait()
        server.close()
        await server.wait_closed()
    assert failures == []


def options(port: int) -> dict[str, Any]:
    return {
        "host": "127.0.0.1",
        "port": port,
        "identity": asys.Identity(PrivateKey(AGENT_PRIVATE)),
        "node_key": NODE_PUBLIC,
        "timeout": 30.0,
    }


def check(node: Node) -> None:
    """What both shells must have sent in the session below, byte for byte but for the tags."""
    assert node.agent_key == AGENT_PUBLIC
    assert [frame[:-16].hex() if frame[0] else frame.hex() for frame in node.frames] == [
        "000001000000",
        "000002000000",
        "000003000000",
        "000000000000",
        "000100000000",
        "000200000000",
        "000300000000",
        "0420000008" + "00000001" + "0000004d" + "00",
        "0420010008" + "00000002" + "0000004d" + "00",
        "0420000008" + "00000003" + "0000004e" + "00",
        "0422000009" + "00000004" + b"nginx".hex() + "00",
        "0420000008" + "00000001" + "0000004d" + "00",
        "0011000004" + "abcd1234" + "00",
        "000100000000",
    ]
    assert node.frames[7] == node.frames[11]


async def test_a_session_on_asyncio() -> None:
    node = Node()
    async with listening(node) as port, asys.connect(**options(port)) as session:
        assert session.caps is not None
        assert session.caps.ram_mb == 24105
        hello = await session.sys_hello()
        assert (hello.node_uid, hello.time_ns) == (0x3D1219C7, 1_700_000_000_123_456_789)
        status = await session.sys_status()
        assert (status.load1, status.available_mb, status.inbound_mbps) == (2.4, 22798, 300)
        (process,) = (await session.sys_procs()).top
        assert (process.pid, process.cpu_percent) == (25632, 92.68)
        await session.proc_throttle(77, "stop")
        await session.proc_throttle(77, "continue")
        with pytest.raises(asys.InvalidPayload):
            await session.proc_throttle(78, "stop")
        task = await session.svc_restart("nginx")
        assert node.services == {0xABCD1234: b"nginx"}
        assert await session.resend(1) is None
        assert await task.wait(timeout=30) is asys.TaskStatus.SUCCESS
        await session.sys_hello()
    check(node)


async def test_a_session_of_blocking_code() -> None:
    def agent(port: int) -> None:
        with asys.sync.connect(**options(port)) as session:
            session.sys_hello()
            session.sys_status()
            session.sys_procs()
            session.proc_throttle(77, "stop")
            session.proc_throttle(77, "continue")
            with pytest.raises(asys.InvalidPayload):
                session.proc_throttle(78, "stop")
            task = session.svc_restart("nginx")
            assert session.resend(1) is None
            assert task.wait(timeout=30) is asys.TaskStatus.SUCCESS
            session.sys_hello()

    node = Node()
    async with listening(node) as port:
        await asyncio.to_thread(agent, port)
    check(node)


async def test_pipelined_requests() -> None:
    node = Node()
    async with listening(node) as port, asys.connect(**options(port)) as session:
        answers = await asyncio.gather(
            *(session.proc_throttle(77, "stop") for _ in range(50)),
            *(session.sys_hello() for _ in range(50)),
        )
    assert answers[:50] == [None] * 50
    assert {answer.node_uid for answer in answers[50:] if answer is not None} == {0x3D1219C7}
    assert node.seq == 50


async def test_tags_belong_to_their_session() -> None:
    seen = []
    for _ in range(2):
        node = Node()
        async with listening(node) as port, asys.connect(**options(port)) as session:
            await session.proc_throttle(77, "stop")
        seen.append(node.frames[4])

    assert seen[0][:-16] == seen[1][:-16]
    assert seen[0][-16:] != seen[1][-16:]
