"""Auth_Tag and Enc+Sign as docs/protocol.md section 3 has them, and as some get them wrong.

Independent of `asys.protocol.signing`, as `handshake` is of `asys.protocol.noise`.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305


@dataclass(frozen=True, slots=True)
class TagRules:
    """How a tag or C is made. The defaults are right; each other value is a mistake."""

    short_hash: bool = False
    keyed: bool = False
    no_header: bool = False
    no_epoch: bool = False
    no_seq: bool = False
    short_header: bool = False
    plain_ad: bool = False
    channel_key: bool = False
    big_endian_nonce: bool = False


RIGHT: Final = TagRules()

TAG_MISTAKES: Final[Mapping[str, TagRules]] = {
    "the tag is BLAKE2b with 16 bytes of output, not a cut of 64": TagRules(short_hash=True),
    "the tag is keyed BLAKE2b and not HMAC-BLAKE2b": TagRules(keyed=True),
    "the tag does not cover the header": TagRules(no_header=True),
    "the tag does not cover Epoch_ID": TagRules(no_epoch=True),
    "the tag does not cover Seq": TagRules(no_seq=True),
}

SEAL_MISTAKES: Final[Mapping[str, TagRules]] = {
    "AD is empty and not Header || Epoch_ID || Seq": TagRules(plain_ad=True),
    "the payload is sealed with K and not with K_enc": TagRules(channel_key=True),
    "the nonce has Seq in big-endian": TagRules(big_endian_nonce=True),
}

EXTENDED_MISTAKES: Final[Mapping[str, TagRules]] = {
    "the tag covers 5 bytes of the header and not 7": TagRules(short_header=True),
}


def epoch_id(key: bytes) -> bytes:
    """The 4 bytes that tie a tag to its session."""
    return hmac.digest(key, b"asys-epoch-v1", "blake2b")[:4]


def auth_tag(key: bytes, header: bytes, data: bytes, rules: TagRules = RIGHT) -> bytes:
    """The 16 bytes behind Le. `data` has Seq in front."""
    covered = b"" if rules.no_header else header[:5] if rules.short_header else header
    covered += b"" if rules.no_epoch else epoch_id(key)
    covered += data[4:] if rules.no_seq else data
    if rules.keyed:
        return blake2b(covered, key=key).digest()[:16]
    if rules.short_hash:
        return hmac.new(key, covered, lambda: blake2b(digest_size=16)).digest()
    return hmac.digest(key, covered, "blake2b")[:16]


def sealed(key: bytes, header: bytes, seq: int, payload: bytes, rules: TagRules = RIGHT) -> bytes:
    """C: the payload of an Enc+Sign frame as it travels, with its tag."""
    cipher, nonce, ad = _sealing(key, header, seq, rules)
    return cipher.encrypt(nonce, payload, ad)


def unsealed(key: bytes, header: bytes, seq: int, data: bytes, rules: TagRules = RIGHT) -> bytes:
    """The payload in C. InvalidTag."""
    cipher, nonce, ad = _sealing(key, header, seq, rules)
    return cipher.decrypt(nonce, data, ad)


def _sealing(
    key: bytes, header: bytes, seq: int, rules: TagRules
) -> tuple[ChaCha20Poly1305, bytes, bytes]:
    k_enc = key if rules.channel_key else hmac.digest(key, b"asys-enc-v1", "blake2b")[:32]
    nonce = bytes(4) + seq.to_bytes(8, "big" if rules.big_endian_nonce else "little")
    ad = b"" if rules.plain_ad else header + epoch_id(key) + seq.to_bytes(4, "big")
    return ChaCha20Poly1305(k_enc), nonce, ad
