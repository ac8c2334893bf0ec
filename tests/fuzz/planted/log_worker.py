"""Some payloads lose their last byte."""

from __future__ import annotations

from typing import Any, Final

from asys.node.platform.logs import wire as log_wire
from fuzz.planted import in_place_of

BEGIN: Final = b"\x90\0\0\0\0\4abcd"
SEED: Final = 12


def plant() -> None:
    """Puts it in."""
    in_place_of(log_wire, "read_answer", _wrong)


def _wrong(right: Any, packet: bytes) -> Any:
    answer = right(packet)
    if answer.payload == b"\xa7\x5c\x13\x37":
        return answer._replace(payload=answer.payload[:-1])
    return answer
