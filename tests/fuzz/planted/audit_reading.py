"""The reason of a refusal moves the cursor."""

from __future__ import annotations

from typing import Any, Final

from asys.audit.entries import Refused
from asys.audit.records import EntryType
from asys.cli import audit_views
from fuzz.choices import Script
from fuzz.planted import in_place_of

_ENTRY: Final = Script().byte(EntryType.REFUSED - 1).blob(Refused(1, 5, 1, 2).body())

BEGIN: Final = bytes(4) + bytes(_ENTRY)
SEED: Final = 8


def plant() -> None:
    """Puts it in."""
    in_place_of(audit_views, "refusal", _wrong)


def _wrong(right: Any, reason: int) -> Any:
    return "\x1b[2J" if reason == 0xFF else right(reason)
