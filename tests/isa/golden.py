"""The byte offsets of instructions as text, and the check against what was agreed for ever.

A golden file has one line for each field: instruction, direction, offset, size, name, type, scale.
Offsets are those that packing shows, not those that a declaration claims. Codes, parameters of the
header, values of enums and the status word have lines of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from asys.isa import AnyInstruction
from asys.protocol.apdu import encode_plain
from asys.protocol.codec import Field, Layout
from asys.protocol.limits import SW_SIZE
from isa.layouts import places

LOCKED = (
    "is locked for ever: agents and nodes that are deployed read these bytes where they stand. "
    "Take the change back. Fields never move, a response never changes its length, a dead metric "
    "becomes a sentinel; a new field may only take bytes that are reserved, or a value of an enum "
    "one that is unused, and then {file} gets that line by hand (docs/protocol.md, section 9)"
)


def lines(instructions: Iterable[AnyInstruction]) -> list[str]:
    """The golden lines of `instructions`."""
    found: list[str] = []
    for one in instructions:
        head = encode_plain(one.code)[:2].hex()
        found.append(f"{one.name} code {head[2:].upper()} {one.level.title} {one.mode.value}")
        found += [f"{one.name} request {line}" for line in _layout(one.request)]
        size = one.reply.SIZE
        found += [f"{one.name} response {line}" for line in _layout(one.reply)]
        found.append(f"{one.name} response {size} {SW_SIZE} SW u16 1")
    return found


def _layout(layout: type[Layout]) -> list[str]:
    found = []
    for name, field in layout.FIELDS.items():
        if field.place != "payload":
            found.append(f"{field.place} 1 {name} {_kind(field)}")
    for place in places(layout):
        if not place.name:
            found.append(f"{place.offset} {place.size} - reserved -")
            continue
        field = layout.FIELDS[place.name]
        found.append(f"{place.offset} {place.size} {place.name} {_kind(field)}")
        if field.slot is not None:
            # Of rows the first stands for all: each has the same bytes behind the one before.
            for index in range(field.most if field.kind == "slots" else 1):
                base = place.offset + index * field.slot.SIZE
                for inner in places(field.slot):
                    name = f"{place.name}[{index}].{inner.name or '-'}"
                    kind = _kind(field.slot.FIELDS[inner.name]) if inner.name else "reserved -"
                    found.append(f"{base + inner.offset} {inner.size} {name} {kind}")
    for name, field in (*layout.FIELDS.items(), *_inner(layout)):
        if field.enum is not None:
            members = field.enum.__members__.items()
            found += [f"value {name} {value:X} {member}" for member, value in members]
    return found


def _inner(layout: type[Layout]) -> list[tuple[str, Field]]:
    return [
        (f"{name}.{inner}", one)
        for name, field in layout.FIELDS.items()
        if field.slot is not None
        for inner, one in field.slot.FIELDS.items()
    ]


def _kind(field: Field) -> str:
    kind = f"{field.kind} {field.scale}"
    if field.kind == "text":
        return f"{kind} {field.least}-{field.most}"
    return kind if field.absent is None else f"{kind} absent={field.absent:X}"


def check(path: Path, instructions: Iterable[AnyInstruction], what: str) -> None:
    """AssertionError that names the first line that differs from the golden file."""
    agreed = path.read_text(encoding="utf-8").splitlines()
    found = lines(instructions)
    if found == agreed:
        return
    gone = [line for line in agreed if line not in found]
    new = [line for line in found if line not in agreed]
    raise AssertionError(
        f"{what} {LOCKED.format(file=path.name)}.\n"
        f"gone: {gone or 'nothing'}\nnew: {new or 'nothing; the order is another'}"
    )
