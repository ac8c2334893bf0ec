"""Values of layouts for programs (JSON) and for people (text with units)."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Any

from asys.isa import CapabilityMap, UntrustedText
from asys.protocol.codec import Field, Layout


def as_data(value: object) -> Any:
    """A value as JSON has it: enums by name, flags as names, bytes as hex, slots as a list.

    A capability map is the list that `authorized_agents` would have; text that anyone may have
    written is an object that says so.
    """
    if isinstance(value, Layout):
        return {name: as_data(getattr(value, name)) for name in value.FIELDS}
    if isinstance(value, IntFlag):
        return flag_names(value)
    if isinstance(value, IntEnum):
        return value.name.lower()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, CapabilityMap):
        return str(value)
    if isinstance(value, UntrustedText):
        return {"untrusted": value.raw}
    if isinstance(value, tuple):
        return [as_data(one) for one in value]
    return value


def as_text(field: Field, value: object) -> str:
    """A value as people read it, with the field's unit. Slots are no text."""
    if value is None:
        return "none"
    if isinstance(value, IntFlag):
        return ", ".join(flag_names(value)) or "none"
    if isinstance(value, IntEnum):
        return value.name.lower()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, CapabilityMap):
        return str(value) or "nothing"
    if isinstance(value, UntrustedText):
        return value.shown
    decimals = len(str(field.scale)) - 1
    text = f"{value:.{decimals}f}" if isinstance(value, float) else str(value)
    return f"{text} {field.unit}" if field.unit else text


def flag_names(flags: IntFlag) -> list[str]:
    """The names of the flags that are up; bits without a name as one hex number."""
    kind = type(flags)
    known = [one for one in kind.__members__.values() if one in flags]
    rest = int(flags)
    for one in known:
        rest &= ~int(one)
    return [str(one.name).lower() for one in known] + ([f"{rest:#04x}"] if rest else [])
