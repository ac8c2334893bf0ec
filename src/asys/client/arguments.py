"""Arguments of a call -> P1, P2 and payload, checked before a byte is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asys.errors import ArgumentError
from asys.isa import AnyInstruction, Level
from asys.protocol.limits import MAX_DATA, SEQ_SIZE


def pack(
    instruction: AnyInstruction, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[int, int, bytes]:
    """P1, P2 and payload of a request. ArgumentError says which argument is wrong."""
    try:
        request = instruction.make_request(*args, **kwargs)
    except TypeError as error:
        fault = str(error).partition("() ")[2] or str(error)
        raise ArgumentError(f"{instruction.method}() {fault}") from None
    request.check()
    payload = request.pack()
    most = MAX_DATA if instruction.level is Level.PLAIN else MAX_DATA - SEQ_SIZE
    if len(payload) > most:
        raise ArgumentError(
            f"{instruction.name} with {len(payload)} bytes; one request carries at most {most}"
        )
    return *request.parameters(), payload
