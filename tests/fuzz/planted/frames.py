"""P2 of some frames is another one."""

from __future__ import annotations

from typing import Any, Final

from asys.protocol import apdu
from fuzz.planted import in_place_of

BEGIN: Final = b"\0\0\2\0\0\3abc\0"
SEED: Final = 10


def plant() -> None:
    """Puts it in."""
    in_place_of(apdu, "_cut", _wrong)


def _wrong(right: Any, buffer: bytes, start: int, stop: int) -> Any:
    frame = right(buffer, start, stop)
    if frame.data == b"\xa7\x5c\x13":
        return frame._replace(p2=frame.p2 ^ 1)
    return frame
