"""Frames for the eye: every byte in one part, and faults where a node would see them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from asys.isa import CONTINUE, REGISTRY, AnyInstruction
from asys.isa.bytemap import size_range
from asys.isa.inspect import FAULT, Part, describe_request, describe_response, instruction_of
from asys.isa.sample import frame
from asys.protocol.apdu import CLA_MORE, CLA_SEC, SEC_ENC_SIGN, Frame, FrameParser
from asys.protocol.codec import BadValue, WrongSize
from asys.protocol.limits import AEAD_TAG_SIZE, SEQ_SIZE
from asys.protocol.status import explain
from fuzz.choices import Choices, Script
from support.sessions import SESSIONS

COVERS = ("asys.isa.inspect", "asys.isa.inspect_values", "asys.isa.bytemap")

ANSWERED: Final = [None, *REGISTRY]


def one(data: bytes) -> None:
    """Bytes as requests, and as the answer to some instruction."""
    choices = Choices(data)
    instruction = choices.pick(ANSWERED)
    stream = choices.rest()
    answer = describe_response(stream, instruction)
    _is_whole(answer, stream)
    assert any(part.name == "SW" for part in answer) == (len(stream) >= 2)

    parts = describe_request(stream)
    _is_whole(parts, stream)
    parser = FrameParser()
    found = parser.feed(stream)
    said = parts[-1].meaning if parts[-1].name == FAULT else ""
    assert sum(part.name == "Le" for part in parts) >= len(found)
    if parser.error is not None:
        assert said.startswith(f"{parser.error} {explain(parser.error).meaning}: ")
    elif parser.pending or not stream:
        assert said.startswith("cut short in " if stream else "nothing")
    elif len(found) == 1:
        assert said[:4] == _judged(found[0])
    known = instruction_of(stream)
    assert known is None or known.code == stream[1]


def _judged(frame: Frame) -> str:
    """The status word of a node that takes Seq and tags for right and grants everything; or ''."""
    sec = frame.cla & CLA_SEC
    if sec and len(frame.data) < SEQ_SIZE:
        return "6982"
    if sec and not any(frame.data[:SEQ_SIZE]):
        return "6985"
    known = REGISTRY.get(frame.ins)
    if sec == SEC_ENC_SIGN and len(frame.data) < SEQ_SIZE + AEAD_TAG_SIZE:
        return "6982"
    payload = frame.data[SEQ_SIZE:] if sec else frame.data
    if known is None:
        return "6A81"
    if sec >> 2 < known.level:
        return "6982"
    if frame.cla & CLA_MORE and known is not CONTINUE:
        return "" if known.chainable else "6700"
    if sec == SEC_ENC_SIGN:
        return "" if _may_have(known, len(payload) - AEAD_TAG_SIZE) else "6700"
    try:
        known.parse(frame.p1, frame.p2, payload)
    except WrongSize:
        return "6700"
    except BadValue:
        return "6A80"
    return ""


def _may_have(known: AnyInstruction, size: int) -> bool:
    """Whether some payload of that size is one of the instruction's; a text is never too long."""
    request = known.request
    if request.FIXED:
        return size == request.SIZE or (known.ignores_extra and size > request.SIZE)
    if request.OPTIONAL:
        return size in (request.SIZE, request.SIZE + request.OPTIONAL)
    return size >= size_range(request)[0]


def _is_whole(parts: list[Part], data: bytes) -> None:
    """Every byte stands in exactly one part, in order; every part says something that prints."""
    assert b"".join(part.raw for part in parts) == data
    at = 0
    for part in parts:
        assert part.offset == at
        at += len(part.raw)
        assert part.name
        assert part.meaning
        assert part.meaning.isprintable()
        assert part.raw or part.name == FAULT


def seeds() -> Iterator[bytes]:
    """A request of each instruction, also as a fragment and sealed, and recorded exchanges."""
    for instruction in REGISTRY:
        raw = frame(instruction)
        yield bytes(Script().byte(0).raw(raw))
        yield bytes(Script().byte(0, raw[0] | CLA_MORE).raw(raw[1:]))
        if raw[0] & CLA_SEC:
            yield bytes(Script().byte(0, SEC_ENC_SIGN).raw(raw[1:]))
    for session in SESSIONS.values():
        for exchange in session.exchanges:
            yield bytes(Script().byte(0).raw(exchange.request[:300]))
            known = instruction_of(exchange.request)
            if exchange.response is not None:
                which = 0 if known is None else ANSWERED.index(known)
                yield bytes(Script().byte(which).raw(exchange.response))
