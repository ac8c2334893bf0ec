"""Our SDK against a foreign node that speaks part B: pages, REKEY, Enc+Sign.

The handshake, the channel and its new keys are those of the PyPI library `noiseprotocol`; frames
are cut by hand, tags and encrypted payloads are made from the text of docs/protocol.md.
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
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from noise.connection import Keypair, NoiseConnection

import asys
from asys.protocol.keys import PrivateKey

NODE_PRIVATE = hashlib.sha256(b"a node's key, for tests of part B").digest()
NODE_PUBLIC = X25519PrivateKey.from_private_bytes(NODE_PRIVATE).public_key().public_bytes_raw()
AGENT_PRIVATE = hashlib.sha256(b"an agent's key, for tests of part B").digest()
CHILD = bytes(range(100, 132))

CAPS = bytes.fromhex("01000612002c0002000100005e29000000000003efe3000101")
"""SYS_CAPS from the protocol version to what tells where the pressure comes from."""
HELLO = b"ASYS" + struct.pack(">IQ", 0x3D1219C7, 1_700_000_000_123_456_789)
WORDS = {0: (0x0008_000F, 0x0000_0001), 1: (0, 0x7), 2: (0, 0), 3: (0x1, 0x80000000)}
"""The map by pages: 00-03, 13, 20, 60-62, C0, FF."""


def derived(key: bytes, context: bytes, size: int) -> bytes:
    return hmac.new(key, context, hashlib.blake2b).digest()[:size]


@dataclass
class Node:
    """One agent as the node sees it."""

    requests: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    """Security level, INS, P1 and payload in clear of each request."""
    seqs: list[int] = field(default_factory=list)
    rekeys: int = 0

    def clear(self, frame: bytes, key: bytes) -> bytes:
        """The payload of a frame, without Seq; checks tag and ciphertext."""
        cla, length = frame[0], frame[4]
        header, data = frame[:5], frame[5 : 5 + length]
        assert frame[5 + length] == 0
        if not cla:
            assert len(frame) == 6 + length
            return data
        assert cla in (0x04, 0x08)
        epoch = derived(key, b"asys-epoch-v1", 4)
        tag = hmac.new(key, header + epoch + data, hashlib.blake2b).digest()[:16]
        assert hmac.compare_digest(frame[6 + length :], tag)
        seq, payload = data[:4], data[4:]
        self.seqs.append(int.from_bytes(seq, "big"))
        if cla == 0x04:
            return payload
        nonce = bytes(4) + self.seqs[-1].to_bytes(8, "little")
        secret = ChaCha20Poly1305(derived(key, b"asys-enc-v1", 32))
        return secret.decrypt(nonce, payload, header + epoch + seq)

    def answer(self, ins: int, p1: int, payload: bytes) -> bytes:
        """Payload of a response."""
        if ins == 0x00:
            return struct.pack(">II", *WORDS[p1]) + CAPS + bytes((p1,))
        if ins == 0x01:
            return HELLO
        if ins == 0x60:
            return hashlib.blake2b(payload[:32]).digest()[:4]
        if ins == 0x62:
            row = (
                CHILD
                + bytes(4)
                + bytes(32)
                + struct.pack(">IB3x", 0, 1)
                + b"child".ljust(32, b"\0")
            )
            return struct.pack(">HBB", 1, 1, p1) + row
        return b""


async def serve(node: Node, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One agent, from the magic to its end."""
    noise: Any = NoiseConnection.from_name(b"Noise_IK_25519_ChaChaPoly_BLAKE2b")
    noise.set_as_responder()
    noise.set_keypair_from_private_bytes(Keypair.STATIC, NODE_PRIVATE)
    noise.start_handshake()
    assert await reader.readexactly(4) == b"ASYS"
    writer.write(b"ASYS\x01\x00" + NODE_PUBLIC)
    noise.read_message(await reader.readexactly(96))
    writer.write(bytes(noise.write_message(b"")))
    while True:
        (length,) = struct.unpack(">H", await reader.readexactly(2))
        frame = bytes(noise.decrypt(await reader.readexactly(length)))
        key = noise.noise_protocol.cipher_state_decrypt.k
        payload = node.clear(frame, key)
        node.requests.append((frame[0], frame[1], frame[2], payload))
        sealed = bytes(noise.encrypt(node.answer(frame[1], frame[2], payload) + b"\x90\x00"))
        writer.write(struct.pack(">H", len(sealed)) + sealed)
        if frame[1] == 0x13:
            noise.rekey_inbound_cipher()
            noise.rekey_outbound_cipher()
            assert noise.noise_protocol.cipher_state_decrypt.k != key
            node.rekeys += 1


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


def options(port: int, **more: Any) -> dict[str, Any]:
    return {
        "host": "127.0.0.1",
        "port": port,
        "identity": asys.Identity(PrivateKey(AGENT_PRIVATE)),
        "node_key": NODE_PUBLIC,
        "timeout": 30.0,
        **more,
    }


ADDED = (
    CHILD
    + bytes.fromhex("000a000f 00000001 00000000 00000000 00000000 00000000 00000000 00000000")
    + struct.pack(">IB", 3600, 6)
    + b"worker"
)
"""The payload of AGENT_ADD below, byte for byte."""


def check(node: Node) -> None:
    """What both shells must have said, whatever the keys were then."""
    said = [one for one in node.requests if one[1] != 0x13]
    assert said == [
        (0, 0x00, 1, b""),
        (0, 0x00, 2, b""),
        (0, 0x00, 3, b""),
        (0, 0x00, 0, b""),
        (0x08, 0x60, 0, ADDED),
        (0x04, 0x20, 1, struct.pack(">I", 77)),
        (0x08, 0x62, 0, b""),
        (0, 0x01, 0, b""),
        (0x08, 0x61, 0, CHILD),
        (0x04, 0x20, 1, struct.pack(">I", 77)),
    ]
    assert node.seqs == [1, 2, 3, 4, 2]


@pytest.mark.parametrize("requests", [None, 5, 1])
async def test_a_session_on_asyncio(requests: int | None) -> None:
    node = Node()
    more = options(0, rekey_requests=requests)
    async with listening(node) as port, asys.connect(**{**more, "port": port}) as session:
        assert session.speaks_part_b
        lit = session.capability_map
        assert lit is not None
        assert set(lit) == {0, 1, 2, 3, 0x13, 0x20, 0x60, 0x61, 0x62, 0xC0, 0xFF}
        made = await session.agent_add(CHILD, "core,PROC_THROTTLE", ttl_s=3600, label="worker")
        assert made.key_hash == hashlib.blake2b(CHILD).digest()[:4]
        await session.proc_throttle(77, "continue")
        (child,) = await session.agents()
        assert (child.key, child.label, child.flags) == (CHILD, "child", asys.AgentFlags.CONNECTED)
        await session.sys_hello()
        await session.agent_remove(CHILD)
        assert await session.resend(2) is None
    check(node)
    assert node.rekeys == {None: 0, 5: 1, 1: 6}[requests]


async def test_a_session_of_blocking_code() -> None:
    def agent(port: int) -> None:
        with asys.sync.connect(**options(port, rekey_requests=5)) as session:
            session.agent_add(CHILD, "core,PROC_THROTTLE", ttl_s=3600, label="worker")
            session.proc_throttle(77, "continue")
            assert len(session.agents()) == 1
            session.sys_hello()
            session.rekey()
            session.agent_remove(CHILD)
            assert session.resend(2) is None

    node = Node()
    async with listening(node) as port:
        await asyncio.to_thread(agent, port)
    check(node)
    assert node.rekeys == 2


async def test_a_pipeline_with_rekeys_in_it() -> None:
    node = Node()
    more = options(0, rekey_requests=9)
    async with listening(node) as port, asys.connect(**{**more, "port": port}) as session:
        for _ in range(8):
            answers = await asyncio.gather(
                *(session.proc_throttle(77, "stop") for _ in range(4)),
                *(session.agent_list() for _ in range(4)),
                *(session.sys_hello() for _ in range(4)),
                session.rekey(),
            )
            assert answers[0] is None
            assert len(answers) == 13
    assert node.seqs == list(range(1, 65))
    assert node.rekeys >= 8
