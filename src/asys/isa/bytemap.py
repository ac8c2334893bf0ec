"""Which byte of a layout is which field: for exports, the inspector and the documentation."""

from __future__ import annotations

from typing import NamedTuple

from asys.protocol.codec import Field, Layout


class Span(NamedTuple):
    """A run of payload bytes. `size` is 0 for a text, which fills the rest of the payload.

    `field` is None for reserved bytes; their `name` is "reserved".
    """

    offset: int
    size: int
    name: str
    field: Field | None


def spans(layout: type[Layout]) -> list[Span]:
    """The payload of `layout` from its first byte to its last, reserved bytes included.

    A field of slots is one span; the bytes of a slot are `spans(field.slot)`. What is open-ended
    has the size 0; where it is counted, the bytes at its offset are its length.
    """
    found: list[Span] = []
    offset = 0
    for name, field in layout.FIELDS.items():
        if field.place != "payload":
            continue
        found.append(Span(offset, field.size, name, field))
        offset += field.size + field.counted
        if field.reserved:
            found.append(Span(offset, field.reserved, "reserved", None))
            offset += field.reserved
    return found


def parameters(layout: type[Layout]) -> dict[str, tuple[str, Field]]:
    """What travels in the header: `p1` or `p2` -> the field's name and the field."""
    return {
        field.place: (name, field)
        for name, field in layout.FIELDS.items()
        if field.place != "payload"
    }


def size_range(layout: type[Layout]) -> tuple[int, int]:
    """The fewest and the most bytes of a payload; the same where nothing in it is open-ended."""
    last = next((field for field in layout.FIELDS.values() if field.open_ended), None)
    if last is None:
        return layout.SIZE, layout.SIZE
    if last.slot is not None:
        return layout.SIZE, layout.SIZE + last.most * size_range(last.slot)[1]
    if last.optional:
        return layout.SIZE, layout.SIZE + last.size
    return layout.SIZE + last.least, layout.SIZE + last.most
