"""A chain as its segment files have it, cut into what is pushed. Only reads.

Bytes that belong to no entry (docs/audit.md, section 3) are passed over. What was read is checked
against the chain itself, so that what somebody has changed meanwhile is noticed here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from asys.audit.chain import GENESIS, HEAD_SIZE, HEADER_SIZE, header, step
from asys.audit.entries import MAX_BODY, BadEntry, Checkpoint, parse
from asys.audit.push import MAX_BYTES, Put, Stands
from asys.audit.records import EntryType
from asys.audit.segments import (
    BadSegment,
    Segment,
    SegmentReader,
    find_segments,
    segment_name,
)
from asys.node.audit.ring import Position

_READ: Final = HEAD_SIZE + MAX_BODY
"""Bytes read at once: the longest entry."""

_OPEN: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class Astray(Exception):
    """The files do not go on as the chain did. From segment `start` on there may be a new one."""

    def __init__(self, words: str, start: int) -> None:
        super().__init__(words)
        self.start = start


class Cursor(NamedTuple):
    """A place in a segment, and the chain there: how many entries are before it, and h."""

    segment: int
    offset: int
    entries: int
    h: bytes


class Piece(NamedTuple):
    """What one PUT carries. `end` is where it ends; None while an entry of it goes on."""

    put: Put
    end: Cursor | None


class Source:
    """Reads one chain, from where somebody stands to where the writer does."""

    def __init__(self, directory: Path, kind: str) -> None:
        self.kind: Final = kind
        self._directory = directory
        self._cursor: Cursor | None = None
        self._fd = -1
        self._number = 0

    @property
    def cursor(self) -> Cursor | None:
        """What was read last ends here; None: it is not known where to read."""
        return self._cursor

    def leave(self) -> None:
        """Forgets where it was."""
        self._cursor = None
        self._close()

    # -- where to begin

    def stand(self, stands: Stands, mark: Position) -> bool:
        """Goes to where the collector stands; False when that is nowhere on this chain. OSError."""
        self._close()
        cursor = Cursor(stands.segment, stands.offset, stands.count, stands.h)
        where = mark.segment, mark.offset
        at_mark = (cursor.entries, cursor.h) == (mark.entries, mark.h)
        # Where nothing more goes into a segment, it need not be there either.
        if (at_mark and (not mark.offset or where == cursor[:2])) or self._has(cursor):
            self._cursor = cursor
            return True
        # Its segment may be gone, or may never have had its head: then the next one tells.
        following = cursor.segment + 1
        if self._previous(cursor.segment) is None:
            start = self._beginning(Segment(following, self._path(following)))
            if start is not None and start[2:] == cursor[2:]:
                self._cursor = start
                return True
        return False

    def begin(self, lowest: int = 0) -> bool:
        """Goes to the first segment from `lowest` on that can be the first one of a chain.

        False while there is none. OSError.
        """
        self._close()
        for segment in find_segments(self._directory, self.kind):
            if segment.number >= lowest:
                cursor = self._beginning(segment)
                if cursor is not None:
                    self._cursor = cursor
                    return True
        return False

    def _beginning(self, segment: Segment) -> Cursor | None:
        """The head of a segment, when the segment tells what was before it."""
        try:
            with SegmentReader(segment) as reader:
                if not reader.read_header():
                    return None
                previous = reader.previous or b""
                if segment.number == 1:
                    return Cursor(1, 0, 0, GENESIS) if previous == GENESIS else None
                first = reader.batch()[:1]
        except (BadSegment, FileNotFoundError):
            return None
        for framed in first:
            checkpoint = _checkpoint(framed.data)
            if checkpoint is not None and checkpoint.h == previous:
                return Cursor(segment.number, 0, checkpoint.entries, previous)
        return None

    def _has(self, wanted: Cursor) -> bool:
        segment = Segment(wanted.segment, self._path(wanted.segment))
        start = self._beginning(segment)
        if start is None:
            return False
        try:
            with SegmentReader(segment) as reader:
                reader.read_header()
                offset, count, h = HEADER_SIZE, start.entries, start.h
                while offset < wanted.offset and (batch := reader.batch()):
                    for framed in batch:
                        if offset == wanted.offset:
                            break
                        h = step(h, framed.data)
                        count += 1
                        offset += len(framed.data)
        except (BadSegment, FileNotFoundError):
            return False
        return (offset, count, h) == wanted[1:]

    def _previous(self, number: int) -> bytes | None:
        try:
            with SegmentReader(Segment(number, self._path(number))) as reader:
                return reader.previous if reader.read_header() else None
        except (BadSegment, FileNotFoundError):
            return None

    # -- going on

    def read(self, mark: Position) -> list[Piece]:
        """What comes next on the way to where the writer stood; empty when there is nothing.

        More than one piece only where one entry is too long for one. Astray; OSError.
        """
        while (cursor := self._cursor) is not None and cursor.entries < mark.entries:
            bound = mark.offset if cursor.segment == mark.segment else 0
            pieces = self._read(cursor, bound, later=cursor.segment < mark.segment)
            if pieces:
                self._cursor = pieces[-1].end
                return pieces
            if cursor.segment >= mark.segment:
                if bound:
                    raise self._astray(cursor, "it is not what the writer wrote")
                return []
            self._cursor = Cursor(cursor.segment + 1, 0, cursor.entries, cursor.h)
        wrong = cursor is not None and cursor.entries == mark.entries and cursor.h != mark.h
        if cursor is not None and wrong and mark.offset:
            raise self._astray(cursor, "it is not what the writer wrote")
        # Where nothing more goes into a segment, the head of the next one will tell.
        return []

    def _read(self, cursor: Cursor, bound: int, *, later: bool) -> list[Piece]:
        """Whole entries from a place on, as many as fit, up to the offset `bound` if it is set."""
        try:
            self._open(cursor.segment)
        except FileNotFoundError:
            if later and self._previous(cursor.segment + 1) == cursor.h:
                return []  # it has gone, and there was no more in it
            if later or bound:
                raise self._astray(cursor, "it is not there any more") from None
            return []
        head = b""
        offset = cursor.offset
        if not offset:
            head = header(cursor.segment, cursor.h)
            found = os.pread(self._fd, HEADER_SIZE, 0)
            if found != head:
                if len(found) == HEADER_SIZE and any(found):
                    words = "its head does not go on from what is before it"
                    raise Astray(self._at(cursor, words), cursor.segment)
                if not later:
                    return []
                # Its head was never finished, so it holds nothing; but its number is taken.
                end = Cursor(cursor.segment, HEADER_SIZE, cursor.entries, cursor.h)
                return [Piece(Put(self.kind, cursor.segment, 0, head), end)]
            offset = HEADER_SIZE
        size = min(_READ, bound - offset) if bound else _READ
        data = os.pread(self._fd, size, offset) if size > 0 else b""
        entries, count, h = self._split(cursor, data, MAX_BYTES - len(head))
        if entries or head:
            reached = Cursor(cursor.segment, offset + len(entries), count, h)
            return [Piece(Put(self.kind, cursor.segment, cursor.offset, head + entries), reached)]
        if len(data) < HEAD_SIZE or not data[0]:
            return []
        # One entry that is too long for one PUT, or none.
        entries, count, h = self._split(cursor, data[: HEAD_SIZE + (data[1] << 8 | data[2])], _READ)
        parts = [entries[at : at + MAX_BYTES] for at in range(0, len(entries), MAX_BYTES)]
        return [
            Piece(
                Put(self.kind, cursor.segment, offset + index * MAX_BYTES, part),
                Cursor(cursor.segment, offset + len(entries), count, h)
                if index == len(parts) - 1
                else None,
            )
            for index, part in enumerate(parts)
        ]

    def _split(self, cursor: Cursor, data: bytes, room: int) -> tuple[bytes, int, bytes]:
        """The whole entries at the begin of `data`, `room` bytes at most; count and h behind."""
        at, count, h = 0, cursor.entries, cursor.h
        while len(data) - at >= HEAD_SIZE and data[at]:
            end = at + HEAD_SIZE + (data[at + 1] << 8 | data[at + 2])
            if end > min(len(data), room):
                break
            framed = data[at:end]
            if framed[0] == EntryType.CHECKPOINT:
                checkpoint = _checkpoint(framed)
                if checkpoint is None or (checkpoint.entries, checkpoint.h) != (count, h):
                    raise self._astray(cursor, "a checkpoint does not fit what is before it")
            h = step(h, framed)
            count += 1
            at = end
        return data[:at], count, h

    def _astray(self, cursor: Cursor, words: str) -> Astray:
        return Astray(self._at(cursor, words), cursor.segment + 1)

    def _at(self, cursor: Cursor, words: str) -> str:
        name = segment_name(self.kind, cursor.segment)
        return f"{name}, from offset {cursor.offset} on: {words}"

    def _path(self, number: int) -> Path:
        return self._directory / segment_name(self.kind, number)

    def _open(self, number: int) -> None:
        if self._number != number:
            self._close()
            self._fd = os.open(self._path(number), _OPEN)
            self._number = number

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._number = -1, 0


def _checkpoint(framed: bytes) -> Checkpoint | None:
    try:
        entry = parse(framed[0], framed[HEAD_SIZE:])
    except BadEntry:
        return None
    return entry if isinstance(entry, Checkpoint) else None
