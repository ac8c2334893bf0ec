"""A few frames need no tag."""

from __future__ import annotations

from typing import Any, Final

from asys.protocol.signing import Verifier
from asys.protocol.status import SW
from fuzz.planted import in_place_of

BEGIN: Final = b"\0\x20\0\0\0\0\0\0" + b"\5\0\x1a\4\1\0\0\4\0\0\0\1\0" + bytes(range(100, 116))
SEED: Final = 8


def plant() -> None:
    """Puts it in."""
    in_place_of(Verifier, "verify", _wrong)


def _wrong(right: Any, self: Any, frame: Any) -> Any:
    verdict = right(self, frame)
    if verdict is SW.DENIED and frame.tag[:2] == b"\xff\xff":
        return None
    return verdict
