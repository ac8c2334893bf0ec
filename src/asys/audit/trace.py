"""Follows a chain through its segments and checks every link (docs/audit.md, section 6)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from asys.audit.chain import GENESIS, HEAD_SIZE, HEADER_SIZE, Chain, header, is_signed, step
from asys.audit.entries import BadEntry, Checkpoint, CleanEnd, parse
from asys.audit.records import RECORD_SIZE, EntryType
from asys.audit.segments import (
    BadSegment,
    Segment,
    SegmentReader,
    find_segments,
    segment_name,
)

_RUN: Final = int(EntryType.RUN)


class Tampered(Exception):
    """The first thing that nobody writes; the message names file, offset, entry and what it is."""


class Trace:
    """The state of the walk. Memory does not grow with the chain.

    `pinned` is the public key that the caller trusts, `published` the one that lies beside the
    segments, `wanted` the anchor. After `walk`: `h`, `seen` (entries met), `base` (entries before
    the first that is here; None while nothing tells), `signer` (the key of the next checkpoint),
    `linked` (`pinned` has signed one), `clean`, `tail_entries` and `tail_bytes` (behind the last
    checkpoint), `notes`.
    """

    def __init__(
        self,
        *,
        pinned: bytes | None = None,
        published: bytes | None = None,
        wanted: tuple[int, bytes] | None = None,
        expected: frozenset[bytes] = frozenset(),
    ) -> None:
        self._pinned = pinned
        self._published = published
        self._wanted_count, self._wanted_h = wanted or (-1, b"")
        self._expected = expected
        self.h: bytes | None = None
        self.seen = 0
        self.base: int | None = None
        self.signer: bytes | None = None
        self.linked = False
        self.checkpoints = 0
        self.clean = False
        self.ended_ns = 0
        self.tail_entries = 0
        self.tail_bytes = 0
        self.notes: list[str] = []
        self.named: set[bytes] = set()
        """Which of the `expected` keys the chain names or was signed with."""
        self.anchor_met = False
        self._ending = False
        self._begun = False
        self._whole = False
        self._since = ""
        self._path = Path()
        self._number = 0
        self._offset = 0
        self._index = 0

    @property
    def entries(self) -> int | None:
        """Entries of the whole chain up to here, also of segments that are gone."""
        return None if self.base is None else self.base + self.seen

    def walk(self, segments: Sequence[Segment]) -> None:
        """Walks through segments, which come in order. Tampered; OSError."""
        for index, segment in enumerate(segments):
            before = segments[index - 1] if index else None
            if before is not None and segment.number != before.number + 1:
                kind = segment.path.name.partition("-")[0]
                missing = segment_name(kind, before.number + 1)
                raise Tampered(f"{missing} is missing, and {segment.path.name} is there")
            with SegmentReader(segment) as reader:
                try:
                    self._segment(reader)
                except BadSegment as bad:
                    raise Tampered(str(bad)) from None

    # -- one segment

    def _segment(self, reader: SegmentReader) -> None:
        self._number, self._path = reader.segment
        first, self._begun = not self._begun, True
        if first and self._number == 1:
            self._whole = True
            self.base = 0
            self._start(GENESIS)
        if not reader.read_header():
            self._torn_header(reader.torn_header())
            return
        previous = reader.previous or b""
        if self.h is None:
            self._start(previous)
        elif previous != self.h:
            raise self._broken_head()
        self.tail_bytes += HEADER_SIZE
        self.clean = False  # somebody has gone on
        self._index = 0
        while batch := reader.batch():
            for offset, data in batch:
                self._offset = offset
                self._entry(data)
                self._index += 1
        if reader.rest:
            self.tail_bytes += reader.rest
            self.clean = False
            self.notes.append(
                f"{self._path.name}, offset {reader.end}: {reader.rest} bytes of an entry that was "
                "never finished"
            )

    def _start(self, h: bytes) -> None:
        self.h = h
        if h == self._wanted_h:
            self._meet_anchor()

    def _torn_header(self, seen: bytes) -> None:
        """A segment whose head was never finished holds nothing; its bytes must be that head."""
        known = header(self._number, self.h or b"")
        if self.h is None:
            known = known[: HEADER_SIZE - 32]
        if any(seen) and seen[: len(known)] != known[: len(seen)]:
            raise self._broken_head()
        self.tail_bytes += len(seen)
        self.clean = False
        self.notes.append(f"{self._path.name}: its head was never finished, so it holds nothing")

    def _broken_head(self) -> Tampered:
        where = f"{self._path.name}, offset {HEADER_SIZE - 32}: "
        if self._whole and self._number == 1:
            return Tampered(where + "the first segment must go on from 32 zero bytes")
        count = "what is before it" if self.entries is None else f"entry {self.entries}"
        return Tampered(
            f"{where}the head does not go on from {count}: something{self._since} was changed, or "
            "cut off the segment before"
        )

    # -- one entry

    def _entry(self, data: bytes) -> None:
        type_ = data[0]
        if type_ == _RUN:
            records = len(data) - HEAD_SIZE - 4
            if records <= 0 or records % RECORD_SIZE:
                raise self._bad("these are no whole records")
            ending = False
        else:
            try:
                entry = parse(type_, data[HEAD_SIZE:])
            except BadEntry as bad:
                raise self._bad(str(bad)) from None
            if isinstance(entry, Checkpoint):
                self._checkpoint(entry, data)
                return
            ending = isinstance(entry, CleanEnd)
        self._ending = ending
        self.clean = False
        self._advance(data)
        self.tail_entries += 1
        self.tail_bytes += len(data)

    def _advance(self, data: bytes) -> None:
        self.h = step(self.h or b"", data)
        if self.h == self._wanted_h:
            self.seen += 1
            self._meet_anchor()
        elif self.base is not None and self.base + self.seen + 1 == self._wanted_count:
            raise self._bad(
                f"the chain value behind it is {self.h.hex()}, not the anchor's: something"
                f"{self._since} was changed, taken out or put in"
            )
        else:
            self.seen += 1

    def _meet_anchor(self) -> None:
        base = self._wanted_count - self.seen
        if base < 0 or self.base not in (None, base):
            raise Tampered(
                f"{self._path.name}, offset {self._offset}: the anchor's chain value stands here, "
                f"and not behind entry {self._wanted_count}"
            )
        self.base = base
        self.anchor_met = True

    def _checkpoint(self, entry: Checkpoint, data: bytes) -> None:
        if entry.h != self.h:
            raise self._bad(
                f"the checkpoint does not fit what is before it: something{self._since} was "
                "changed, taken out or put in"
            )
        if self.base is None and entry.entries >= self.seen:
            self.base = entry.entries - self.seen
        if entry.entries != self.entries:
            raise self._bad(f"the checkpoint counts {entry.entries} entries before it")
        self._check_signature(entry)
        self.signer = entry.next_key
        self.named |= self._expected & {entry.next_key}
        self.checkpoints += 1
        self.clean, self._ending = self._ending, False
        self.ended_ns = entry.time_ns
        self._advance(data)
        self.tail_entries = self.tail_bytes = 0
        self._since = f" since the checkpoint at {self._path.name}, offset {self._offset},"

    def _check_signature(self, entry: Checkpoint) -> None:
        def signed(key: bytes | None) -> bool:
            return key is not None and is_signed(entry, self._number, key)

        if self.signer is not None:
            if not signed(self.signer):
                raise self._bad(
                    "the checkpoint is not signed with the key that the one before it names"
                )
            self.linked = self.linked or self.signer == self._pinned
            return
        self.named |= {key for key in self._expected if signed(key)}
        if signed(self._pinned):
            self.linked = True
        elif not self._whole or self._published is None:
            self.notes.append(
                f"{self._path.name}, offset {self._offset}: nothing here shows who signed this "
                "first checkpoint"
            )
        elif not signed(self._published):
            raise self._bad("the checkpoint is not signed with the key that the chain began with")

    def _bad(self, what: str) -> Tampered:
        number = f"entry {self._index + 1} of the file"
        if self.base is not None:
            number += f", {self.base + self.seen + 1} of the chain"
        return Tampered(f"{self._path.name}, offset {self._offset} ({number}): {what}")


class Resumed(NamedTuple):
    """Where a writer goes on: `signer` is the public key that the last checkpoint names, if any."""

    chain: Chain
    signer: bytes | None
    tail_entries: int


def resume(directory: Path, kind: str) -> Resumed:
    """Reads the end of a chain: only from the last segment that tells its count. Tampered; OSError.

    What was never finished stays where it is; the writer goes on in a new segment.
    """
    segments = find_segments(directory, kind)
    for start in range(len(segments) - 1, -1, -1):
        trace = Trace()
        trace.walk(segments[start:])
        if trace.entries is not None and trace.h is not None:
            chain = Chain(trace.h, trace.entries, segments[-1].number)
            return Resumed(chain, trace.signer, trace.tail_entries)
    if segments and segments[0].number > 1:
        raise Tampered(f"{segments[0].path.name}: nothing here tells how many entries came before")
    return Resumed(Chain(segment=segments[-1].number if segments else 0), None, 0)
