"""Arguments of a call -> P1, P2 and payload, checked before a byte is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from asys.errors import ArgumentError
from asys.isa import AnyInstruction, Group, Level
from asys.protocol.codec import Field, Layout
from asys.protocol.limits import AEAD_TAG_SIZE, KEY_SIZE, MAX_CHAIN, MAX_DATA, SEQ_SIZE

_KEY: Final = "key"
_HEX_KEY: Final = re.compile(f"[0-9A-Fa-f]{{{2 * KEY_SIZE}}}")

_ROOM: Final = {
    Level.PLAIN: MAX_DATA,
    Level.SIGNED: MAX_DATA - SEQ_SIZE,
    Level.ENC_SIGN: MAX_DATA - SEQ_SIZE - AEAD_TAG_SIZE,
}
"""Bytes of payload that one frame carries."""

_VENDORS: Final = Group.VENDOR_C << 4

_VENDOR_ROOM: Final = 4 + 16_384
"""Bytes of payload that one frame carries to a vendor: its id, and the body."""


def room(instruction: AnyInstruction) -> int:
    """Bytes of payload that one frame of an instruction carries."""
    most = _ROOM[instruction.level]
    return _VENDOR_ROOM if instruction.code >= _VENDORS else most


def pack(
    instruction: AnyInstruction, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[int, int, bytes]:
    """P1, P2 and payload of a request. ArgumentError says which argument is wrong."""
    try:
        request = instruction.make_request(*args, **kwargs)
    except TypeError as error:
        fault = str(error).partition("() ")[2] or str(error)
        raise ArgumentError(f"{instruction.method}() {fault}") from None
    if instruction.group >= Group.VENDOR_C and instruction.vendor_id is None:
        raise ArgumentError(f"{instruction.name} belongs to no Vendor, so it cannot be sent")
    _read_key(request)
    request.check()
    payload = request.pack()
    if instruction.vendor_id is not None:
        payload = instruction.vendor_id.to_bytes(4, "big") + payload
    most = MAX_CHAIN if instruction.chainable else room(instruction)
    if len(payload) > most:
        raise ArgumentError(
            f"{instruction.name} with {len(payload)} bytes; one request carries at most {most}"
        )
    return *request.parameters(), payload


def is_key(name: str, field: Field) -> bool:
    """True for a field that is a public key, which may be written as hex digits too."""
    plain = field.kind == "bytes" and field.convert is None
    return plain and name == _KEY and field.size == KEY_SIZE


def _read_key(request: Layout) -> None:
    """Makes 32 bytes of a key that was written as 64 hex digits."""
    field = request.FIELDS.get(_KEY)
    if field is None or not is_key(_KEY, field):
        return
    value = getattr(request, _KEY)
    if isinstance(value, str) and _HEX_KEY.fullmatch(value):
        object.__setattr__(request, _KEY, bytes.fromhex(value))  # layouts are frozen
    elif not isinstance(value, bytes) or len(value) != KEY_SIZE:
        raise ArgumentError(f"{_KEY} must be {KEY_SIZE} bytes or {2 * KEY_SIZE} hex digits")
