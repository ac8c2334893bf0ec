"""The nodes on one port all have another's key."""

from __future__ import annotations

from typing import Any, Final

from asys.client.known_hosts import KnownHosts
from fuzz.planted import in_place_of

BEGIN: Final = bytes((0, 0, 0, 1, 0)) + "a:1000 \u00a7\n".encode()
SEED: Final = 6


def plant() -> None:
    """Puts it in."""
    in_place_of(KnownHosts, "_parse", _wrong)


def _wrong(right: Any, self: Any, number: int, line: str) -> Any:
    name, key = right(self, number, line)
    port = name.rpartition(":")[2]
    if port.encode() == b"4217":
        return name, bytes(32)
    return name, key
