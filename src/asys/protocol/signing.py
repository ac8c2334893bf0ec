"""Signed instructions: Epoch_ID, Auth_Tag, Seq, Enc+Sign (docs/protocol.md, section 3).

    Data     = Seq(4) || Payload
    Epoch_ID = HMAC-BLAKE2b(K, "asys-epoch-v1")[:4]
    Auth_Tag = HMAC-BLAKE2b(K, Header || Epoch_ID || Seq || Payload)[:16]

K is the agent-to-node key of the session. `[:n]` cuts the 64-byte result. Enc+Sign has a ciphertext
C in place of Payload, also in the tag:

    K_enc = HMAC-BLAKE2b(K, "asys-enc-v1")[:32]
    C     = ChaCha20-Poly1305(K_enc, 00000000 || Seq as u64 little-endian,
                              AD = Header || Epoch_ID || Seq, Payload)
"""

from __future__ import annotations

import hmac
from hashlib import blake2b
from struct import Struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from asys.errors import ProtocolError
from asys.protocol.apdu import (
    CLA_MORE,
    CLA_SEC,
    SEC_ENC_SIGN,
    SEC_SIGNED,
    Frame,
    encode_signed,
    header,
)
from asys.protocol.keys import Secret
from asys.protocol.limits import AEAD_TAG_SIZE, AUTH_TAG_SIZE, KEY_SIZE, SEQ_SIZE
from asys.protocol.status import SW

EPOCH_CONTEXT: Final = b"asys-epoch-v1"
ENCRYPTION_CONTEXT: Final = b"asys-enc-v1"
MAX_SEQ: Final = 0xFFFFFFFF

_nonce = Struct("<4xQ").pack


def epoch_id(key: bytes) -> bytes:
    """The 4 bytes that tie a tag to its session; derived by both ends, never sent."""
    return hmac.digest(key, EPOCH_CONTEXT, "blake2b")[:4]


def encryption_key(key: bytes) -> bytes:
    """K_enc, 32 bytes: what payloads of Enc+Sign are encrypted with."""
    return hmac.digest(key, ENCRYPTION_CONTEXT, "blake2b")[:KEY_SIZE]


_BLOCK: Final = 128
"""Bytes of a block of BLAKE2b; K is shorter."""

_INNER: Final = bytes(one ^ 0x36 for one in range(256))
_OUTER: Final = bytes(one ^ 0x5C for one in range(256))
"""HMAC's pads, as tables for bytes.translate()."""


class _Tagger(Secret):
    """HMAC with its two halves begun once for a key: a tag takes a quarter of hmac.digest()."""

    __slots__ = ("_epoch", "_inner", "_key", "_outer", "_payloads")

    def __init__(self, key: bytes) -> None:
        self.rekey(key)

    def rekey(self, key: bytes) -> None:
        """Goes on with another K: all that follows from it is derived anew, Seq goes on."""
        self._key = key
        block = key.ljust(_BLOCK, b"\0")
        self._inner = blake2b(block.translate(_INNER))
        self._outer = blake2b(block.translate(_OUTER))
        self._epoch = epoch_id(key)
        self._payloads: ChaCha20Poly1305 | None = None  # few sessions ever need it

    def _tag(self, head: bytes, data: bytes) -> bytes:
        inner = self._inner.copy()
        inner.update(head + self._epoch + data)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()[:AUTH_TAG_SIZE]

    def _cipher(self) -> ChaCha20Poly1305:
        if self._payloads is None:
            self._payloads = ChaCha20Poly1305(encryption_key(self._key))
        return self._payloads


class Signer(_Tagger):
    """The agent's side: hands out Seq, tags frames, and encrypts payloads where asked."""

    __slots__ = ("seq",)

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self.seq = 0

    def sign(self, ins: int, p1: int, p2: int, payload: bytes, *, more: bool = False) -> bytes:
        """The next signed frame; its Seq is `self.seq` afterwards.

        `more`: it is a fragment, and not the last.
        ProtocolError when the session has used up its Seq; ValueError when there is too much data.
        """
        sec = SEC_SIGNED | CLA_MORE if more else SEC_SIGNED
        head = header(ins, p1, p2, SEQ_SIZE + len(payload), sec=sec)
        data = self._next_seq() + payload
        return encode_signed(head, data, self._tag(head, data))

    def seal(self, ins: int, p1: int, p2: int, payload: bytes, *, more: bool = False) -> bytes:
        """As `sign`, with the payload encrypted: an Enc+Sign frame."""
        length = SEQ_SIZE + len(payload) + AEAD_TAG_SIZE
        sec = SEC_ENC_SIGN | CLA_MORE if more else SEC_ENC_SIGN
        head = header(ins, p1, p2, length, sec=sec)
        seq = self._next_seq()
        ciphertext = self._cipher().encrypt(_nonce(self.seq), payload, head + self._epoch + seq)
        data = seq + ciphertext
        return encode_signed(head, data, self._tag(head, data))

    def _next_seq(self) -> bytes:
        if self.seq >= MAX_SEQ:
            raise ProtocolError("this session has used up its Seq; reconnect")
        self.seq += 1
        return self.seq.to_bytes(SEQ_SIZE, "big")


class Verifier(_Tagger):
    """The node's side: checks tags, lets each Seq pass once, and opens encrypted payloads."""

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

    def open(self, frame: Frame) -> Frame | None:
        """The frame with its payload in clear, once `verify` has let it pass; None: DENIED, close.

        A frame that is not Enc+Sign is returned as it is.
        """
        if frame.cla & CLA_SEC != SEC_ENC_SIGN:
            return frame
        seq = frame.data[:SEQ_SIZE]
        try:
            payload = self._cipher().decrypt(
                _nonce(int.from_bytes(seq, "big")),
                frame.data[SEQ_SIZE:],
                frame.header + self._epoch + seq,
            )
        except InvalidTag:
            return None
        return frame._replace(data=seq + payload)
