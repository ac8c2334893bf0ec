"""Any bytes taken apart for the eye, and every recorded exchange."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asys.isa import CONTINUE, REGISTRY, AnyInstruction
from asys.isa.bytemap import size_range
from asys.isa.inspect import FAULT, Part, describe_request, describe_response, instruction_of
from asys.protocol.apdu import CLA_MORE, Frame, FrameParser, check_class, split_response
from asys.protocol.codec import BadValue, WrongSize
from asys.protocol.limits import MAX_DATA
from asys.protocol.status import SW, explain
from protocol.streams import frames, streams
from support.sessions import SESSIONS


def whole(parts: list[Part], data: bytes) -> None:
    """Every byte stands in exactly one part, in order; every part says something."""
    assert b"".join(part.raw for part in parts) == data
    at = 0
    for part in parts:
        assert part.offset == at
        at += len(part.raw)
        assert part.name
        assert part.meaning
        assert part.meaning.isprintable()
        assert part.raw or part.name == FAULT


@given(st.binary(max_size=120))
@example(b"\x02\xc0\x00\x00\x00\xff\xd6" + bytes(20))
@example(b"\x04\x22\x00\x00\x05\x00\x00\x00\x01\x90\x00" + bytes(16))
def test_any_bytes_as_a_request(data: bytes) -> None:
    parts = describe_request(data)
    whole(parts, data)
    parser = FrameParser()
    found = parser.feed(data)
    assert sum(part.name == "Le" for part in parts) >= len(found)
    if parser.error is not None:
        assert parts[-1].name == FAULT
        assert parts[-1].meaning.startswith(f"{parser.error} {explain(parser.error).meaning}: ")
    elif parser.pending or not data:
        assert parts[-1].name == FAULT
        assert parts[-1].meaning.startswith("cut short in " if data else "nothing")


@given(
    st.binary(max_size=60) | st.binary(min_size=100, max_size=240),
    st.sampled_from([None, *REGISTRY]),
)
def test_any_bytes_as_a_response(data: bytes, instruction: AnyInstruction | None) -> None:
    parts = describe_response(data, instruction)
    whole(parts, data)
    assert any(part.name == "SW" for part in parts) == (len(data) >= 2)


@given(streams)
def test_well_formed_frames_have_all_their_parts(stream: list[tuple[bytes, Frame]]) -> None:
    data = b"".join(raw for raw, _ in stream)
    parts = describe_request(data)
    whole(parts, data)
    for name in ("CLA", "INS", "P1", "P2", "Lc", "Le"):
        assert sum(part.name == name for part in parts) == len(stream)
    signed = sum(bool(frame.tag) for _, frame in stream)
    assert sum(part.name == "Auth_Tag" for part in parts) == signed


@given(frames, st.sampled_from(list(REGISTRY)))
def test_the_fault_is_what_the_declaration_says(
    framed: tuple[bytes, Frame], one: AnyInstruction
) -> None:
    """For a frame of a known instruction, tag and Seq taken for right."""
    raw, frame = framed
    raw = raw[:1] + bytes((one.code,)) + raw[2:]
    parts = describe_request(raw)
    said = parts[-1].meaning if parts[-1].name == FAULT else ""
    first = frame.cla & CLA_MORE and one is not CONTINUE
    if frame.cla & 0x08 and len(frame.data) >= 4 and frame.data[:4] == bytes(4):
        assert said.startswith("6985")
        return
    if frame.cla & 0x08:
        least, most = size_range(one.request)
        inner = len(frame.data) - 20
        if inner < 0:
            assert said.startswith("6982")
        elif (
            first
            or inner < least
            or (_bounded(one) and not one.ignores_extra and inner > most)
            or (one.request.OPTIONAL and least < inner < most)
        ):
            assert said.startswith("6700")
        else:
            assert said == ""
        return
    if frame.cla & 0x04 and len(frame.data) < 4:
        assert said.startswith("6982")
        return
    if frame.cla & 0x04 and frame.data[:4] == bytes(4):
        assert said.startswith("6985")
        return
    if frame.cla >> 2 & 3 < one.level:
        assert said.startswith("6982")
        return
    if first:
        assert said.startswith("6700")
        return
    try:
        one.parse(frame.p1, frame.p2, frame.data[4:] if frame.cla & 0x04 else frame.data)
    except WrongSize:
        assert said.startswith("6700")
    except BadValue:
        assert said.startswith("6A80")
    else:
        assert said == ""


@pytest.mark.parametrize(
    ("request_bytes", "response_bytes"),
    [
        pytest.param(one.request, one.response, id=f"{session.name}: {one.what}")
        for session in SESSIONS.values()
        for one in session.exchanges
        if one.response is not None and session.name != "half-frame"
    ],
)
def test_recorded_exchanges(request_bytes: bytes, response_bytes: bytes) -> None:
    parts = describe_request(request_bytes)
    whole(parts, request_bytes)
    if check_class(request_bytes[0]) is not None:
        assert parts[-1].name == FAULT
    answer = describe_response(response_bytes, instruction_of(request_bytes))
    whole(answer, response_bytes)
    assert answer[-1].name == "SW"
    _, sw = split_response(response_bytes)
    assert answer[-1].meaning.startswith(f"{sw:04X} ")
    if sw == SW.SUCCESS:
        assert all(part.name != "payload" for part in answer)


def test_the_largest_frame() -> None:
    raw = bytes.fromhex("06220000 00 ffd6") + bytes(MAX_DATA) + bytes(18)
    whole(describe_request(raw), raw)


def _bounded(one: AnyInstruction) -> bool:
    """Whether more bytes than the layout has are a wrong length, and no text that is too long."""
    return one.request.FIXED or bool(one.request.OPTIONAL)
