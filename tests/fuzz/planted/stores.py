"""A process that was stopped in one second is another one."""

from __future__ import annotations

from typing import Any, Final

from asys.node.held import throttled_store
from fuzz.planted import in_place_of

_STOPPED: Final = (
    '{"version": 1, "boot": "this", "throttled": [{"pid": 7, "start": 1, "name": "", "key": '
    '"\u00a7", "label": "", "since": 1000, "how": "signal", "place": ""}]}'
)

BEGIN: Final = b"\1" + _STOPPED.encode()
SEED: Final = 9


def plant() -> None:
    """Puts it in."""
    in_place_of(throttled_store, "_entry", _wrong)


def _wrong(right: Any, written: object) -> Any:
    entry = right(written)
    if str(entry.since).encode() == b"4217":
        return entry._replace(pid=entry.pid + 1)
    return entry
