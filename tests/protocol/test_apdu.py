"""Frames: any stream in any pieces, and any bytes at all."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asys.conformance.vectors import load as load_vectors
from asys.errors import ProtocolError
from asys.protocol.apdu import (
    SEC_SIGNED,
    Frame,
    FrameParser,
    check_class,
    encode_plain,
    encode_signed,
    header,
    split_response,
)
from asys.protocol.limits import MAX_DATA, MAX_FRAME
from asys.protocol.signing import Signer
from asys.protocol.status import SW
from protocol.streams import assemble, bare_frames, cut, frames, marks, streams

VECTORS: dict[str, Any] = load_vectors("frames.json")
vectors = pytest.mark.parametrize("vector", VECTORS["streams"], ids=lambda one: one["what"])


def _expected(vector: dict[str, Any]) -> tuple[list[Frame], SW | None]:
    found = [
        Frame(
            one["cla"],
            one["ins"],
            one["p1"],
            one["p2"],
            bytes.fromhex(one["data"]),
            bytes.fromhex(one["header"]),
            bytes.fromhex(one["tag"]),
        )
        for one in vector["frames"]
    ]
    return found, SW(int(vector["error"], 16)) if vector["error"] else None


@vectors
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_vector_in_pieces(vector: dict[str, Any], size: int) -> None:
    stream = bytes.fromhex(vector["stream"])
    parser = FrameParser()
    found = []
    for start in range(0, len(stream), size):
        found += parser.feed(stream[start : start + size])
    assert (found, parser.error) == _expected(vector)
    assert parser.pending == vector["pending"]


@vectors
def test_vector_with_bytes_after_it(vector: dict[str, Any]) -> None:
    expected, error = _expected(vector)
    parser = FrameParser()
    if error is None and vector["pending"] == 0:
        behind = Frame(0, 1, 0, 0, b"", b"\x00\x01\x00\x00\x00")
        assert parser.feed(bytes.fromhex(vector["stream"] + "000100000000")) == [*expected, behind]
    else:
        first = parser.feed(bytes.fromhex(vector["stream"]) + bytes(6))
        assert first[: len(expected)] == expected
        assert parser.error == error


def test_signed_vectors_are_what_a_signer_makes() -> None:
    signer = Signer(bytes.fromhex(VECTORS["signing_key"]))
    signed = [one for one in VECTORS["streams"] if one["what"].startswith("signed")]
    assert len(signed) == 6
    for vector in signed:
        (frame,), _ = _expected(vector)
        signer.seq = int.from_bytes(frame.data[:4], "big") - 1
        made = signer.sign(frame.ins, frame.p1, frame.p2, frame.data[4:])
        assert made == bytes.fromhex(vector["stream"])


@given(streams, marks)
def test_any_split_of_any_stream_gives_the_same_frames(
    stream: list[tuple[bytes, Frame]], at: list[int]
) -> None:
    data = b"".join(raw for raw, _ in stream)
    parser = FrameParser()
    found = []
    for piece in cut(data, at):
        found += parser.feed(piece)
        assert parser.pending < MAX_FRAME
    assert found == [frame for _, frame in stream]
    assert parser.error is None
    assert parser.pending == 0


@given(streams, frames, st.integers(0))
def test_a_frame_that_is_not_whole_waits(
    stream: list[tuple[bytes, Frame]], last: tuple[bytes, Frame], size: int
) -> None:
    part = last[0][: size % len(last[0])]
    parser = FrameParser()
    assert parser.feed(b"".join(raw for raw, _ in stream) + part) == [frame for _, frame in stream]
    assert parser.pending == len(part)
    assert parser.feed(last[0][len(part) :]) == [last[1]]


@given(streams)
def test_push_and_next_frame_are_feed_one_by_one(stream: list[tuple[bytes, Frame]]) -> None:
    data = b"".join(raw for raw, _ in stream)
    parser = FrameParser()
    assert parser.pending == 0
    frame = parser.push(data)
    taken = 0
    for raw, expected in stream:
        taken += len(raw)
        assert frame == expected
        assert parser.pending == len(data) - taken
        frame = parser.next_frame()
    assert frame is None


@given(st.lists(st.binary(max_size=300), max_size=10))
@example([b"\x00\x01\x00\x00\x00\x00", b"\x20", b"\x00\x01\x00\x00\x00\x00"])
@example([b"\x02\x01\x00\x00\x00\xff\xd7"])
def test_any_bytes_give_frames_or_a_status_word(pieces: list[bytes]) -> None:
    parser = FrameParser()
    seen = b""
    for piece in pieces:
        before = parser.error
        for frame in parser.feed(piece):
            assert before is None
            assert check_class(frame.cla) is None
            assert isinstance(frame.data, bytes)
        seen += piece
        assert parser.pending < MAX_FRAME
        assert parser.pending <= len(seen)
        assert parser.error in (None, SW.CLASS_NOT_SUPPORTED, SW.WRONG_LENGTH)
        if parser.error is not None:
            assert parser.pending == 0


@given(st.binary(max_size=300), marks)
def test_any_bytes_in_any_pieces_end_the_same_way(data: bytes, at: list[int]) -> None:
    whole, pieces = FrameParser(), FrameParser()
    frames_of_whole = whole.feed(data)
    assert [one for piece in cut(data, at) for one in pieces.feed(piece)] == frames_of_whole
    assert (pieces.error, pieces.pending) == (whole.error, whole.pending)


@given(streams, st.sampled_from((b"\x20", b"\x01", b"\x0c", b"\x02\x01\x00\x00\x01")), streams)
def test_frames_before_a_violation_are_delivered_and_none_after_it(
    before: list[tuple[bytes, Frame]], bad: bytes, after: list[tuple[bytes, Frame]]
) -> None:
    parser = FrameParser()
    found = parser.feed(b"".join(raw for raw, _ in before) + bad + b"".join(r for r, _ in after))
    assert found == [frame for _, frame in before]
    assert parser.error is not None
    error = parser.error
    for raw, _ in after:
        assert parser.feed(raw) == []
        assert parser.next_frame() is None
        assert parser.pending == 0
    assert parser.error == error


@given(bare_frames)
def test_the_short_way_gives_what_the_long_way_gives(bare: tuple[bytes, Frame]) -> None:
    raw, expected = bare
    short = FrameParser().feed(raw)
    long = FrameParser()
    assert long.feed(raw[:3]) == []
    assert long.feed(raw[3:]) == short == [expected]


def test_the_short_way_is_not_taken_with_bytes_pending() -> None:
    parser = FrameParser()
    parser.feed(b"\x00\x11\x00\x00\x06")
    (frame,) = parser.feed(b"\x00\x01\x00\x00\x00\x00") or parser.feed(b"\x00")
    assert (frame.ins, frame.data) == (0x11, b"\x00\x01\x00\x00\x00\x00")


@pytest.mark.parametrize("cla", range(256))
def test_every_class(cla: int) -> None:
    """6E00 for another version or Sec 11, before 6700 for the reserved bit."""
    expected = None
    if cla & 0b1110_0000 or cla & 0b1100 == 0b1100:
        expected = SW.CLASS_NOT_SUPPORTED
    elif cla & 1:
        expected = SW.WRONG_LENGTH
    assert check_class(cla) == expected
    parser = FrameParser()
    assert parser.feed(bytes((cla,))) == []
    assert parser.error == expected
    assert parser.pending == (expected is None)


@pytest.mark.parametrize("placeholder", [1, 0x7F, 0xFF])
@pytest.mark.parametrize("size", [5, 6, 7, 12])
def test_the_extended_placeholder_must_be_zero(placeholder: int, size: int) -> None:
    stream = bytes((0x02, 0x01, 0, 0, placeholder)) + bytes(7)
    parser = FrameParser()
    assert parser.feed(stream[:4]) == []
    assert parser.error is None
    parser = FrameParser()
    assert parser.feed(stream[:size]) == []
    assert parser.error == SW.WRONG_LENGTH


@pytest.mark.parametrize("cla", [0x02, 0x06, 0x0A])
def test_the_most_data_of_a_frame(cla: int) -> None:
    assert MAX_DATA == 65_494
    raw, frame = assemble(cla, 0xC0, 1, 2, bytes(MAX_DATA), 0, bytes(16))
    assert len(raw) <= MAX_FRAME == 65_519
    parser = FrameParser()
    assert parser.feed(raw[:-1]) == []
    assert parser.pending == len(raw) - 1 < MAX_FRAME
    assert parser.feed(raw[-1:]) == [frame]


@pytest.mark.parametrize("cla", [0x02, 0x06, 0x0A])
def test_more_data_is_refused_by_its_length_alone(cla: int) -> None:
    for length in (MAX_DATA + 1, 0xFFFF):
        parser = FrameParser()
        assert parser.feed(bytes((cla, 0xC0, 0, 0, 0)) + length.to_bytes(2, "big")) == []
        assert parser.error == SW.WRONG_LENGTH
        assert parser.pending == 0


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.binary(max_size=600))
def test_plain_frames_survive_the_way(ins: int, p1: int, p2: int, data: bytes) -> None:
    cla = 0x02 if len(data) > 255 else 0x00
    raw, frame = assemble(cla, ins, p1, p2, data, 0, b"")
    assert encode_plain(ins, p1, p2, data) == raw
    assert FrameParser().feed(raw) == [frame]


@given(st.binary(max_size=600), st.binary(min_size=16, max_size=16))
def test_signed_frames_survive_the_way(data: bytes, tag: bytes) -> None:
    raw = encode_signed(header(0x20, 1, 2, len(data), sec=SEC_SIGNED), data, tag)
    cla = 0x06 if len(data) > 255 else 0x04
    expected = assemble(cla, 0x20, 1, 2, data, 0, tag)
    assert (raw, FrameParser().feed(raw)) == (expected[0], [expected[1]])
    assert expected[1].sec == SEC_SIGNED


def test_the_form_follows_the_size() -> None:
    assert header(0x22, 1, 2, 255) == b"\x00\x22\x01\x02\xff"
    assert header(0x22, 1, 2, 256) == b"\x02\x22\x01\x02\x00\x01\x00"
    assert header(0x22, 1, 2, 256, sec=SEC_SIGNED) == b"\x06\x22\x01\x02\x00\x01\x00"
    assert header(0x22, 0, 0, MAX_DATA) == b"\x02\x22\x00\x00\x00\xff\xd6"
    with pytest.raises(ValueError, match="at most 65494"):
        header(0x22, 0, 0, MAX_DATA + 1)
    with pytest.raises(ValueError, match="65495 bytes of data"):
        encode_plain(0x22, data=bytes(MAX_DATA + 1))


def test_sys_caps_is_six_zeros() -> None:
    assert encode_plain(0x00) == bytes(6)


@given(st.binary(max_size=100), st.integers(0, 0xFFFF))
def test_a_response_is_payload_and_status_word(payload: bytes, sw: int) -> None:
    assert split_response(payload + sw.to_bytes(2, "big")) == (payload, sw)


@pytest.mark.parametrize("message", [b"", b"\x90"])
def test_a_response_without_status_word(message: bytes) -> None:
    with pytest.raises(ProtocolError, match="less than a status word"):
        split_response(message)
