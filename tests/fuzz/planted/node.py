"""A handle that nobody has foreseen."""

from __future__ import annotations

from typing import Any, Final

from asys.node.tasks import TaskTable
from fuzz.planted import in_place_of

BEGIN: Final = b"\0\2\0\x11\0\0\0\4efgh"
SEED: Final = 9


def plant() -> None:
    """Puts it in."""
    in_place_of(TaskTable, "query", _wrong)


def _wrong(right: Any, self: Any, session: int, handle: int, now: float) -> Any:
    if handle >> 16 == 0xFFFF:
        raise RuntimeError("a bug")
    return right(self, session, handle, now)
