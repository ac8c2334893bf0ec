"""The frame parser, against a second reading made of the sentences of docs/protocol.md."""

from __future__ import annotations

from collections.abc import Iterator

from asys.errors import ProtocolError
from asys.protocol import apdu
from asys.protocol.apdu import Frame, FrameParser
from asys.protocol.limits import MAX_DATA, MAX_FRAME
from asys.protocol.status import SW
from fuzz.choices import Choices, Script
from support.sessions import SESSIONS

COVERS = ("asys.protocol.apdu",)


def one(data: bytes) -> None:
    """Any split of a stream gives the frames, the end and the error that the sentences give."""
    choices = Choices(data)
    pieces = choices.pieces() if choices.flag() else [choices.rest()]
    stream = b"".join(pieces)
    wanted, rest, error = second_reading(stream)

    parser = FrameParser()
    found: list[Frame] = []
    for piece in pieces:
        found += parser.feed(piece)
        assert parser.pending <= MAX_FRAME
    assert found == [frame for frame, _ in wanted]
    assert parser.error == error
    assert parser.pending == (0 if error is not None else len(rest))
    assert parser.feed(b"\0\1\0\0\0\0") == [] or error is None

    for frame, raw in wanted:
        le = raw[len(frame.header) + len(frame.data) : len(raw) - len(frame.tag)]
        if not any(le) and (len(frame.data) > 255) == bool(frame.cla & apdu.CLA_EXTENDED):
            assert _written(frame) == raw
    try:
        payload, sw = apdu.split_response(stream)
        assert payload + sw.to_bytes(2, "big") == stream
    except ProtocolError:
        assert len(stream) < 2


def second_reading(stream: bytes) -> tuple[list[tuple[Frame, bytes]], bytes, SW | None]:
    """The frames with their bytes, what is left behind them, and the error that ends the stream."""
    found: list[tuple[Frame, bytes]] = []
    while stream:
        cla = stream[0]
        if cla >> 5 or cla >> 2 & 3 == 3:
            return found, b"", SW.CLASS_NOT_SUPPORTED
        if cla & 1:
            return found, b"", SW.WRONG_LENGTH
        extended = bool(cla & 2)
        if extended and stream[4:5] not in (b"", b"\0"):
            return found, b"", SW.WRONG_LENGTH
        head = stream[: 7 if extended else 5]
        if len(head) < (7 if extended else 5):
            break
        length = int.from_bytes(head[5:7], "big") if extended else head[4]
        if length > MAX_DATA:
            return found, b"", SW.WRONG_LENGTH
        behind = len(head) + length + (2 if extended else 1)
        size = behind + (16 if cla >> 2 & 3 else 0)
        if size > len(stream):
            break
        data = stream[len(head) : len(head) + length]
        frame = Frame(cla, stream[1], stream[2], stream[3], data, head, stream[behind:size])
        found.append((frame, stream[:size]))
        stream = stream[size:]
    return found, stream, None


def _written(frame: Frame) -> bytes:
    """The frame as an agent writes it."""
    if frame.tag:
        return apdu.encode_signed(frame.header, frame.data, frame.tag)
    more = bool(frame.cla & apdu.CLA_MORE)
    return apdu.encode_plain(frame.ins, frame.p1, frame.p2, frame.data, more=more)


def seeds() -> Iterator[bytes]:
    """Recorded sessions, whole and in pieces, and each way for a stream to be wrong."""
    for session in SESSIONS.values():
        stream = b"".join(one.request for one in session.exchanges)[:600]
        yield bytes(Script().byte(0).raw(stream))
        yield bytes(Script().byte(1, 3, 1, 4, 2).raw(stream))
    extended = b"\x06\x60\0\0\0\1\x04" + bytes(range(256)) + bytes(4) + bytes(2) + b"t" * 16
    wrong = [b"\x20\0\0\0\0\0", b"\x0c\1", b"\x01", b"\x02\1\0\0\1", b"\x02\1\0\0\0\xff\xff"]
    for stream in (extended, *wrong, *(b"\0\1\0\0\0\0" + one for one in wrong)):
        yield bytes(Script().byte(0).raw(stream))
