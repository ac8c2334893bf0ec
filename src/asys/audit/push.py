"""Messages between a node and its collector, each in one record (docs/audit.md, section 11).

Pure. `pack` raises ValueError for a field that does not fit its place; `parse_from_node` and
`parse_from_collector` raise BadPush, and nothing else, whatever bytes they get.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar, Final, TypeAlias

from asys.audit.chain import format_anchor
from asys.audit.segments import KINDS
from asys.protocol.status import SW

PROLOGUE: Final = b"asys-audit-v1"
"""The prologue of the handshake: what is pushed cannot be passed on to an asyd, nor the reverse."""

DEFAULT_PORT: Final = 7817
"""The collector's TCP port."""

MAX_BYTES: Final = 60_000
"""Bytes of a segment in one PUT."""

MAX_PIPELINED: Final = 8
"""PUTs that a node may have sent without having read the answer to the first of them."""

_OPEN: Final = struct.Struct(">BBB")
_PUT: Final = struct.Struct(">BBIQ")
_STANDS: Final = struct.Struct(">BBIQQ32s")
_ACK: Final = struct.Struct(">BBQ32s")
_REFUSED: Final = struct.Struct(">BBB")

MAX_MESSAGE: Final = _PUT.size + MAX_BYTES
"""Bytes of the longest message."""


class BadPush(Exception):
    """The bytes are no message of this protocol; what is wrong with them, in words."""


class PushType(IntEnum):
    """The first byte of a message: from the node below 80, from the collector above."""

    OPEN = 0x01
    PUT = 0x02
    STANDS = 0x81
    ACK = 0x82
    REFUSED = 0x83


class Reason(IntEnum):
    """Why a collector refuses."""

    NOT_CONTINUED = 1
    """The bytes do not go on from what is here."""

    DISK = 2
    """The collector's disk does not take them."""

    MALFORMED = 3
    """No message, or one out of turn."""

    GENERATIONS = 4
    """Too many new generations in a day."""


@dataclass(frozen=True, slots=True)
class Open:
    """Node: where does the collector stand with a chain? `anew`: it begins the next generation."""

    kind: str
    anew: bool = False

    type: ClassVar[PushType] = PushType.OPEN

    def pack(self) -> bytes:
        """chain u8 || anew u8, behind the type."""
        return _pack(_OPEN, self.type, _chain(self.kind), self.anew)


@dataclass(frozen=True, slots=True)
class Put:
    """Node: 1 to MAX_BYTES bytes of a segment file, from an offset on."""

    kind: str
    segment: int
    offset: int
    data: bytes = field(repr=False)

    type: ClassVar[PushType] = PushType.PUT

    def pack(self) -> bytes:
        """chain u8 || segment u32 || offset u64 || bytes, behind the type."""
        if not 1 <= len(self.data) <= MAX_BYTES:
            raise ValueError(f"a PUT carries 1 to {MAX_BYTES} bytes, not {len(self.data)}")
        return _pack(_PUT, self.type, _chain(self.kind), self.segment, self.offset) + self.data


@dataclass(frozen=True, slots=True)
class Stands:
    """Collector: what it has of a chain, synced. All zero: nothing."""

    kind: str
    segment: int
    offset: int
    count: int
    h: bytes

    type: ClassVar[PushType] = PushType.STANDS

    def pack(self) -> bytes:
        """chain u8 || segment u32 || offset u64 || count u64 || h 32, behind the type."""
        _check_h(self.h)
        return _pack(
            _STANDS, self.type, _chain(self.kind), self.segment, self.offset, self.count, self.h
        )


@dataclass(frozen=True, slots=True)
class Ack:
    """Collector: everything up to COUNT:HASH is on its disk, synced."""

    kind: str
    count: int
    h: bytes

    type: ClassVar[PushType] = PushType.ACK

    @property
    def anchor(self) -> str:
        """COUNT:HASH."""
        return format_anchor(self.count, self.h)

    def pack(self) -> bytes:
        """chain u8 || count u64 || h 32, behind the type."""
        _check_h(self.h)
        return _pack(_ACK, self.type, _chain(self.kind), self.count, self.h)


@dataclass(frozen=True, slots=True)
class Refused:
    """Collector: the last thing that it says. `reason` is a Reason, or a number of a later one."""

    kind: str
    reason: int

    type: ClassVar[PushType] = PushType.REFUSED

    def pack(self) -> bytes:
        """chain u8 || reason u8, behind the type."""
        return _pack(_REFUSED, self.type, _chain(self.kind), self.reason)


@dataclass(frozen=True, slots=True)
class Unknown:
    """Collector: it does not know the node's key. The first and last thing that it says."""

    def pack(self) -> bytes:
        """6982."""
        return SW.DENIED.wire


FromNode: TypeAlias = Open | Put
"""What a node says."""

FromCollector: TypeAlias = Stands | Ack | Refused | Unknown
"""What a collector says."""


def parse_from_node(message: bytes) -> FromNode:
    """The message in these bytes. BadPush."""
    type_ = message[0] if message else -1
    if type_ == PushType.OPEN:
        _, chain, anew = _unpack(_OPEN, message)
        if anew > 1:
            raise BadPush(f"an OPEN has 0 or 1 for anew, not {anew}")
        return Open(_kind(chain), bool(anew))
    if type_ == PushType.PUT:
        if not _PUT.size < len(message) <= MAX_MESSAGE:
            raise BadPush(f"{len(message)} bytes are no PUT")
        _, chain, segment, offset = _PUT.unpack_from(message)
        return Put(_kind(chain), segment, offset, message[_PUT.size :])
    raise _no_type(type_)


def parse_from_collector(message: bytes) -> FromCollector:
    """The message in these bytes. BadPush."""
    if message == SW.DENIED.wire:
        return Unknown()
    type_ = message[0] if message else -1
    if type_ == PushType.STANDS:
        _, chain, segment, offset, count, h = _unpack(_STANDS, message)
        return Stands(_kind(chain), segment, offset, count, h)
    if type_ == PushType.ACK:
        _, chain, count, h = _unpack(_ACK, message)
        return Ack(_kind(chain), count, h)
    if type_ == PushType.REFUSED:
        _, chain, reason = _unpack(_REFUSED, message)
        return Refused(_kind(chain), reason)
    raise _no_type(type_)


def _chain(kind: str) -> int:
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no chain: {', '.join(KINDS)}")
    return KINDS.index(kind)


def _kind(chain: int) -> str:
    if chain >= len(KINDS):
        raise BadPush(f"there is no chain {chain}")
    return KINDS[chain]


def _check_h(h: bytes) -> None:
    if len(h) != 32:
        raise ValueError(f"a chain value has 32 bytes, not {len(h)}")


def _pack(form: struct.Struct, *values: object) -> bytes:
    try:
        return form.pack(*values)
    except struct.error as error:
        raise ValueError(f"a field of the message does not fit: {error}") from None


def _unpack(form: struct.Struct, message: bytes) -> tuple[Any, ...]:
    if len(message) != form.size:
        name = PushType(message[0]).name
        raise BadPush(f"{len(message)} bytes are no {name}, which has {form.size}")
    return form.unpack(message)


def _no_type(type_: int) -> BadPush:
    return BadPush("an empty message" if type_ < 0 else f"{type_:02X} is no type of message here")
