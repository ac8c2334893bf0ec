"""Entries of a segment, one class for each type (docs/audit.md, section 4).

`body()` gives the bytes behind type and length and raises ValueError for a field that does not fit;
`parse` is its inverse and raises BadEntry, and nothing else, whatever bytes it gets.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Final, NamedTuple, TypeAlias

from asys.audit.records import RECORD_SIZE, EntryType, Record, iter_unpack

MAX_BODY: Final = 0xFFFF
"""Bytes of a body: its length is a u16."""

MAX_RUN: Final = (MAX_BODY - 4) // RECORD_SIZE
"""Records in one run."""

MAX_TEXT: Final = 0xFF
"""Bytes of a label or a peer: its length is a u8."""

_SESSION: Final = struct.Struct(">I")
_OPENED: Final = struct.Struct(">I32sIQ")
_GAP: Final = struct.Struct(">QQQ")
_PAYLOAD: Final = struct.Struct(">IIB")
_CHECKPOINT: Final = struct.Struct(">Q32sQ32s64s")
_MOMENT: Final = struct.Struct(">Q")
_CLOSED: Final = struct.Struct(">IQ")
_REFUSED: Final = struct.Struct(">BIQQ4s")
_READ: Final = struct.Struct(">IBHIx")
_NODE_KEY: Final = struct.Struct(">BQ32s32sI")

MAX_READS: Final = (MAX_BODY - 4) // _READ.size
"""Lines in one entry of coalesced reads."""


class BadEntry(Exception):
    """The bytes are no entry; the message says what is wrong with them."""


@dataclass(frozen=True, slots=True)
class Run:
    """Records of one session, in the order in which they were made; at least one.

    `packed` holds them as they stand in the file, 24 bytes each.
    """

    session: int
    packed: bytes = field(repr=False)

    type: ClassVar[EntryType] = EntryType.RUN

    @classmethod
    def of(cls, session: int, records: Iterable[Record]) -> Run:
        """The run of these records."""
        return cls(session, b"".join(record.pack() for record in records))

    @property
    def records(self) -> Iterator[Record]:
        """The records, one after the other."""
        return iter_unpack(self.packed)

    def body(self) -> bytes:
        """session u32 || n x 24."""
        count, rest = divmod(len(self.packed), RECORD_SIZE)
        if rest or not 1 <= count <= MAX_RUN:
            raise ValueError(f"a run has 1 to {MAX_RUN} records of {RECORD_SIZE} bytes")
        return _pack(_SESSION, self.session) + self.packed


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """Whose session a number means, and since when; again at the head of each later segment.

    `line` is the line of `authorized_agents` that the agent's rights come from.
    """

    session: int
    key: bytes
    line: int
    time_ns: int
    label: str
    peer: str

    type: ClassVar[EntryType] = EntryType.SESSION_OPENED

    def body(self) -> bytes:
        """session u32 || key 32 || line u32 || ns u64 || label and peer, each behind its length."""
        _sized("key", self.key, 32)
        head = _pack(_OPENED, self.session, self.key, self.line, self.time_ns)
        return head + _counted("label", self.label) + _counted("peer", self.peer)


@dataclass(frozen=True, slots=True)
class Gap:
    """Records that were lost because there was no room for them: how many, from when to when."""

    count: int
    first_ns: int
    last_ns: int

    type: ClassVar[EntryType] = EntryType.GAP

    def body(self) -> bytes:
        """count u64 || first ns u64 || last ns u64."""
        return _pack(_GAP, self.count, self.first_ns, self.last_ns)


@dataclass(frozen=True, slots=True)
class Payload:
    """The payload of an instruction in clear, without Seq; it stands before its intent."""

    session: int
    seq: int
    ins: int
    payload: bytes = field(repr=False)

    type: ClassVar[EntryType] = EntryType.PAYLOAD

    def body(self) -> bytes:
        """session u32 || Seq u32 || INS u8 || payload."""
        body = _pack(_PAYLOAD, self.session, self.seq, self.ins) + self.payload
        if len(body) > MAX_BODY:
            raise ValueError(f"a payload of {len(self.payload)} bytes does not fit an entry")
        return body


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signature over everything before it; `entries` and `h` are those before this entry.

    `next_key` is the public key that signs the next one.
    """

    entries: int
    h: bytes
    time_ns: int
    next_key: bytes
    signature: bytes = field(repr=False)

    type: ClassVar[EntryType] = EntryType.CHECKPOINT

    def body(self) -> bytes:
        """entries u64 || h 32 || ns u64 || next public key 32 || signature 64."""
        _sized("chain value", self.h, 32)
        _sized("key", self.next_key, 32)
        _sized("signature", self.signature, 64)
        return _pack(_CHECKPOINT, self.entries, self.h, self.time_ns, self.next_key, self.signature)


@dataclass(frozen=True, slots=True)
class CleanEnd:
    """The writer has ended on purpose; the checkpoint behind it makes it count."""

    time_ns: int

    type: ClassVar[EntryType] = EntryType.CLEAN_END

    def body(self) -> bytes:
        """ns u64."""
        return _pack(_MOMENT, self.time_ns)


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The connection of a session has ended."""

    session: int
    time_ns: int

    type: ClassVar[EntryType] = EntryType.SESSION_CLOSED

    def body(self) -> bytes:
        """session u32 || ns u64."""
        return _pack(_CLOSED, self.session, self.time_ns)


@dataclass(frozen=True, slots=True)
class Refused:
    """Handshakes that led to no session, counted. `key_hash` is zero where no key was proven.

    `reason` is a Refusal; one that this version does not know stays a number.
    """

    reason: int
    count: int
    first_ns: int
    last_ns: int
    key_hash: bytes = bytes(4)

    type: ClassVar[EntryType] = EntryType.REFUSED

    def body(self) -> bytes:
        """reason u8 || count u32 || first ns u64 || last ns u64 || key hash 4."""
        _sized("key hash", self.key_hash, 4)
        return _pack(_REFUSED, self.reason, self.count, self.first_ns, self.last_ns, self.key_hash)


class Read(NamedTuple):
    """So many equal readings in one second (Unix time) of one session."""

    second: int
    ins: int
    sw: int
    times: int


@dataclass(frozen=True, slots=True)
class Reads:
    """What a session only read, coalesced; at least one line."""

    session: int
    reads: tuple[Read, ...]

    type: ClassVar[EntryType] = EntryType.READS

    def body(self) -> bytes:
        """session u32 || n x (second u32 || INS u8 || SW u16 || count u32 || reserved u8)."""
        if not 1 <= len(self.reads) <= MAX_READS:
            raise ValueError(f"an entry of reads has 1 to {MAX_READS} lines")
        return _pack(_SESSION, self.session) + b"".join(_pack(_READ, *one) for one in self.reads)


@dataclass(frozen=True, slots=True)
class NodeKey:
    """What became of the node's key: `event` is a KeyEvent, or a number that is not known.

    `ends` is when the old key was to end, in Unix seconds.
    """

    event: int
    time_ns: int
    old_key: bytes
    new_key: bytes
    ends: int

    type: ClassVar[EntryType] = EntryType.NODE_KEY

    def body(self) -> bytes:
        """event u8 || ns u64 || old key 32 || new key 32 || ends u32."""
        _sized("key", self.old_key, 32)
        _sized("key", self.new_key, 32)
        return _pack(_NODE_KEY, self.event, self.time_ns, self.old_key, self.new_key, self.ends)


Entry: TypeAlias = (
    Run
    | SessionOpened
    | Gap
    | Payload
    | Checkpoint
    | CleanEnd
    | SessionClosed
    | Refused
    | Reads
    | NodeKey
)
"""Any entry."""


def parse(type_: int, body: bytes) -> Entry:
    """The entry of a type with that body. BadEntry: there is no such type, or the body is bad."""
    reader = _PARSERS.get(type_)
    if reader is None:
        raise BadEntry(f"{type_:02X} is no type of entry")
    try:
        return reader(body)
    except struct.error:
        name = EntryType(type_).name.lower().replace("_", " ")
        raise BadEntry(f"{len(body)} bytes are no {name} entry") from None


def _run(body: bytes) -> Run:
    if len(body) < 4 + RECORD_SIZE or (len(body) - 4) % RECORD_SIZE:
        raise BadEntry(f"{len(body)} bytes are not a run of whole records")
    return Run(int.from_bytes(body[:4], "big"), body[4:])


def _opened(body: bytes) -> SessionOpened:
    session, key, line, time_ns = _OPENED.unpack_from(body)
    label, rest = _text("label", body[_OPENED.size :])
    peer, rest = _text("peer", rest)
    if rest:
        raise BadEntry(f"{len(rest)} bytes follow the peer of a session")
    return SessionOpened(session, key, line, time_ns, label, peer)


def _payload(body: bytes) -> Payload:
    session, seq, ins = _PAYLOAD.unpack_from(body)
    return Payload(session, seq, ins, body[_PAYLOAD.size :])


def _reads(body: bytes) -> Reads:
    if len(body) < 4 + _READ.size or (len(body) - 4) % _READ.size:
        raise BadEntry(f"{len(body)} bytes are no whole lines of reads")
    (session,) = _SESSION.unpack_from(body)
    return Reads(session, tuple(map(Read._make, _READ.iter_unpack(body[4:]))))


_PARSERS: Final[dict[int, Callable[[bytes], Entry]]] = {
    EntryType.RUN: _run,
    EntryType.SESSION_OPENED: _opened,
    EntryType.GAP: lambda body: Gap(*_GAP.unpack(body)),
    EntryType.PAYLOAD: _payload,
    EntryType.CHECKPOINT: lambda body: Checkpoint(*_CHECKPOINT.unpack(body)),
    EntryType.CLEAN_END: lambda body: CleanEnd(*_MOMENT.unpack(body)),
    EntryType.SESSION_CLOSED: lambda body: SessionClosed(*_CLOSED.unpack(body)),
    EntryType.REFUSED: lambda body: Refused(*_REFUSED.unpack(body)),
    EntryType.READS: _reads,
    EntryType.NODE_KEY: lambda body: NodeKey(*_NODE_KEY.unpack(body)),
}


def _pack(form: struct.Struct, *values: object) -> bytes:
    try:
        return form.pack(*values)
    except struct.error as error:
        raise ValueError(f"a field of the entry does not fit: {error}") from None


def _sized(name: str, value: bytes, size: int) -> None:
    if len(value) != size:
        raise ValueError(f"a {name} has {size} bytes, not {len(value)}")


def _counted(name: str, text: str) -> bytes:
    data = text.encode()
    if len(data) > MAX_TEXT:
        raise ValueError(f"a {name} of {len(data)} bytes is longer than {MAX_TEXT}")
    return bytes((len(data),)) + data


def _text(name: str, data: bytes) -> tuple[str, bytes]:
    """The text behind its length, and what follows it."""
    if not data or len(data) <= data[0]:
        raise BadEntry(f"the {name} of a session is cut short")
    end = 1 + data[0]
    try:
        return data[1:end].decode(), data[end:]
    except UnicodeDecodeError:
        raise BadEntry(f"the {name} of a session is not UTF-8") from None
