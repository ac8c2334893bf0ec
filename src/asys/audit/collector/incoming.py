"""Whether what a node pushes goes on from what is here (docs/audit.md, section 11). Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from asys.audit.chain import (
    GENESIS,
    HEAD_SIZE,
    HEADER_SIZE,
    format_anchor,
    header,
    is_signed,
    step,
)
from asys.audit.entries import BadEntry, Checkpoint, parse
from asys.audit.push import MAX_BYTES, Put, Reason
from asys.audit.records import RECORD_SIZE, EntryType

_RUN: Final = int(EntryType.RUN)


class NotTaken(Exception):
    """A PUT that is not taken: why, in words and as a Reason."""

    def __init__(self, reason: Reason, words: str) -> None:
        super().__init__(words)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a chain stands: the next byte belongs at `offset` of `segment`, or begins the next one.

    `count` and `h` are those of the whole chain. `signer` is the public key that the last
    checkpoint named, if there was one. `begun` is what has come of an entry that is longer than a
    PUT; it is not counted in `offset`. Segment 0: nothing is here.
    """

    segment: int = 0
    offset: int = 0
    count: int = 0
    h: bytes = GENESIS
    signer: bytes | None = field(default=None, repr=False)
    begun: bytes = field(default=b"", repr=False)

    @property
    def anchor(self) -> str:
        """COUNT:HASH."""
        return format_anchor(self.count, self.h)


NOTHING: Final = Standing()
"""A chain, or a generation of it, of which nothing is here."""


class Taken(NamedTuple):
    """What becomes of a PUT: `data` belongs at the end of the file, or in a new one if `rolls`.

    Without `whole` the PUT was a piece, and is not acknowledged.
    """

    standing: Standing
    data: bytes
    rolls: bool
    whole: bool


def take(at: Standing, put: Put) -> Taken:
    """Judges the bytes of a PUT, every entry and every chain value in them. NotTaken."""
    if at.begun:
        return _go_on(at, put)
    if put.segment == at.segment and put.offset == at.offset and at.segment:
        return _entries(at, put.data, 0, rolls=False)
    if put.offset == 0 and put.segment and (not at.segment or put.segment == at.segment + 1):
        return _segment(at, put)
    here = f"segment {at.segment}, offset {at.offset}" if at.segment else "nothing"
    raise NotTaken(
        Reason.NOT_CONTINUED,
        f"bytes of segment {put.segment}, offset {put.offset} do not go on from {here}",
    )


def _go_on(at: Standing, put: Put) -> Taken:
    """The next piece of an entry that is longer than a PUT."""
    if (put.segment, put.offset) != (at.segment, at.offset + len(at.begun)):
        raise NotTaken(Reason.NOT_CONTINUED, "an entry that has begun is not gone on with")
    data = at.begun + put.data
    size = _size(data, 0)
    if len(data) > size:
        raise NotTaken(Reason.MALFORMED, "bytes follow an entry that is longer than a PUT")
    if len(data) < size:
        return Taken(replace(at, begun=data), b"", rolls=False, whole=False)
    return _entries(replace(at, begun=b""), data, 0, rolls=False)


def _segment(at: Standing, put: Put) -> Taken:
    """A segment begins: its head must go on from the one before."""
    head = put.data[:HEADER_SIZE]
    previous = head[-32:]
    if len(head) < HEADER_SIZE or head != header(put.segment, previous):
        raise NotTaken(Reason.MALFORMED, f"segment {put.segment} does not begin with its head")
    count = at.count
    if at.segment or put.segment == 1:
        if previous != at.h:
            raise NotTaken(
                Reason.NOT_CONTINUED,
                f"the head of segment {put.segment} goes on from {previous.hex()}, and what is "
                f"here ends with {at.anchor}",
            )
    else:
        count = _count_before(put.data)
    begun = replace(at, segment=put.segment, offset=HEADER_SIZE, count=count, h=previous)
    return _entries(begun, put.data, HEADER_SIZE, rolls=True)


def _count_before(data: bytes) -> int:
    """What the checkpoint says that a generation begins with where the first segments are gone."""
    end = HEADER_SIZE + HEAD_SIZE
    if len(data) >= end and data[HEADER_SIZE] == EntryType.CHECKPOINT:
        try:
            entry = parse(EntryType.CHECKPOINT, data[end : HEADER_SIZE + _size(data, HEADER_SIZE)])
        except BadEntry as bad:
            raise NotTaken(Reason.MALFORMED, str(bad)) from None
        if isinstance(entry, Checkpoint):
            return entry.entries
    raise NotTaken(
        Reason.MALFORMED, "no checkpoint at its head tells how many entries came before it"
    )


def _entries(at: Standing, data: bytes, start: int, *, rolls: bool) -> Taken:
    """Whole entries; or, alone, the first piece of one that is longer than a PUT."""
    count, h, signer = at.count, at.h, at.signer
    position, end = start, len(data)
    while position < end:
        stop = position + _size(data, position)
        if stop > end:
            if position == start == 0 and stop - position > MAX_BYTES:
                return Taken(replace(at, begun=data), b"", rolls=False, whole=False)
            raise NotTaken(Reason.MALFORMED, f"the entry behind {format_anchor(count, h)} is cut")
        framed = data[position:stop]
        if framed[0] == _RUN:
            records = len(framed) - HEAD_SIZE - 4
            if records <= 0 or records % RECORD_SIZE:
                raise NotTaken(Reason.MALFORMED, "a run that has no whole records")
        else:
            try:
                entry = parse(framed[0], framed[HEAD_SIZE:])
            except BadEntry as bad:
                raise NotTaken(Reason.MALFORMED, str(bad)) from None
            if isinstance(entry, Checkpoint):
                _check(entry, at.segment, count, h, signer)
                signer = entry.next_key
        count += 1
        h = step(h, framed)
        position = stop
    standing = replace(
        at, offset=at.offset + end - start, count=count, h=h, signer=signer, begun=b""
    )
    return Taken(standing, data, rolls, whole=True)


def _check(entry: Checkpoint, segment: int, count: int, h: bytes, signer: bytes | None) -> None:
    if (entry.entries, entry.h) != (count, h):
        raise NotTaken(
            Reason.NOT_CONTINUED,
            f"a checkpoint over {format_anchor(entry.entries, entry.h)} stands behind "
            f"{format_anchor(count, h)}",
        )
    if signer is not None and not is_signed(entry, segment, signer):
        raise NotTaken(
            Reason.NOT_CONTINUED,
            f"the checkpoint behind {format_anchor(count, h)} is not signed with the key that the "
            "one before it names",
        )


def _size(data: bytes, at: int) -> int:
    """Bytes of the entry that begins there; more than there are where not even that is said."""
    if len(data) - at < HEAD_SIZE:
        return HEAD_SIZE
    return HEAD_SIZE + (data[at + 1] << 8 | data[at + 2])
