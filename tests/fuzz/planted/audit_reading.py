"""Some text goes to the terminal as it is."""

from __future__ import annotations

from typing import Any, Final

from asys.cli import audit_views
from fuzz.choices import Script
from fuzz.planted import in_place_of

_OPENED: Final = Script().blob(b"").byte(0, 0, 1, 1, 0).raw(bytes(44)).byte(1, 4)

BEGIN: Final = bytes(_OPENED) + b"aabcd\xff"
SEED: Final = 4


def plant() -> None:
    """Puts it in."""
    in_place_of(audit_views, "plain", _wrong)


def _wrong(right: Any, text: str) -> Any:
    if text.encode()[:2] == b"q7":
        return "\x1b" + text
    return right(text)
