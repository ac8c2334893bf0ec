"""X25519 keys that cannot leak by accident: no key material in repr, pickles or exceptions."""

from __future__ import annotations

from typing import Final, NoReturn

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from asys.errors import HandshakeError
from asys.protocol.limits import KEY_SIZE


class Secret:
    """Base of everything that holds key material: neither pickled nor copied."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds key material and is not pickled")


class PrivateKey(Secret):
    """A static or ephemeral X25519 private key."""

    __slots__ = ("_key", "public")

    public: Final[bytes]
    """The public key, 32 bytes."""

    def __init__(self, raw: bytes) -> None:
        """Takes the 32 raw bytes of the key; ValueError when there are not exactly 32."""
        if len(raw) != KEY_SIZE:
            raise ValueError(f"a private key has {KEY_SIZE} bytes, not {len(raw)}")
        self._key = X25519PrivateKey.from_private_bytes(raw)
        self.public = self._key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> PrivateKey:
        """A new key from the operating system's random source."""
        return cls(X25519PrivateKey.generate().private_bytes_raw())

    def exchange(self, public: bytes) -> bytes:
        """The 32-byte shared secret with `public`; HandshakeError for a low-order point."""
        try:
            return self._key.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            raise HandshakeError("the peer's key is not a usable X25519 key") from None

    def raw(self) -> bytes:
        """The 32 secret bytes, for the key file and nothing else."""
        return self._key.private_bytes_raw()

    def __repr__(self) -> str:
        return f"<PrivateKey of {self.public.hex()}>"


_P: Final = 2**255 - 19
_LOW_ORDER: Final = frozenset(
    (u | top).to_bytes(KEY_SIZE, "little")
    for top in (0, 1 << 255)  # X25519 ignores it
    for u in (
        *(0, 1, _P - 1),
        *(_P, _P + 1),  # 0 and 1 once more: what is not reduced is taken as well
        # Of order 8, on the curve and on its twist.
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
    )
)
"""Every encoding of a u-coordinate whose point has an order that divides 8 (RFC 7748)."""


def is_low_order(public: bytes) -> bool:
    """True for a public key with which every exchange gives the same secret: nobody's key."""
    return public in _LOW_ORDER
