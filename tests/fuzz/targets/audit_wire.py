"""What an audit is made of, piece by piece: entries, records, pushes, collector frames, journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from asys.audit import parameters, push
from asys.audit.chain import format_anchor, parse_anchor
from asys.audit.collector.frames import FrameReader, Message
from asys.audit.entries import (
    BadEntry,
    CleanEnd,
    Entry,
    Gap,
    Payload,
    Read,
    Reads,
    Refused,
    Run,
    SessionClosed,
    SessionOpened,
    parse,
)
from asys.audit.push import (
    Ack,
    BadPush,
    FromCollector,
    FromNode,
    Open,
    Put,
    Stands,
    parse_from_collector,
    parse_from_node,
)
from asys.audit.records import RECORD_SIZE, EntryType, Record, unpack
from asys.audit.verify import parse_key
from fuzz.choices import Choices, Script

COVERS = (
    "asys.audit.entries",
    "asys.audit.push",
    "asys.audit.records",
    "asys.audit.collector.frames",
)

_KEY: Final = bytes(range(32))


def one(data: bytes) -> None:
    """One piece; what can be read is written again with the same bytes."""
    choices = Choices(data)
    what = choices.below(6)
    if what == 0:
        _entry(choices.byte(), choices.rest())
    elif what == 1:
        _push(choices.rest())
    elif what == 2:
        _frames(choices)
    elif what == 3:
        _line(choices.rest())
    elif what == 4:
        _anchor(choices.rest())
    else:
        record = choices.rest()
        try:
            assert unpack(record).pack() == record
        except ValueError:
            assert len(record) != RECORD_SIZE


def _entry(type_: int, body: bytes) -> None:
    try:
        entry = parse(type_, body)
    except BadEntry as bad:
        assert str(bad)
        return
    assert entry.type == type_
    if isinstance(entry, Reads):  # the last byte of each line means nothing yet
        body = b"".join(
            body[at : at + 1] if at < 4 or (at - 4) % 12 != 11 else b"\0" for at in range(len(body))
        )
    assert entry.body() == body
    if isinstance(entry, Run):
        assert b"".join(record.pack() for record in entry.records) == body[4:]


def _push(message: bytes) -> None:
    readers: list[Callable[[bytes], FromNode | FromCollector]] = [
        parse_from_node,
        parse_from_collector,
    ]
    for read in readers:
        try:
            assert read(message).pack() == message
        except BadPush as bad:
            assert str(bad)


def _frames(choices: Choices) -> None:
    pieces = choices.pieces()
    stream = b"".join(pieces)
    reader = FrameReader()
    found = [frame for piece in pieces for frame in reader.feed(piece)]
    assert found == FrameReader().feed(stream)
    packed = b"".join(frame.pack() for frame in found)
    assert stream.startswith(packed)
    rest = stream[len(packed) :]
    assert len(rest) < 9 or len(rest) < 9 + int.from_bytes(rest[:4], "big")


def _line(line: bytes) -> None:
    try:
        read = parameters.parse_line(line)
    except ValueError as bad:
        assert str(bad)
    else:
        # Numbers may have zeros in front, and hex digits are the same either way.
        assert parameters.parse_line(read.line().removesuffix(b"\n")) == read
        assert len(repr(read)) < 200
    try:
        begun = parameters.parse_heading(line)
    except ValueError as bad:
        assert str(bad)
    else:
        assert parameters.parse_heading(parameters.heading(begun).removesuffix(b"\n")) == begun
    name = line.decode("latin-1")
    number = parameters.file_number(name)
    assert number == 0 or parameters.file_name(number) == name


def _anchor(text: bytes) -> None:
    written = text.decode("utf-8", "replace")
    try:
        count, h = parse_anchor(written)
    except ValueError as bad:
        assert str(bad)
    else:
        assert parse_anchor(format_anchor(count, h)) == (count, h)
    try:
        key = parse_key(written)
    except ValueError as bad:
        assert str(bad)
    else:
        assert len(key) == 32
        assert parse_key(key.hex()) == key


def entries() -> list[Entry]:
    """One entry of each type but the checkpoint."""
    record = Record(1_790_000_000 * 10**9, b"hash", 0x20, 4, 1, b"dige", 0x9000)
    return [
        SessionOpened(0, _KEY, 3, 7, "planner", "192.0.2.7:40000"),
        Run.of(0, [record._replace(sw=0), record]),
        Payload(0, 1, 0x22, b"nginx"),
        Reads(0, (Read(1_790_000_000, 2, 0x9000, 9),)),
        Gap(3, 1, 2),
        Refused(1, 5, 1, 2, b"hash"),
        SessionClosed(0, 9),
        CleanEnd(10),
    ]


def seeds() -> Iterator[bytes]:
    """One piece of each kind."""
    for entry in entries():
        yield bytes(Script().byte(0, entry.type).raw(entry.body()))
    yield bytes(Script().byte(0, EntryType.CHECKPOINT).raw(bytes(144)))
    pushed: list[FromNode | FromCollector] = [
        Open("audit"),
        Put("reads", 1, 41, b"bytes"),
        Stands("audit", 1, 41, 0, bytes(32)),
        Ack("audit", 7, _KEY),
        push.Refused("reads", 1),
        push.Unknown(),
    ]
    for message in pushed:
        yield bytes(Script().byte(1).raw(message.pack()))
    frames = Message(1, 2, b"body").pack() + Message(0, 6, b"").pack()
    yield bytes(Script().byte(2, 0).raw(frames))
    yield bytes(Script().byte(2, 2, 3, 9).raw(frames + frames[:11]))
    said = parameters.Parameters(7, b"hash", 4, 0x22, 0, 0, 1, 5, b"nginx")
    for line in (said.line(), parameters.Lost(1, 2, 3).line(), parameters.heading(1)):
        yield bytes(Script().byte(3).raw(line.removesuffix(b"\n")))
    yield bytes(Script().byte(3).raw(parameters.file_name(1).encode()))
    yield bytes(Script().byte(4).raw(format_anchor(7, _KEY).encode()))
    yield bytes(Script().byte(4).raw(_KEY.hex().encode()))
    yield bytes(Script().byte(5).raw(bytes(range(24))))
