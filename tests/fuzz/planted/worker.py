"""Some answers are taken for those to another request."""

from __future__ import annotations

from typing import Any, Final

from fuzz.planted import in_place_of
from fuzz.targets import worker

BEGIN: Final = b"\2abcd\x90\0\0\0"
SEED: Final = 10


def plant() -> None:
    """Puts it in, where the target has it from."""
    in_place_of(worker, "unpack_answer", _wrong)


def _wrong(right: Any, body: bytes) -> Any:
    number, *rest = right(body)
    if number.to_bytes(4, "big") == b"\xa7\x5c\x13\x37":
        return number ^ 1, *rest
    return number, *rest
