"""What the bytes of a field say, for the inspector: values, codes, handles, times."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import IntEnum, IntFlag
from typing import Final

from asys.isa import REGISTRY
from asys.isa.untrusted import UntrustedText
from asys.protocol.codec import Field


def value_of(field: Field, raw: bytes) -> str:
    """What the bytes of a field say, in the terms of its declaration."""
    if field.kind == "text" and field.convert is None:
        return ascii(raw.decode("latin-1"))
    if field.convert is not None:
        value = field.convert.decode(raw)
        said = value.raw if isinstance(value, UntrustedText) else str(value)
        return ascii(said) if said else "none"
    if field.kind == "bytes" and field.open_ended:
        return f"{len(raw)} bytes"
    if field.kind == "bytes":
        return ascii(raw.decode("latin-1")) if raw.isalnum() else raw.hex()
    number = int.from_bytes(raw, "big")
    if number == field.absent:
        return "none"
    if field.boolean:
        return f"{number:02X} ({'yes' if number & 1 else 'no'})"
    if field.enum is not None:
        return _code(field.enum, number)
    value = f"{number / field.scale:g}" if field.scale != 1 else str(number)
    return f"{value} {field.unit}" if field.unit else value


def _code(enum: type[IntEnum] | type[IntFlag], number: int) -> str:
    members = enum.__members__.items()
    if issubclass(enum, IntFlag):
        names = [name.lower() for name, value in members if number & value]
        return f"{number:02X} ({', '.join(names) or 'none'})"
    name = next((name.lower() for name, value in members if value == number), "unknown")
    return f"{number} ({name})"


BITMAPS: Final = {"core_bitmap": 0x00, "ext_bitmap": 0x20}
"""The first code of each bitmap of SYS_CAPS on its first page."""


def bitmap(raw: bytes, first: int) -> str:
    """The codes in a word of a capability map, the lowest of which is `first`."""
    bits = int.from_bytes(raw, "big")
    codes = [first + bit for bit in range(8 * len(raw)) if bits >> bit & 1]
    known = {code: REGISTRY.get(code) for code in codes}
    names = [one.name if one else f"{code:02X}" for code, one in known.items()]
    return f"{raw.hex().upper()} ({', '.join(names) or 'none'})"


def _version(raw: bytes) -> str:
    return f"{raw[0]}.{raw[1]}"


def _moment(seconds: int) -> str:
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S} UTC"


def _time(raw: bytes) -> str:
    ns = int.from_bytes(raw, "big")
    return f"{ns} ns ({_moment(ns // 10**9)})"


def _expires(raw: bytes) -> str:
    seconds = int.from_bytes(raw, "big")
    return f"{seconds} ({_moment(seconds) if seconds else 'never'})"


def _handle(raw: bytes) -> str:
    text = raw.hex().upper()
    return f"{text} (session {text[:4]}, number {text[4:]})"


SPECIAL: Final[dict[str, Callable[[bytes], str]]] = {
    "protocol_version": _version,
    "node_uid": bytes.hex,
    "time_ns": _time,
    "expires": _expires,
    "handle": _handle,
    "event_id": bytes.hex,
    "key": bytes.hex,
    "key_hash": bytes.hex,
    "parent_hash": bytes.hex,
}
"""Fields that say more when they are taken apart, or less than they seem to, by name."""
