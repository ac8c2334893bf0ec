"""A key that can do both: sign as Ed25519, and exchange as X25519."""

from __future__ import annotations

from hashlib import sha512

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey


def signing_key() -> tuple[Ed25519PrivateKey, X25519PrivateKey]:
    """Both have one scalar: that which Ed25519 makes of its seed. Only a point without a sign will
    do, as that is what the public key of the other form turns into.
    """
    while True:
        signer = Ed25519PrivateKey.generate()
        if not signer.public_key().public_bytes_raw()[31] >> 7:
            scalar = sha512(signer.private_bytes_raw()).digest()[:32]
            return signer, X25519PrivateKey.from_private_bytes(scalar)
