"""Arguments from JSON to what an instruction takes; replies to JSON and to text."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from enum import IntEnum, IntFlag
from typing import Any, Final

from asys.errors import ArgumentError
from asys.isa import CapabilityMap, UntrustedText
from asys.protocol.codec import Field, Layout
from asys.tools.fence import disarmed
from asys.tools.schema import LEFT_OUT, MOST_ROWS, is_time, may_leave_out, shown_name

_NUMBER: Final = re.compile(r"[0-9]{1,20}")
_NS: Final = 1_000_000_000


def arguments_of(
    layout: type[Layout], arguments: Mapping[str, Any], known: Collection[str]
) -> dict[str, Any]:
    """Keyword arguments for a request, from what a model wrote. Null counts as left out.

    `known` are the names that it may write. ArgumentError for another, and for a value that has no
    meaning; whether it is allowed, the request itself checks.
    """
    unknown = [str(name) for name in arguments if name not in known]
    if unknown:
        there = ", ".join(known) or "none"
        raise ArgumentError(f"unknown argument {unknown[0]!r}; there are: {there}")
    found = {}
    for name, value in arguments.items():
        field = layout.FIELDS[name]
        if value is None and field.absent is None:
            continue
        found[name] = _given(name, field, value)
        if field.kind == "rows":
            found["count"] = len(found[name])
    return found


def _given(name: str, field: Field, value: Any) -> Any:
    if value is None:
        return None
    if field.slot is not None:
        return _rows_given(name, field.slot, value)
    if field.kind == "bytes" and field.convert is None:
        try:
            return bytes.fromhex(value)
        except (TypeError, ValueError):
            raise ArgumentError(f"{name} must be hex digits") from None
    if field.enum is not None and issubclass(field.enum, IntFlag):
        return _flags_given(name, field.enum, value)
    if field.kind in ("bytes", "text") or field.boolean:
        return value
    if field.enum is not None:
        if not isinstance(value, str):
            names = ", ".join(repr(str(one.name).lower()) for one in field.enum)
            raise ArgumentError(f"{name} must be one of {names}, not {value!r}")
        return value
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer() and field.scale == 1:
        return int(value)  # JSON has one kind of numbers
    return value


def _rows_given(name: str, slot: type[Layout], value: Any) -> tuple[Layout, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ArgumentError(f"{name} must be a list")
    rows = []
    for one in value:
        if not isinstance(one, Mapping):
            raise ArgumentError(f"{name} must be a list of objects")
        try:
            rows.append(slot(**arguments_of(slot, one, slot.FIELDS)))
        except TypeError as error:
            fault = str(error).partition("() ")[2] or str(error)
            raise ArgumentError(f"{name}: {fault}") from None
        rows[-1].check()
    return tuple(rows)


def _flags_given(name: str, enum: type[IntFlag], value: Any) -> IntFlag:
    known = {str(member).lower(): flag for member, flag in enum.__members__.items()}
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ArgumentError(f"{name} must be a list of {', '.join(known)}")
    flags = enum(0)
    for one in value:
        flag = known.get(str(one).lower())
        if flag is None:
            raise ArgumentError(f"{name} has {one!r}; there are {', '.join(known)}")
        flags |= flag
    return flags


def data_of(reply: Layout, leave_out: Collection[str] = ()) -> dict[str, Any]:
    """A reply as JSON has it, as `schema.reply_schema` says."""
    found: dict[str, Any] = {}
    left_out = 0
    for name, field in reply.FIELDS.items():
        if name in leave_out:
            continue
        value = getattr(reply, name)
        if field.slot is not None:
            left_out += max(len(value) - MOST_ROWS, 0)
            value = value[:MOST_ROWS]
        found[shown_name(name, field)] = plain(field, value)
    if may_leave_out(type(reply)):
        found[LEFT_OUT] = left_out
    return found


def plain(field: Field, value: Any) -> Any:
    """One value as JSON has it."""
    if field.slot is not None:
        return [data_of(one) for one in value]
    if isinstance(value, IntFlag):
        return _flag_names(value)
    if isinstance(value, IntEnum):
        return value.name.lower()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, CapabilityMap):
        return str(value)
    if isinstance(value, UntrustedText):
        return {"untrusted": disarmed(value.shown)}
    if is_time(field):
        return _iso(value)
    return str(value) if field.kind == "u64" else value


def text_of(data: Mapping[str, Any], layout: type[Layout]) -> str:
    """The same for a model to read: a line a field, a line a row, with units."""
    lines = []
    for name, value in data.items():
        field = layout.FIELDS.get(name)
        if field is not None and field.slot is not None:
            lines.append(f"{name}:" if value else f"{name}: none")
            lines += [f"- {_row(one, field.slot)}" for one in value]
        else:
            lines.append(f"{name}: {_shown(field, value)}")
    return "\n".join(lines)


def _row(row: Mapping[str, Any], slot: type[Layout]) -> str:
    return ", ".join(f"{name} {_shown(slot.FIELDS.get(name), one)}" for name, one in row.items())


def _shown(field: Field | None, value: Any) -> str:
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        quoted = str(value["untrusted"]).replace('"', '\\"')  # its backslashes are escaped already
        return f'"{quoted}"'
    if isinstance(value, list):
        return ", ".join(str(one) for one in value) or "none"
    unit = f" {field.unit}" if field is not None and field.unit and not is_time(field) else ""
    return f"{value}{unit}"


def _iso(time_ns: int) -> str:
    """A Unix time by ISO 8601, in UTC, with microseconds. A u64 reaches to the year 2554."""
    second = datetime.fromtimestamp(time_ns // _NS, UTC)
    return f"{second:%Y-%m-%dT%H:%M:%S}.{time_ns % _NS // 1000:06}Z"


def _flag_names(flags: IntFlag) -> list[str]:
    known = [one for one in type(flags).__members__.values() if one in flags]
    rest = int(flags)
    for one in known:
        rest &= ~int(one)
    return [str(one.name).lower() for one in known] + ([f"{rest:#04x}"] if rest else [])
