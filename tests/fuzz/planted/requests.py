"""A number is written as another."""

from __future__ import annotations

from typing import Any, Final

from asys.protocol import codec
from fuzz.planted import in_place_of

BEGIN: Final = b"\x15\0\0\0abcd"
SEED: Final = 10


def plant() -> None:
    """Puts it in."""
    in_place_of(codec, "_encode", _wrong)


def _wrong(right: Any, field: Any, value: Any) -> Any:
    if field.size == 4 and value.to_bytes(4, "big") == b"\xa7\x5c\x13\x37":
        return value ^ 1
    return right(field, value)
