"""Records: 24 bytes for one step of one instruction (docs/audit.md, section 2)."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

_RECORD: Final = struct.Struct(">Q4sBBI4sH")

RECORD_SIZE: Final = _RECORD.size
"""Bytes of a record: 24."""

INTENT: Final = 0x0000
"""The SW of a record that says: every check has passed, it runs next."""

LAST_TASK_END: Final = 0x00FF
"""Records with SW 0001 to 00FF say how an asynchronous task ended: 00, then its status."""


class EntryType(IntEnum):
    """What an entry of a segment is (docs/audit.md, section 4)."""

    RUN = 1
    SESSION_OPENED = 2
    GAP = 3
    PAYLOAD = 4
    CHECKPOINT = 5
    CLEAN_END = 6
    SESSION_CLOSED = 7
    REFUSED = 8
    READS = 9
    NODE_KEY = 10


class Refusal(IntEnum):
    """Why a handshake led to no session."""

    UNKNOWN_KEY = 1
    WRONG_ADDRESS = 2
    BAD_HANDSHAKE = 3
    REPLAY = 4
    RATE = 5
    LIMIT = 6


class KeyEvent(IntEnum):
    """What became of the node's key."""

    BEGAN = 1
    """It has a next one, and both are valid."""

    ENDED = 2
    """The next one has taken its place."""


class Record(NamedTuple):
    """One step. `seq` is 0 for a plain frame; `sw` as INTENT and LAST_TASK_END say, or the answer.

    `key_hash` is the first 4 bytes of the BLAKE2b of the agent's key, `digest` that of the payload
    in clear, without Seq.
    """

    time_ns: int
    key_hash: bytes
    ins: int
    cla: int
    seq: int
    digest: bytes
    sw: int

    def pack(self) -> bytes:
        """The 24 bytes. ValueError when a field does not fit its place."""
        if len(self.key_hash) != 4 or len(self.digest) != 4:
            raise ValueError("a key hash and a digest have 4 bytes each")
        try:
            return _RECORD.pack(*self)
        except struct.error as error:
            raise ValueError(f"a field of the record does not fit: {error}") from None


def unpack(data: bytes) -> Record:
    """The record in 24 bytes; every value of every byte is one. ValueError: not 24 bytes."""
    if len(data) != RECORD_SIZE:
        raise ValueError(f"a record has {RECORD_SIZE} bytes, not {len(data)}")
    return Record._make(_RECORD.unpack(data))


def iter_unpack(data: bytes) -> Iterator[Record]:
    """The records that stand one behind the other. ValueError: the last one is not whole."""
    if len(data) % RECORD_SIZE:
        raise ValueError(f"{len(data)} bytes are not a number of records")
    return map(Record._make, _RECORD.iter_unpack(data))


def digest(payload: bytes) -> bytes:
    """What a record tells of a payload: 4 bytes."""
    return hashlib.blake2b(payload).digest()[:4]
