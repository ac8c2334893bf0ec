"""What a writer that takes over finds in the segments; only reads. OSError from all of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from asys.audit.chain import HEAD_SIZE, step
from asys.audit.entries import BadEntry, Checkpoint, parse
from asys.audit.records import EntryType
from asys.audit.segments import BadSegment, Framed, Segment, SegmentReader
from asys.node.audit.encode import slots_of, split
from asys.node.audit.ring import ENDS, Position


def settled(position: Position, segments: list[Segment], stage: memoryview) -> Position:
    """Counts what is under way as written, as far as its segment has it."""
    for segment in segments:
        if segment.number == position.segment:
            break
    else:
        return position._replace(length=0)
    with open(segment.path, "rb") as file:
        file.seek(position.offset)
        there = file.read(position.length)
    tail, entries, h, offset = position.tail, position.entries, position.h, position.offset
    for framed in split(bytes(stage[: position.length])):
        end = offset - position.offset + len(framed)
        if there[end - len(framed) : end] != framed:
            break
        tail += slots_of(framed) if not position.kind & ENDS else 0
        entries, h, offset = entries + 1, step(h, framed), offset + len(framed)
    return position._replace(tail=tail, entries=entries, h=h, offset=offset, length=0)


def adopted(position: Position, segment: Segment) -> Position:
    """With a segment that was begun, when its writer died before it could say so."""
    h, count = position.h, 0
    try:
        with SegmentReader(segment) as reader:
            if not reader.read_header() or reader.previous != position.h:
                return position
            while batch := reader.batch():
                for framed in batch:
                    h, count = step(h, framed.data), count + 1
            if reader.rest:
                return position
            return position._replace(
                segment=segment.number,
                offset=reader.end,
                entries=position.entries + count,
                h=h,
            )
    except BadSegment:
        return position


def whole_end(segment: Segment) -> int:
    """The size of a segment that is whole, or 0 when something was never finished there."""
    with SegmentReader(segment) as reader:
        if not reader.read_header():
            return 0
        while reader.batch():
            pass
        return 0 if reader.rest else reader.end


def last_signer(segments: list[Segment]) -> bytes | None:
    """The key that the last checkpoint names; None where there is none."""
    for segment in reversed(segments):
        signer = None
        for framed in walk(segment):
            if framed.data[0] == EntryType.CHECKPOINT:
                with contextlib.suppress(BadEntry):
                    entry = parse(framed.data[0], framed.data[HEAD_SIZE:])
                    signer = entry.next_key if isinstance(entry, Checkpoint) else None
        if signer is not None:
            return signer
    return None


def walk(segment: Segment) -> Iterator[Framed]:
    """The entries of a segment, as far as it is one."""
    with contextlib.suppress(BadSegment), SegmentReader(segment) as reader:
        if not reader.read_header():
            return
        while batch := reader.batch():
            yield from batch
