"""Every request and every reply of the instruction set: any payload, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from asys.errors import ArgumentError
from asys.isa import REGISTRY, CapabilityMap
from asys.isa.bytemap import size_range, spans
from asys.isa.sample import arguments
from asys.protocol.codec import BadValue, Field, Layout, WrongSize
from fuzz.choices import Choices, Script
from support.sessions import SESSIONS

COVERS = ("asys.protocol.codec", "asys.protocol.fields", "asys.isa.capmap", "asys.isa.untrusted")

LAYOUTS: Final = sorted(
    {layout for one in REGISTRY for layout in (one.request, one.reply)},
    key=lambda layout: layout.__name__,
)


def one(data: bytes) -> None:
    """A payload is read as what it says, and said again with the same bytes, or it is refused."""
    choices = Choices(data)
    layout = choices.pick(LAYOUTS)
    p1, p2, more = choices.byte(), choices.byte(), choices.flag()
    payload = choices.rest()
    least, most = size_range(layout)
    try:
        value = layout.unpack(payload, p1, p2, more=more)
    except WrongSize:
        assert more or not layout.FIXED or len(payload) != layout.SIZE
        return
    except BadValue:
        assert len(payload) >= least
        return
    assert len(payload) >= least
    assert more or len(payload) <= most
    packed = value.pack()
    assert least <= len(packed) <= most
    parameters = value.parameters()
    for _, field in layout.FIELDS.items():
        if field.place != "payload" and _is_plain(field):
            number = field.place == "p2"
            assert parameters[number] == (p1, p2)[number]
    for span in spans(layout):
        if span.size and span.field is not None and _is_plain(span.field):
            where = slice(span.offset, span.offset + span.size)
            assert packed[where] == payload[where].ljust(span.size, b"\0") or span.field.optional
        elif span.field is None:
            assert not any(packed[span.offset : span.offset + span.size])
    again = layout.unpack(packed, *parameters)
    assert _compared(again) == _compared(value)
    assert repr(again).isprintable()
    if not more:
        _is_strict(layout, payload, p1, p2)
    try:
        value.check()
    except ArgumentError as error:
        assert str(error)


def _is_strict(layout: type[Layout], payload: bytes, p1: int, p2: int) -> None:
    """Where a size is fixed, a byte more and a byte less are refused, or ignored where told so."""
    if not layout.FIXED:
        return
    for other in (payload + b"\0", payload[:-1]):
        try:
            layout.unpack(other, p1, p2)
        except WrongSize:
            continue
        assert other == payload, "a wrong size is taken"
    layout.unpack(payload + b"junk", p1, p2, more=True)


def _is_plain(field: Field) -> bool:
    """Whether every value on the wire comes back as it was."""
    odd = field.boolean or field.unknown is not None or field.convert is not None
    return not odd and field.slot is None and field.kind != "text"


def _compared(value: Layout) -> dict[str, object]:
    """What must come back; bytes that are no UTF-8 are read with marks that may not fit again."""
    found: dict[str, object] = {}
    for name, field in value.FIELDS.items():
        said = getattr(value, name)
        if field.slot is not None:
            found[name] = [_compared(row) for row in said]
        elif field.convert is None or isinstance(said, CapabilityMap):
            found[name] = said
    return found


def seeds() -> Iterator[bytes]:
    """A request of each instruction, the recorded replies, and zeros of the right size."""
    for instruction in REGISTRY:
        given = arguments(instruction)
        if isinstance(given.get("key"), str):
            given["key"] = bytes.fromhex(given["key"])
        request = instruction.make_request(**given)
        p1, p2 = request.parameters()
        yield _seed(instruction.request, request.pack(), p1, p2)
        yield _seed(instruction.reply, bytes(instruction.reply.SIZE))
    for session in SESSIONS.values():
        for exchange in session.exchanges:
            known = REGISTRY.get(exchange.request[1]) if len(exchange.request) > 1 else None
            if known is not None and exchange.response is not None:
                yield _seed(known.reply, exchange.response[:-2])


def _seed(layout: type[Layout], payload: bytes, p1: int = 0, p2: int = 0) -> bytes:
    return bytes(Script().byte(LAYOUTS.index(layout), p1, p2, 0).raw(payload))
