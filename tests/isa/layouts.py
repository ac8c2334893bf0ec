"""Hypothesis strategies for layouts, and the bytes of a layout as packing shows them."""

from __future__ import annotations

import re
from enum import IntFlag
from typing import Any, NamedTuple

from hypothesis import strategies as st

from asys.protocol.codec import Field, Layout


def values(layout: type[Layout]) -> st.SearchStrategy[Layout]:
    """Any value of `layout` that can travel without loss."""
    return st.builds(layout, **{name: value(field) for name, field in layout.FIELDS.items()})


def value(field: Field) -> st.SearchStrategy[Any]:
    """Any value of one field that can travel without loss."""
    if field.kind == "text":
        texts = st.from_regex(re.compile(field.pattern, re.ASCII), fullmatch=True)
        return texts.map(lambda one: one[: field.most]).filter(
            lambda one: (
                len(one) >= field.least
                and re.fullmatch(field.pattern, one) is not None
                and not (field.refuse and re.search(field.refuse, one))
            )
        )
    if field.kind == "bytes":
        return st.binary(min_size=field.size, max_size=field.size)
    if field.slot is not None:
        first = next(iter(field.slot.FIELDS))
        used = values(field.slot).filter(lambda slot: bool(getattr(slot, first)))
        return st.lists(used, max_size=field.most).map(tuple)
    if field.enum is not None and issubclass(field.enum, IntFlag):
        return st.sets(st.sampled_from(field.enum)).map(sum).map(field.enum)
    if field.enum is not None:
        return st.sampled_from(field.enum)
    numbers = st.integers(field.least, field.most).filter(lambda one: one != field.absent)
    scaled = numbers.map(lambda one: one / field.scale) if field.scale != 1 else numbers
    return scaled | st.none() if field.absent is not None else scaled


class Place(NamedTuple):
    """Where a field's bytes are, found by packing; `name` is "" for bytes that nothing sets."""

    offset: int
    size: int
    name: str


def _lowest(field: Field) -> Any:
    if field.slot is not None:
        return ()
    if field.kind == "bytes":
        return bytes(field.size)
    return field.enum(0) if field.enum and issubclass(field.enum, IntFlag) else 0


def _highest(field: Field) -> Any:
    if field.slot is not None:
        return (field.slot(**{name: _highest(one) for name, one in field.slot.FIELDS.items()}),) * (
            field.most
        )
    if field.kind == "bytes":
        return b"\xff" * field.size
    return None if field.absent is not None else 1 << 64


def places(layout: type[Layout]) -> list[Place]:
    """The payload of `layout` cut where packing puts each field's bytes.

    Nothing of a declaration is believed but the order of the fields and whether one is a text:
    each field is set to all ones in turn, and the bytes that change are its own.
    """
    fields = {name: one for name, one in layout.FIELDS.items() if one.place == "payload"}
    header = {name: 0 for name, one in layout.FIELDS.items() if one.place != "payload"}
    if any(field.kind == "text" for field in fields.values()):
        (name,) = fields
        packed = layout(**{name: "t" * 9}, **header).pack()
        return [Place(packed.index(b"ttttttttt"), 0, name)]
    low = {name: _lowest(field) for name, field in fields.items()}
    packed = layout(**low, **header).pack()
    owner = [""] * len(packed)
    for name, field in fields.items():
        changed = layout(**{**low, name: _highest(field)}, **header).pack()
        for offset, (before, after) in enumerate(zip(packed, changed, strict=True)):
            if before != after:
                assert owner[offset] == "", f"two fields share byte {offset}"
                owner[offset] = name
    found: list[Place] = []
    for offset, name in enumerate(owner):
        if found and found[-1].name == name:
            found[-1] = found[-1]._replace(size=found[-1].size + 1)
        else:
            found.append(Place(offset, 1, name))
    return found
