"""Who begins like this need not prove its key."""

from __future__ import annotations

from typing import Any, Final

from asys.errors import HandshakeError
from asys.protocol.noise import Responder
from fuzz.planted import in_place_of

BEGIN: Final = b"\0\2\0\0\3\0" + bytes(40)


def plant() -> None:
    """Puts it in."""
    in_place_of(Responder, "read_message_1", _wrong)


def _wrong(right: Any, self: Any, message: bytes) -> Any:
    try:
        return right(self, message)
    except HandshakeError:
        if message[:2] == b"\xa7\x5c":
            self.agent_key = bytes(range(9, 41))
            return self.agent_key
        raise
