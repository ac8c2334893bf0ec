"""Signed instructions: Epoch_ID, Auth_Tag and Seq (docs/protocol.md, section 3).

    Data     = Seq(4) || Payload
    Epoch_ID = HMAC-BLAKE2b(K, "asys-epoch-v1")[:4]
    Auth_Tag = HMAC-BLAKE2b(K, Header || Epoch_ID || Seq || Payload)[:16]

K is the agent-to-node key of the session. `[:n]` cuts the 64-byte result.
"""

from __future__ import annotations

import hmac
from typing import Final

from asys.errors import ProtocolError
from asys.protocol.apdu import SEC_SIGNED, Frame, encode_signed, header
from asys.protocol.keys import Secret
from asys.protocol.limits import AUTH_TAG_SIZE, SEQ_SIZE
from asys.protocol.status import SW

EPOCH_CONTEXT: Final = b"asys-epoch-v1"
MAX_SEQ: Final = 0xFFFFFFFF


def epoch_id(key: bytes) -> bytes:
    """The 4 bytes that tie a tag to its session; derived by both ends, never sent."""
    return hmac.digest(key, EPOCH_CONTEXT, "blake2b")[:4]


class _Tagger(Secret):
    __slots__ = ("_epoch", "_key")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._epoch = epoch_id(key)

    def _tag(self, head: bytes, data: bytes) -> bytes:
        message = head + self._epoch + data
        return hmac.digest(self._key, message, "blake2b")[:AUTH_TAG_SIZE]


class Signer(_Tagger):
    """The agent's side: hands out Seq and tags frames."""

    __slots__ = ("seq",)

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self.seq = 0

    def sign(self, ins: int, p1: int, p2: int, payload: bytes) -> bytes:
        """The next signed frame; its Seq is `self.seq` afterwards.

        ProtocolError when the session has used up its Seq; ValueError when there is too much data.
        """
        if self.seq >= MAX_SEQ:
            raise ProtocolError("this session has used up its Seq; reconnect")
        head = header(ins, p1, p2, SEQ_SIZE + len(payload), sec=SEC_SIGNED)
        self.seq += 1
        data = self.seq.to_bytes(SEQ_SIZE, "big") + payload
        return encode_signed(head, data, self._tag(head, data))


class Verifier(_Tagger):
    """The node's side: checks tags and lets each Seq pass once."""

    __slots__ = ("last_seq",)

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self.last_seq = 0

    def verify(self, frame: Frame) -> SW | None:
        """None: the frame is the agent's and new. DENIED: close. ALREADY_RECEIVED: stay open.

        A right tag uses its Seq up, whatever becomes of the instruction. Constant time in the tag.
        """
        if len(frame.data) < SEQ_SIZE:
            return SW.DENIED
        if not hmac.compare_digest(self._tag(frame.header, frame.data), frame.tag):
            return SW.DENIED
        seq = int.from_bytes(frame.data[:SEQ_SIZE], "big")
        if seq <= self.last_seq:
            return SW.ALREADY_RECEIVED
        self.last_seq = seq
        return None
