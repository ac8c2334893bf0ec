"""Bytes that no key has sealed are a message."""

from __future__ import annotations

from typing import Any, Final

from asys.protocol.channel import Channel
from fuzz.planted import in_place_of

BEGIN: Final = bytes((0, 7, 0, 9, 0, 0)) + b"\0\x20" + bytes(8)
SEED: Final = 10


def plant() -> None:
    """Puts it in."""
    in_place_of(Channel, "receive", _wrong)


def _wrong(right: Any, self: Any, *limit: int) -> Any:
    buffer = self._buffer
    if buffer[:4] == b"\xa7\x5c\x13\x37":
        self.close()
        return [buffer]
    return right(self, *limit)
