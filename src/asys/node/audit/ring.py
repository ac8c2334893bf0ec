"""The ring between asyd and the writer: one side puts, the other takes, nobody waits.

Memory: a head of 4096 bytes, the slots of 32 bytes, and the stage of the writer. A message is
kind u8 · 0 · length u16 · session u32 · body, big-endian, and goes on through as many slots as it
needs. `head` counts the slots that asyd has filled, ever; `tail` those that are on the disk. Only
then may they be used again, so what a writer had in hand when it died is still there for the next.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Final, NamedTuple

from asys.node.audit.memory import allocate, mapped, settle

DOING: Final = 170_000
"""Slots for what agents do."""

READING: Final = 8192
"""Slots for what agents only read, coalesced."""

RESERVE: Final = 4096
"""Slots beyond these, for what follows from a message that was taken: an outcome, an end."""

SLOT: Final = 32

STAGE: Final = 192 << 10
"""Bytes that the writer has in hand at most."""

MAX_BODY: Final = 0xFFFF

RECORD: Final = struct.Struct(">BxHIQ4sBBI4sH")
"""The slot of a record: kind, length, session, and the 24 bytes."""

MESSAGE: Final = struct.Struct(">BxHI")
"""What a message begins with: kind, length of its body, session."""

KIND_RECORD: Final = 1

_HEADER: Final = 4096
_MAGIC: Final = 0x61737973_52494E47
_VERSION: Final = 1
_POSITION: Final = struct.Struct(">QQIQQ32s?IQQ32sBx")
_POSITIONS: Final = (1024, 2048)

# Indexes of u64 in the head; head and tail are far apart, as two processors write them.
_AT_MAGIC, _AT_VERSION = 0, 1
_AT_HEAD: Final = 16
_AT_TAIL: Final = 32
_AT_FLAGS: Final = 33
_AT_PID: Final = 34
_AT_SYNCED: Final = 35
_AT_WHICH: Final = 36
_AT_TAKEN: Final = 37
_AT_ACKNOWLEDGED: Final = 48
_AT_FOLLOWED: Final = 49

ERROR: Final = 1
"""Flag of the writer: the disk does not take what it should."""

ROLLS: Final = 1
"""What is under way ends with a checkpoint."""

ENDS: Final = 2
"""What is under way ends the chain."""


class Position(NamedTuple):
    """Where the chain of a ring stands on the disk, and what is under way to it.

    `tail` slots are in; session number n of the ring is `base` + n of the chain. `segment` ends at
    `offset` with the chain value `h` after `entries`; `offset` 0: nothing more goes into it.
    `ended`: the chain has its clean end. While `length` is not 0, that many bytes of the stage
    belong behind `offset`, and with them all is as the `next_` say.
    """

    tail: int
    base: int
    segment: int
    offset: int
    entries: int
    h: bytes
    ended: bool = False
    length: int = 0
    next_tail: int = 0
    next_entries: int = 0
    next_h: bytes = bytes(32)
    kind: int = 0

    @property
    def arrived(self) -> Position:
        """When what is under way is on the disk."""
        return Position(
            self.next_tail,
            self.base,
            self.segment,
            self.offset + self.length,
            self.next_entries,
            self.next_h,
            bool(self.kind & ENDS),
        )


class Ring:
    """One ring; a process uses the side that is its own."""

    def __init__(self, fd: int) -> None:
        """Maps the ring behind a descriptor. OSError; ValueError: it holds none."""
        self.fd: Final = fd
        self._map = mapped(fd)
        whole = memoryview(self._map)
        self._words = whole[:_HEADER].cast("Q")
        begun = tuple(self._words[_AT_MAGIC : _AT_VERSION + 1])
        if begun not in ((0, 0), (_MAGIC, _VERSION)):
            raise ValueError("this is no ring of this version's audit")
        self.slots: Final = (len(whole) - _HEADER - STAGE) // SLOT
        self._slots = whole[_HEADER : _HEADER + self.slots * SLOT]
        self.stage: Final = whole[_HEADER + self.slots * SLOT :]
        self._head = self._words[_AT_HEAD]
        self._bound = self._words[_AT_TAIL] + self.slots - RESERVE

    @classmethod
    def create(cls, name: str, slots: int) -> Ring:
        """A new ring that takes so many messages of one slot. OSError: no memory."""
        fd = allocate(name, _HEADER + (slots + RESERVE) * SLOT + STAGE)
        try:
            ring = cls(fd)
        except BaseException:
            os.close(fd)
            raise
        ring._words[_AT_MAGIC] = _MAGIC
        ring._words[_AT_VERSION] = _VERSION
        return ring

    def close(self) -> None:
        """Gives the descriptor back; the memory goes when nobody holds it any more."""
        os.close(self.fd)

    # -- asyd's side

    def record(
        self,
        session: int,
        time_ns: int,
        key_hash: bytes,
        ins: int,
        cla: int,
        seq: int,
        digest: bytes,
        sw: int,
        *,
        reserved: bool = False,
    ) -> bool:
        """Puts a record; False: the ring is full. `reserved`: the reserve is open to it."""
        head = self._head
        if head >= self._bound and not self._room(1, reserved):
            return False
        RECORD.pack_into(
            self._slots,
            head % self.slots * SLOT,
            KIND_RECORD,
            24,
            session,
            time_ns,
            key_hash,
            ins,
            cla,
            seq,
            digest,
            sw,
        )
        self._head = self._words[_AT_HEAD] = head + 1
        return True

    def put(self, kind: int, session: int, body: bytes, *, reserved: bool = False) -> bool:
        """Puts any message; False: the ring is full. ValueError: the body is too long."""
        if len(body) > MAX_BODY:
            raise ValueError(f"a message of {len(body)} bytes is longer than {MAX_BODY}")
        data = MESSAGE.pack(kind, len(body), session) + body
        count = -(-len(data) // SLOT)
        head = self._head
        if head + count > self._bound and not self._room(count, reserved):
            return False
        at = head % self.slots * SLOT
        until_end = len(self._slots) - at
        part = data[:until_end]
        self._slots[at : at + len(part)] = part
        if len(data) > until_end:
            self._slots[: len(data) - until_end] = data[until_end:]
        self._head = self._words[_AT_HEAD] = head + count
        return True

    def _room(self, count: int, reserved: bool) -> bool:
        """Looks at how far the writer has come; True when so many slots are free."""
        full = self._words[_AT_TAIL] + self.slots
        self._bound = full - RESERVE
        return self._head + count <= (full if reserved else self._bound)

    # -- both sides

    @property
    def head(self) -> int:
        """Slots that asyd has filled, ever."""
        return self._words[_AT_HEAD]

    @property
    def tail(self) -> int:
        """Slots whose messages are on the disk."""
        return self._words[_AT_TAIL]

    @property
    def flags(self) -> int:
        """ERROR or 0."""
        return self._words[_AT_FLAGS]

    @flags.setter
    def flags(self, flags: int) -> None:
        self._words[_AT_FLAGS] = flags

    @property
    def writer(self) -> int:
        """The PID of the writer that has this ring; 0: none had it yet."""
        return self._words[_AT_PID]

    @property
    def writers(self) -> int:
        """How many writers have had this ring; all but the last have died, or are about to."""
        return self._words[_AT_TAKEN]

    @property
    def synced_ns(self) -> int:
        """Unix time of the last sync; 0: there was none."""
        return self._words[_AT_SYNCED]

    # -- the writer's side

    def take(self) -> None:
        """Waits until no other process is this ring's writer, then is it. OSError."""
        fcntl.lockf(self.fd, fcntl.LOCK_EX)
        self._words[_AT_PID] = os.getpid()
        self._words[_AT_TAKEN] += 1
        position = self.position
        if position is not None:
            self._words[_AT_TAIL] = position.tail  # its setter may have been killed in between

    def peek(self, tail: int, most: int) -> bytes:
        """The slots from `tail` on, `most` of them at most; the last message may be cut."""
        head = self._words[_AT_HEAD]
        count = min(head - tail, most)
        if not count:
            return b""
        settle()
        at = tail % self.slots * SLOT
        data = bytes(self._slots[at : at + count * SLOT])
        return data + bytes(self._slots[: count * SLOT - len(data)])

    @property
    def position(self) -> Position | None:
        """Where the chain stands; None: no writer has begun."""
        which = self._words[_AT_WHICH]
        if not which:
            return None
        return Position._make(_POSITION.unpack_from(self._map, _POSITIONS[which - 1]))

    @position.setter
    def position(self, position: Position) -> None:
        """Takes effect in one store: whenever the writer dies, one of both is there whole."""
        other = 2 if self._words[_AT_WHICH] == 1 else 1
        _POSITION.pack_into(self._map, _POSITIONS[other - 1], *position)
        self._words[_AT_WHICH] = other
        self._words[_AT_TAIL] = position.tail

    def synced(self, time_ns: int) -> None:
        """Says when something reached the disk last."""
        self._words[_AT_SYNCED] = time_ns

    # -- the shipper's side (asys.node.audit.shadow); asyd sets `followed` when that has died

    @property
    def acknowledged(self) -> int:
        """Slots whose messages are on the collector's disk as well."""
        return self._words[_AT_ACKNOWLEDGED]

    @acknowledged.setter
    def acknowledged(self, slots: int) -> None:
        self._words[_AT_ACKNOWLEDGED] = slots

    @property
    def followed(self) -> bool:
        """Whether a collector is connected, and has had everything since it is."""
        return bool(self._words[_AT_FOLLOWED])

    @followed.setter
    def followed(self, followed: bool) -> None:
        self._words[_AT_FOLLOWED] = followed

    @property
    def observed(self) -> Position | None:
        """As `position`, for a process that is not the writer: one whole position."""
        words = self._words
        while True:
            which = words[_AT_WHICH]
            if not which:
                return None
            settle()
            at = _POSITIONS[which - 1]
            first = self._map[at : at + _POSITION.size]
            # Who writes there has turned to the other one before, and turns back when all is there.
            if words[_AT_WHICH] != which or self._map[at : at + _POSITION.size] != first:
                continue
            if words[_AT_WHICH] == which:
                return Position._make(_POSITION.unpack(first))
