"""What the model node is made of: a connection, a frame, an agent, and how a session ends."""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from asys.conformance.handshake import (
    Records,
)
from asys.conformance.probe import Chainable, Timing

OK: Final = b"\x90\x00"
BLOCKED: Final = b"\x64\x00"
WRONG_LENGTH: Final = b"\x67\x00"
DENIED: Final = b"\x69\x82"
RECEIVED: Final = b"\x69\x85"
INVALID: Final = b"\x6a\x80"
ABSENT: Final = b"\x6a\x81"
WRONG_CLASS: Final = b"\x6e\x00"

SIGNED_CODES: Final = range(0x20, 0x90)
SEALED_CODES: Final = (0x60, 0x61, 0x62)
VENDOR_CODES: Final = range(0xC0, 0x100)
CHAINABLE: Final = Chainable(0xC1, 0xB6FB4EB9)

TIMING: Final = Timing(
    timeout=10.0,
    quiet=0.05,
    magic=0.2,
    handshake=0.4,
    frame=3.0,
    idle=6.0,
    slack=5.0,
    restarts=0,
    pace=0,
)
"""What a test has time for. The deadlines are the node's too."""

CORE: Final = (0x00, 0x01, 0x02, 0x03, 0x11, 0x13)
ALL: Final = (*CORE, 0x10, 0x12, 0x14, 0x15, 0x20, 0x21, 0x22, 0x40, 0x41, 0x42, *SEALED_CODES)


class Gone(Exception):
    """The agent has closed the connection, or has not said in time what was due."""


class Closing(Exception):
    """The session ends behind this answer, or without one."""

    def __init__(self, answer: bytes = b"") -> None:
        super().__init__()
        self.answer = answer


@dataclass(frozen=True)
class Frame:
    """A request, cut out of the stream."""

    cla: int
    ins: int
    p1: int
    p2: int
    head: bytes
    data: bytes
    le: bytes
    tag: bytes

    @property
    def sec(self) -> int:
        """0 plain, 1 signed, 2 Enc+Sign."""
        return self.cla >> 2 & 3

    @property
    def more(self) -> bool:
        """M."""
        return bool(self.cla & 0x10)


@dataclass(eq=False)
class Connection:
    """What a node knows of one connection."""

    socket: socket.socket
    began: float = field(default_factory=time.monotonic)
    agent: bytes = b""
    records: Records = field(default_factory=lambda: Records(b"", b""))
    k: bytes = b""
    last_seq: int = 0
    stream: bytes = b""
    id: int = 0
    confirmed: bool = False
    tasks: dict[bytes, tuple[str, float]] = field(default_factory=dict)
    chain: tuple[bytes, int] | None = None
    """Its handle, and the Sec of its first fragment."""

    fresh: bool = True
    """Whether the agent has said nothing since the handshake."""

    def send(self, data: bytes) -> None:
        """Bytes as they are."""
        with contextlib.suppress(OSError):
            self.socket.sendall(data)

    def say(self, answer: bytes) -> None:
        """A response."""
        self.send(self.records.seal(answer))

    def read(self, deadline: float, size: int = 1 << 16) -> bytes:
        """What comes next. Gone at the end, and when the deadline passes."""
        try:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            data = self.socket.recv(size)
        except OSError:
            data = b""
        if not data:
            raise Gone
        return data

    def read_exactly(self, size: int, deadline: float) -> bytes:
        """So many bytes, and none behind them. Gone."""
        data = b""
        while len(data) < size:
            data += self.read(deadline, size - len(data))
        return data

    def end(self) -> None:
        """No more bytes in either direction."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


@dataclass
class Agent:
    """Somebody that the node knows."""

    lit: tuple[int, ...]
    parent: bytes = b""
    expires: float = 0.0
    label: bytes = b""


def public(key: X25519PrivateKey) -> bytes:
    """The 32 bytes that others know it by."""
    return key.public_key().public_bytes_raw()


def codes_in(caps: bytes) -> tuple[int, ...]:
    """The codes of a capability map."""
    return tuple(
        code for code in range(256) if caps[4 * (code // 32) + 3 - code % 32 // 8] >> code % 8 & 1
    )
