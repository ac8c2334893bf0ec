"""An answer that nobody has foreseen."""

from __future__ import annotations

from typing import Any, Final

from asys.node.platform.services import http_rpc
from fuzz.planted import in_place_of

BEGIN: Final = b"\0\0HTTP/1.0 200 \r\nContent-Length: 1000\r\n\r\nx"
SEED: Final = 9


def plant() -> None:
    """Puts it in."""
    in_place_of(http_rpc, "_read_head", _wrong)


def _wrong(right: Any, head: str) -> Any:
    status, length = right(head)
    if str(length).encode() == b"4217":
        raise KeyError("a bug")
    return status, length
