"""Hypothesis strategies for layouts, and the bytes of a layout as packing shows them."""

from __future__ import annotations

import dataclasses
import re
from enum import IntFlag
from typing import Any, NamedTuple

from hypothesis import strategies as st

from asys.isa import CapabilityMap, UntrustedText
from asys.protocol.codec import Field, Layout

maps = st.builds(CapabilityMap, st.integers(0, (1 << 256) - 1))


def values(layout: type[Layout]) -> st.SearchStrategy[Layout]:
    """Any value of `layout` that can travel without loss."""
    built = st.builds(layout, **{name: value(field) for name, field in layout.FIELDS.items()})
    if any(field.kind == "rows" for field in layout.FIELDS.values()):
        return built.map(_counted)
    return built.filter(_goes_together)


def _goes_together(made: Layout) -> bool:
    """Whether no field is there that another one's value forbids."""
    return not any(
        getattr(made, name) and getattr(made, field.only_with[0]) != field.only_with[1]
        for name, field in made.FIELDS.items()
        if field.only_with
    )


def _counted(made: Layout) -> Layout:
    """With the number of its rows in the field that says it."""
    (rows,) = [name for name, field in made.FIELDS.items() if field.kind == "rows"]
    kind: Any = type(made)
    names = [field.name for field in dataclasses.fields(kind)]
    said = {name: getattr(made, name) for name in names}
    changed: Layout = kind(**said | {"count": len(said[rows])})
    return changed


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
    if field.convert is not None:
        return _converted(field)
    if field.kind == "bytes" and field.open_ended:
        return st.binary(min_size=field.least, max_size=min(field.most, field.least + 40))
    if field.kind == "bytes":
        return st.binary(min_size=field.size, max_size=field.size)
    if field.kind == "rows" and field.slot is not None:
        return st.lists(values(field.slot), max_size=field.most).map(tuple)
    if field.slot is not None:
        first = next(iter(field.slot.FIELDS))
        used = values(field.slot).filter(lambda slot: bool(getattr(slot, first)))
        return st.lists(used, max_size=field.most).map(tuple)
    if field.boolean:
        return st.booleans()
    if field.enum is not None and issubclass(field.enum, IntFlag):
        return st.sets(st.sampled_from(field.enum)).map(sum).map(field.enum)
    if field.enum is not None:
        return st.sampled_from(field.enum)
    numbers = st.integers(field.least, field.most).filter(lambda one: one != field.absent)
    scaled = numbers.map(lambda one: one / field.scale) if field.scale != 1 else numbers
    return scaled | st.none() if field.absent is not None else scaled


def _converted(field: Field) -> st.SearchStrategy[Any]:
    """A map, or a text that fills at most the field and has no zero character at its end."""
    if is_map(field):
        return maps
    if field.kind == "text":
        return st.binary(max_size=field.most // 3).map(
            lambda one: UntrustedText(one.decode(errors="replace"))
        )
    characters = st.characters(exclude_categories=["Cs"])
    texts = st.text(characters, max_size=field.size).filter(
        lambda one: len(one.encode()) <= field.size and not one.endswith("\0")
    )
    return texts if field.convert is None or field.convert.of is str else texts.map(UntrustedText)


def is_map(field: Field) -> bool:
    """Whether the bytes of a field are a capability map."""
    return field.convert is not None and field.convert.of == CapabilityMap.of


class Place(NamedTuple):
    """Where a field's bytes are, found by packing; `name` is "" for bytes that nothing sets.

    A field that takes the rest of the payload has the size 0 and comes last; where a text is
    counted, it begins with its length.
    """

    offset: int
    size: int
    name: str


def _lowest(field: Field) -> Any:
    if field.kind == "text":
        return ""
    if field.slot is not None:
        return ()
    if field.kind == "bytes":
        return _bytes(field, b"\0")
    return field.enum(0) if field.enum and issubclass(field.enum, IntFlag) else 0


def _highest(field: Field) -> Any:
    if field.slot is not None:
        return (field.slot(**{name: _highest(one) for name, one in field.slot.FIELDS.items()}),) * (
            field.most
        )
    if field.kind == "bytes":
        return _bytes(field, b"\x7f")
    return None if field.absent is not None else 1 << 64


def _bytes(field: Field, filling: bytes) -> Any:
    """What a field of bytes is packed from so that each of them is `filling`."""
    filled = filling * field.size
    if is_map(field):
        return CapabilityMap(sum(filling[0] << 8 * at for at in range(field.size)))
    return filled if field.convert is None else filled.decode("ascii")


def places(layout: type[Layout]) -> list[Place]:
    """The payload of `layout` cut where packing puts each field's bytes.

    Nothing of a declaration is believed but the order of the fields and which one is open-ended:
    each field is set to other bytes in turn, and the bytes that change are its own.
    """
    fields = {name: one for name, one in layout.FIELDS.items() if one.place == "payload"}
    header = {name: 0 for name, one in layout.FIELDS.items() if one.place != "payload"}
    low = {name: _lowest(field) for name, field in fields.items()}
    packed = layout(**low, **header).pack()
    owner = [""] * len(packed)
    tail: list[Place] = []
    for name, field in fields.items():
        high = "t" * 9 if field.kind == "text" else _highest(field)
        if field.kind == "bytes" and field.open_ended:
            high = b"t" * 9
        changed = layout(**{**low, name: high}, **header).pack()
        if field.open_ended:
            assert len(changed) > len(packed)
            if field.optional:
                tail = [Place(len(packed), len(changed) - len(packed), name)]
                continue
            tail = [Place(len(packed) - field.counted, 0, name)]
            length = (9).to_bytes(field.counted, "big") if field.counted else b""
            expected = length + changed[len(packed) :]
            assert changed == packed[: tail[0].offset] + expected
            owner = owner[: tail[0].offset]
            continue
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
    return found + tail
