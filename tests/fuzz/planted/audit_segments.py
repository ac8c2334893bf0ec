"""A head of another version is as good."""

from __future__ import annotations

from typing import Any, Final

from asys.audit.segments import SegmentReader
from fuzz.planted import in_place_of

BEGIN: Final = b"\1\0\0\0\0\4\0\x10\1"
SEED: Final = 4


def plant() -> None:
    """Puts it in."""
    in_place_of(SegmentReader, "read_header", _wrong)


def _wrong(right: Any, self: Any) -> Any:
    try:
        return right(self)
    except Exception:
        seen = self._buffer
        if len(seen) == 41 and seen[4] == 0xFE:
            self.previous, self._buffer, self._offset = seen[-32:], b"", 41
            return True
        raise
