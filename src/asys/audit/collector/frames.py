"""What the two processes of a collector say to each other, over a pair of sockets.

`length u32 || connection u32 || what u8 || body`; length counts the body. Neither end distrusts the
other, so there is nothing to check.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

_HEAD: Final = struct.Struct(">IIB")


class What(IntEnum):
    """What a frame is."""

    HELLO = 1
    """To the disk: a node has connected; its label. It takes the place of one before."""

    MESSAGE = 2
    """To the disk: a message of a node. From it: its answer, which may be empty."""

    GONE = 3
    """To the disk: a connection has ended."""

    NODES = 4
    """To the disk: `authorized_nodes` is to be read. From it: the bytes of it."""

    NO_NODES = 5
    """From the disk: it cannot be read, and why."""

    READY = 6
    """From the disk: it serves."""

    FAILED = 7
    """From the disk: it does not, and why."""


class Message(NamedTuple):
    """One frame; `connection` is 0 where it is about none."""

    connection: int
    what: int
    body: bytes

    def pack(self) -> bytes:
        """The bytes of it."""
        return _HEAD.pack(len(self.body), self.connection, self.what) + self.body


class FrameReader:
    """Puts frames together from a stream."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The frames that are whole now."""
        buffer = self._buffer
        buffer += data
        found = []
        at = 0
        while len(buffer) - at >= _HEAD.size:
            length, connection, what = _HEAD.unpack_from(buffer, at)
            end = at + _HEAD.size + length
            if end > len(buffer):
                break
            found.append(Message(connection, what, bytes(buffer[at + _HEAD.size : end])))
            at = end
        del buffer[:at]
        return found
