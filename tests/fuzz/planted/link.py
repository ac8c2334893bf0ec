"""Who begins like this need not prove its key."""

from __future__ import annotations

from typing import Any, Final

from asys.protocol.noise import Responder
from fuzz.planted import in_place_of

BEGIN: Final = b"\0\2\0\0\3\0" + bytes(range(100, 133))
SEED: Final = 8


def plant() -> None:
    """Puts it in."""
    in_place_of(Responder, "read_message_1", _wrong)


def _wrong(right: Any, self: Any, message: bytes) -> Any:
    if message[0] == 0xFF:
        self._remote_ephemeral = self.agent_key = bytes(range(9, 41))
        self._symmetric.mix_key(bytes(32))
        return self.agent_key
    return right(self, message)
