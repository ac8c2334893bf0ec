"""From the slots of a ring to entries of a chain, and back to how many slots these were. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from asys.audit.chain import HEAD_SIZE, Chain
from asys.audit.entries import BadEntry, parse
from asys.audit.records import RECORD_SIZE, EntryType
from asys.node.audit.ring import KIND_RECORD, MESSAGE, SLOT

_OF_SESSION: Final = frozenset(
    {
        EntryType.SESSION_OPENED,
        EntryType.PAYLOAD,
        EntryType.SESSION_CLOSED,
        EntryType.READS,
    }
)
_OF_NONE: Final = frozenset({EntryType.GAP, EntryType.REFUSED, EntryType.NODE_KEY})
_U32: Final = 0xFFFFFFFF
_SESSION: Final = struct.Struct(">I")


class Encoded(NamedTuple):
    """`data` are the entries for `slots` slots; `bad` messages among them were none."""

    data: bytes
    slots: int
    bad: int


def encode(chain: Chain, data: bytes, base: int) -> Encoded:
    """The entries for whole slots; a message at their end that is cut is left.

    Records that follow each other and are of one session become one run. Session n of the ring is
    `base` + n of the chain. It is never longer than `data`.
    """
    parts: list[bytes] = []
    run: list[bytes] = []
    current = -1
    at, size, bad = 0, len(data), 0

    def end_run() -> None:
        if run:
            parts.append(chain.add_records(base + current & _U32, b"".join(run)))
            run.clear()

    while at < size:
        kind, length, session = MESSAGE.unpack_from(data, at)
        if kind == KIND_RECORD:
            if session != current:
                end_run()
                current = session
            run.append(data[at + MESSAGE.size : at + SLOT])
            at += SLOT
            continue
        end_run()
        end = at + _slots(length) * SLOT
        if end > size:
            break
        body = data[at + MESSAGE.size : at + MESSAGE.size + length]
        if kind in _OF_SESSION:
            body = _SESSION.pack(base + session & _U32) + body
        at = end
        if _is_good(kind, body):
            parts.append(chain.add_body(kind, body))
        else:
            bad += 1
    end_run()
    return Encoded(b"".join(parts), at // SLOT, bad)


def split(data: bytes) -> Iterator[bytes]:
    """The whole entries in some bytes, one after the other: type, length, body."""
    at = 0
    while len(data) - at >= HEAD_SIZE:
        end = at + HEAD_SIZE + (data[at + 1] << 8 | data[at + 2])
        if end > len(data):
            return
        yield data[at:end]
        at = end


def slots_of(framed: bytes) -> int:
    """How many slots an entry was that `encode` made; the writer's own entries were none."""
    type_ = framed[0]
    length = len(framed) - HEAD_SIZE
    if type_ == EntryType.RUN:
        return (length - _SESSION.size) // RECORD_SIZE
    if type_ in _OF_SESSION:
        return _slots(length - _SESSION.size)
    return _slots(length) if type_ in _OF_NONE else 0


def _slots(length: int) -> int:
    return -(-(MESSAGE.size + length) // SLOT)


def _is_good(kind: int, body: bytes) -> bool:
    """Whether asyd may have this entry written: one that is none would spoil the chain."""
    if kind not in _OF_SESSION and kind not in _OF_NONE:
        return False
    try:
        parse(kind, body)
    except BadEntry:
        return False
    return True
