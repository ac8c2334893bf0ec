"""Some sessions get another number when they are written."""

from __future__ import annotations

from typing import Any, Final

from asys.audit import entries
from asys.audit.records import EntryType
from fuzz.planted import in_place_of

BEGIN: Final = bytes((0, EntryType.SESSION_CLOSED)) + b"abcd" + bytes(8)
SEED: Final = 10


def plant() -> None:
    """Puts it in."""
    in_place_of(entries, "_pack", _wrong)


def _wrong(right: Any, form: Any, number: int, *values: Any) -> Any:
    if number.to_bytes(8, "big")[4:] == b"\xa7\x5c\x13\x37":
        return right(form, number ^ 1, *values)
    return right(form, number, *values)
