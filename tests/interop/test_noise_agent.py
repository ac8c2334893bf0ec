"""An agent of other making against a running asyd: `noiseprotocol`, hashlib and hmac.

The agent is written from docs/protocol.md alone and uses nothing of `asys`. Its HMAC-BLAKE2b is put
together by hand from RFC 2104, and compared with the standard library's.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest

from asys.protocol.keys import PrivateKey
from protocol.oracle import Oracle
from support.children import resumed, suspended, waiting
from support.daemon import Daemon, running

PATIENCE = 60.0
STATIC = os.urandom(32)

OK = b"\x90\x00"
CAPS, HELLO, STATUS, PROCS = (bytes((0, ins, 0, 0, 0, 0)) for ins in range(4))


def hmac_blake2b(key: bytes, message: bytes) -> bytes:
    """RFC 2104 over unkeyed BLAKE2b, block 128, output 64."""
    padded = key.ljust(128, b"\0")
    inner = hashlib.blake2b(bytes(byte ^ 0x36 for byte in padded) + message).digest()
    return hashlib.blake2b(bytes(byte ^ 0x5C for byte in padded) + inner).digest()


class ForeignAgent:
    """One connection, from the first byte on."""

    def __init__(self, address: tuple[str, int], node_key: bytes) -> None:
        self.socket = socket.create_connection(address, PATIENCE)
        self.seq = 0
        self.socket.sendall(b"ASYS")
        shown = self.read(38)
        assert shown[:6] == b"ASYS\x01\x00"
        assert shown[6:] == node_key
        self.noise = Oracle.agent(STATIC, shown[6:])
        message_1 = self.noise.write()
        assert len(message_1) == 96
        self.socket.sendall(message_1)
        self.noise.read(self.read(48))

    def read(self, size: int) -> bytes:
        """Exactly so many bytes."""
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            assert more, f"the node closed after {len(data)} of {size} bytes"
            data += more
        return data

    def response(self) -> bytes:
        """The next message of the node."""
        prefix = self.read(2)
        return self.noise.open(prefix + self.read(int.from_bytes(prefix, "big")))

    def ask(self, frame: bytes) -> bytes:
        """One frame in one message, and its response."""
        self.socket.sendall(self.noise.record(frame))
        return self.response()

    def signed(self, ins: int, p1: int, payload: bytes) -> bytes:
        """A standard signed frame with the next Seq."""
        self.seq += 1
        key = self.noise.send_key
        epoch = hmac_blake2b(key, b"asys-epoch-v1")[:4]
        head = bytes((0x04, ins, p1, 0, 4 + len(payload)))
        data = struct.pack(">I", self.seq) + payload
        return head + data + b"\0" + hmac_blake2b(key, head + epoch + data)[:16]

    def __enter__(self) -> ForeignAgent:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.socket.close()


@pytest.fixture(scope="module")
def asyd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A node that knows the foreign agent."""
    agents = {PrivateKey(STATIC): "foreign caps=core,PROC_THROTTLE"}
    with running(tmp_path_factory.mktemp("asyd"), agents=agents) as daemon:
        yield daemon


@pytest.fixture
def agent(asyd: Daemon) -> Iterator[ForeignAgent]:
    with ForeignAgent(asyd.endpoint, asyd.key) as agent:
        yield agent


def test_hmac_as_the_standard_library_has_it() -> None:
    key, message = os.urandom(32), os.urandom(300)
    assert hmac_blake2b(key, message) == hmac.digest(key, message, "blake2b")


def test_the_core_isa(agent: ForeignAgent) -> None:
    caps = agent.ask(CAPS)
    assert struct.unpack(">IIH", caps[:10]) == (0x000A000F, 0x00000001, 0x0100)
    assert (len(caps), caps[33:]) == (36, b"\0" + OK)
    hello = agent.ask(HELLO)
    assert (len(hello), hello[:4], hello[-2:]) == (18, b"ASYS", OK)
    status = agent.ask(STATUS)
    assert (len(status), status[17:]) == (23, bytes(4) + OK)
    assert status[2] <= 100
    procs = agent.ask(PROCS)
    assert (len(procs), procs[-2:]) == (44, OK)
    assert struct.unpack(">H", procs[:2])[0] > 1


def test_a_signed_instruction(agent: ForeignAgent) -> None:
    with waiting() as child:
        pid = struct.pack(">I", child.pid)
        stop = agent.signed(0x20, 0, pid)
        assert agent.ask(stop) == OK
        suspended(child.pid)
        assert agent.ask(stop) == b"\x69\x85"
        assert agent.ask(agent.signed(0x20, 1, pid)) == OK
        resumed(child.pid)


def test_an_extended_signed_frame(agent: ForeignAgent) -> None:
    """The tag covers seven bytes of header."""
    key = agent.noise.send_key
    epoch = hmac_blake2b(key, b"asys-epoch-v1")[:4]
    head = b"\x06\x01\0\0\0\x01\x04"
    data = struct.pack(">I", 1) + bytes(256)
    frame = head + data + b"\0\0" + hmac_blake2b(key, head + epoch + data)[:16]
    assert agent.ask(frame)[:4] == b"ASYS"


def test_a_wrong_tag_is_the_last_that_is_answered(agent: ForeignAgent) -> None:
    wrong = bytearray(agent.signed(0x01, 0, b""))
    wrong[-1] ^= 1
    assert agent.ask(bytes(wrong)) == b"\x69\x82"
    assert agent.socket.recv(1) == b""


def test_four_messages_in_one_segment(agent: ForeignAgent) -> None:
    requests = [HELLO, CAPS, agent.signed(0x01, 0, b""), b"\0\x04\0\0\0\0"]
    agent.socket.sendall(b"".join(agent.noise.record(frame) for frame in requests))
    hello, caps, signed, none = (agent.response() for _ in range(4))
    assert (hello[:4], len(caps), signed[:4], none) == (b"ASYS", 36, b"ASYS", b"\x6a\x81")


def test_byte_by_byte(agent: ForeignAgent) -> None:
    agent.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for frame in (HELLO, agent.signed(0x01, 0, b""), HELLO):
        for byte in agent.noise.record(frame):
            agent.socket.sendall(bytes((byte,)))
        assert agent.response()[:4] == b"ASYS"


def test_many_requests_before_the_first_answer(agent: ForeignAgent) -> None:
    agent.socket.sendall(b"".join(agent.noise.record(HELLO) for _ in range(500)))
    assert all(agent.response()[:4] == b"ASYS" for _ in range(500))


def test_a_foreign_stranger(asyd: Daemon, tmp_path: Path) -> None:
    with (
        running(tmp_path, agents={PrivateKey(os.urandom(32)): "another"}) as other,
        ForeignAgent(other.endpoint, other.key) as stranger,
    ):
        assert stranger.response() == b"\x69\x82"
        assert stranger.socket.recv(1) == b""
    with ForeignAgent(asyd.endpoint, asyd.key) as known:
        assert known.ask(HELLO)[:4] == b"ASYS"
