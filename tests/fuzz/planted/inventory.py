"""A deadline that nobody has foreseen."""

from __future__ import annotations

from typing import Any, Final

from asys.fleet import inventory
from fuzz.planted import in_place_of

BEGIN: Final = b"\0\0[nodes.a]\nhost='a'\ndeadline=1000\n"
SEED: Final = 4


def plant() -> None:
    """Puts it in."""
    in_place_of(inventory, "check_timeout", _wrong)


def _wrong(right: Any, value: Any) -> Any:
    if str(value).encode() == b"4217":
        raise OverflowError("a bug")
    return right(value)
