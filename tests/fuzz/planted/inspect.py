"""A parameter stands there and says nothing."""

from __future__ import annotations

from typing import Any, Final

from asys.isa import inspect
from fuzz.planted import in_place_of

BEGIN: Final = b"\0\0\1\0\0\0\0"
SEED: Final = 9


def plant() -> None:
    """Puts it in."""
    in_place_of(inspect, "_parameter", _wrong)


def _wrong(right: Any, walk: Any, place: str, used: Any) -> Any:
    if place == "P2" and walk.data[:4] == b"\x00\xa7\x5c\x13":
        return walk.take(1, place, "")[0]
    return right(walk, place, used)
