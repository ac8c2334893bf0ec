"""What `cryptography` alone does, in loops with nothing else in them."""

from __future__ import annotations

import struct
import time
from statistics import median
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from benchmarks.loop import undisturbed

_NONCE: Final = struct.Struct("<4xQ")

EXCHANGES: Final = 4
"""X25519 exchanges of one side of a handshake; it also makes one new key."""


def open_and_seal(request: bytes, reply: bytes, count: int) -> int:
    """Opens `count` records that hold `request` and seals `count` replies; takes so many ns.

    Nonces are made beforehand: it is as fast as this can be done here.
    """
    open_ = ChaCha20Poly1305(bytes(32)).decrypt
    other = ChaCha20Poly1305(bytes(32)).encrypt
    seal = ChaCha20Poly1305(bytes(range(32))).encrypt
    nonces = [_NONCE.pack(number) for number in range(count)]
    records = [other(nonce, request, None) for nonce in nonces]
    with undisturbed():
        began = time.perf_counter_ns()
        for nonce, record in zip(nonces, records, strict=True):
            open_(nonce, record, None)
            seal(nonce, reply, None)
        return time.perf_counter_ns() - began


def exchange_keys(count: int) -> float:
    """The elliptic-curve work of one side of a handshake; median of `count`, in ns."""
    own = X25519PrivateKey.generate()
    others = [X25519PrivateKey.generate().public_key().public_bytes_raw() for _ in range(count)]
    times = []
    with undisturbed():
        for other in others:
            began = time.perf_counter_ns()
            X25519PrivateKey.generate().public_key().public_bytes_raw()
            for _ in range(EXCHANGES):
                own.exchange(X25519PublicKey.from_public_bytes(other))
            times.append(time.perf_counter_ns() - began)
    return median(times)
