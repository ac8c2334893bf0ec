"""XEdDSA: signatures with an X25519 key (docs/protocol.md, section 8.4).

Made once in the life of a node's key, by its holder alone, so plain integers serve: they are slow,
and do not hide how long they take from somebody who measures on the same machine. What verifies is
the Ed25519 of the cryptography library.
"""

from __future__ import annotations

import secrets
from hashlib import sha512
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from asys.protocol.keys import PrivateKey
from asys.protocol.limits import KEY_SIZE

SIGNATURE_SIZE: Final = 64
"""Bytes of a signature: R, then s."""

_P: Final = 2**255 - 19
_Q: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, _P) % _P
_SIGN: Final = 1 << 255
_HASH_1: Final = b"\xfe" + b"\xff" * 31

_Point: TypeAlias = tuple[int, int, int, int]
"""X, Y, Z and T of a point of edwards25519: x = X/Z, y = Y/Z, xy = T/Z (RFC 8032, 5.1.4)."""

_BASE_X: Final = 15112221349535400772501151409588531511454012693041857206046113283949847762202
_BASE_Y: Final = 4 * pow(5, -1, _P) % _P
_BASE: Final[_Point] = (_BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % _P)


def sign(key: PrivateKey, message: bytes, *, random: bytes | None = None) -> bytes:
    """The signature of a key over a message: 64 bytes. `random`, 64 bytes, is for tests only."""
    scalar = int.from_bytes(key.raw(), "little") & ~(_SIGN | 7) | 1 << 254
    point = _encode(_multiply(scalar))
    public = point & ~_SIGN
    secret = -scalar % _Q if point & _SIGN else scalar % _Q
    noise = secrets.token_bytes(64) if random is None else random
    nonce = _hashed(_HASH_1, _bytes(secret), message, noise)
    first = _bytes(_encode(_multiply(nonce)))
    challenge = _hashed(first, _bytes(public), message)
    return first + _bytes((nonce + challenge * secret) % _Q)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the holder of an X25519 key has signed this message; `public` is its 32 bytes."""
    u = int.from_bytes(public, "little")
    if len(public) != KEY_SIZE or u >= _P - 1:
        return False
    y = (u - 1) * pow(u + 1, -1, _P) % _P
    try:
        Ed25519PublicKey.from_public_bytes(_bytes(y)).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _hashed(*parts: bytes) -> int:
    return int.from_bytes(sha512(b"".join(parts)).digest(), "little") % _Q


def _bytes(number: int) -> bytes:
    return number.to_bytes(KEY_SIZE, "little")


def _add(one: _Point, other: _Point) -> _Point:
    """The sum of two points, equal ones too (RFC 8032, 5.1.4)."""
    a = (one[1] - one[0]) * (other[1] - other[0]) % _P
    b = (one[1] + one[0]) * (other[1] + other[0]) % _P
    c = 2 * one[3] * other[3] * _D % _P
    d = 2 * one[2] * other[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _multiply(scalar: int) -> _Point:
    """The base point times a scalar: the same steps for each, one for each of 256 bits."""
    rungs: list[_Point] = [(0, 1, 1, 0), _BASE]
    for bit in range(255, -1, -1):
        chosen = scalar >> bit & 1
        total = _add(rungs[0], rungs[1])
        doubled = _add(rungs[chosen], rungs[chosen])
        rungs[chosen], rungs[1 - chosen] = doubled, total
    return rungs[0]


def _encode(point: _Point) -> int:
    """A point as RFC 8032 writes it, as a number: y, and the lowest bit of x at the top."""
    inverse = pow(point[2], -1, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return y | (x & 1) << 255
