"""The chain of entries and the keys that sign it, as the writer keeps them; no I/O.

docs/audit.md, sections 3 and 5.
"""

from __future__ import annotations

import re
import struct
from hashlib import blake2b
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from asys.audit.entries import MAX_BODY, MAX_RUN, Checkpoint, CleanEnd, Entry
from asys.audit.records import RECORD_SIZE, EntryType

GENESIS: Final = bytes(32)
"""The chain value before the first entry."""

MAGIC: Final = b"ASAU"

VERSION: Final = 1

_HEADER: Final = struct.Struct(">4sBI32s")

HEADER_SIZE: Final = _HEADER.size
"""Bytes at the head of a segment: 41."""

HEAD_SIZE: Final = 3
"""Bytes before the body of an entry: type u8, length u16."""

_HEAD: Final = struct.Struct(">BH")
_RUN_HEAD: Final = struct.Struct(">BHI")

_ANCHOR: Final = re.compile(r"([0-9]{1,20}):([0-9A-Fa-f]{64})")

_CONTEXT: Final = b"asys-audit-v1"
_SIGNED: Final = struct.Struct(">IQ32sQ32s")


def header(number: int, previous: bytes) -> bytes:
    """The head of the segment `number`, which goes on from the chain value `previous`."""
    return _HEADER.pack(MAGIC, VERSION, number, previous)


def step(h: bytes, framed: bytes) -> bytes:
    """The chain value after an entry: `framed` is its type, its length and its body."""
    return blake2b(h + framed).digest()[:32]


class Chain:
    """Where a chain stands: `h` and `entries` so far, and the number of the last segment begun.

    Every method that gives bytes counts them as written: they must be appended, in this order,
    whatever it takes.
    """

    __slots__ = ("entries", "h", "segment")

    def __init__(self, h: bytes = GENESIS, entries: int = 0, segment: int = 0) -> None:
        self.h = h
        self.entries = entries
        self.segment = segment

    def __repr__(self) -> str:
        return f"<Chain segment {self.segment}, {self.anchor}>"

    @property
    def anchor(self) -> str:
        """COUNT:HASH, what proves later that all this was there."""
        return format_anchor(self.entries, self.h)

    def begin_segment(self) -> bytes:
        """The head of the next segment's file. OverflowError after 2^32 - 1 segments."""
        if self.segment >= 0xFFFFFFFF:
            raise OverflowError("a chain has at most 2^32 - 1 segments")
        self.segment += 1
        return header(self.segment, self.h)

    def session_number(self) -> int:
        """A number for the session that the next entry opens; no other of this chain has it.

        It is the count of entries so far, modulo 2^32, and needs no memory beyond the chain's.
        """
        return self.entries & 0xFFFFFFFF

    def add(self, entry: Entry) -> bytes:
        """The bytes of an entry. ValueError when a field of it does not fit."""
        return self.add_body(entry.type, entry.body())

    def add_body(self, type_: int, body: bytes) -> bytes:
        """The bytes of an entry whose body is there already. ValueError: longer than a u16."""
        if len(body) > MAX_BODY:
            raise ValueError(f"a body of {len(body)} bytes does not fit an entry")
        framed = _HEAD.pack(type_, len(body)) + body
        self.h = blake2b(self.h + framed).digest()[:32]
        self.entries += 1
        return framed

    def add_records(self, session: int, packed: bytes) -> bytes:
        """The bytes of as many runs as records of one session, 24 bytes each, need.

        ValueError: the last record is not whole, or `session` is not a u32; nothing is added then.
        """
        if len(packed) % RECORD_SIZE or not 0 <= session <= 0xFFFFFFFF:
            raise ValueError(
                "whole records of 24 bytes and a session number of 32 bits belong here"
            )
        parts = []
        for start in range(0, len(packed), MAX_RUN * RECORD_SIZE):
            part = packed[start : start + MAX_RUN * RECORD_SIZE]
            framed = _RUN_HEAD.pack(EntryType.RUN, 4 + len(part), session) + part
            self.h = blake2b(self.h + framed).digest()[:32]
            self.entries += 1
            parts.append(framed)
        return b"".join(parts)

    def checkpoint(self, keys: CheckpointKeys, time_ns: int) -> bytes:
        """The bytes of a checkpoint over everything so far; `keys` roll forward."""
        return self.add(keys.sign(self.segment, self.entries, self.h, time_ns))

    def clean_end(self, keys: CheckpointKeys, time_ns: int) -> bytes:
        """The bytes that end a chain on purpose, until a later segment goes on."""
        return self.add(CleanEnd(time_ns)) + self.checkpoint(keys, time_ns)


class CheckpointKeys:
    """The key of the next checkpoint, and the one that this checkpoint will name.

    Before a checkpoint is written `following` must be safe on the disk, beside `private`; once the
    checkpoint is on the disk `private` must be gone from it. Neither shows in a repr.
    """

    __slots__ = ("_current", "_following")

    def __init__(self, private: bytes, following: bytes | None = None) -> None:
        """From 32 raw bytes each; a new `following` is made where there is none. ValueError."""
        self._current = Ed25519PrivateKey.from_private_bytes(private)
        self._following = (
            Ed25519PrivateKey.generate()
            if following is None
            else Ed25519PrivateKey.from_private_bytes(following)
        )

    @classmethod
    def generate(cls) -> CheckpointKeys:
        """New keys, for a new chain."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    @property
    def public(self) -> bytes:
        """The public key that the next checkpoint verifies with."""
        return self._current.public_key().public_bytes_raw()

    @property
    def private(self) -> bytes:
        """The raw private key that signs the next checkpoint."""
        return self._current.private_bytes_raw()

    @property
    def following(self) -> bytes:
        """The raw private key that signs the one after it."""
        return self._following.private_bytes_raw()

    def sign(self, segment: int, entries: int, h: bytes, time_ns: int) -> Checkpoint:
        """A checkpoint. The key that signed it is dropped, `following` takes its place."""
        named = self._following.public_key().public_bytes_raw()
        signature = self._current.sign(_signed(segment, entries, h, time_ns, named))
        self._current, self._following = self._following, Ed25519PrivateKey.generate()
        return Checkpoint(entries, h, time_ns, named, signature)


def public_of(private: bytes) -> bytes:
    """The public key of a raw private one. ValueError: it has not 32 bytes."""
    return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def is_signed(checkpoint: Checkpoint, segment: int, key: bytes) -> bool:
    """Whether the public key `key` signed this checkpoint of this segment."""
    told = _signed(
        segment, checkpoint.entries, checkpoint.h, checkpoint.time_ns, checkpoint.next_key
    )
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(checkpoint.signature, told)
    except (InvalidSignature, ValueError):
        return False
    return True


def format_anchor(entries: int, h: bytes) -> str:
    """COUNT:HASH."""
    return f"{entries}:{h.hex()}"


def parse_anchor(text: str) -> tuple[int, bytes]:
    """COUNT and HASH. ValueError: it is not written so."""
    match = _ANCHOR.fullmatch(text.strip())
    if match is None:
        raise ValueError("an anchor is COUNT:HASH, a number, a colon and 64 hex digits")
    return int(match[1]), bytes.fromhex(match[2])


def _signed(segment: int, entries: int, h: bytes, time_ns: int, next_key: bytes) -> bytes:
    return _CONTEXT + _SIGNED.pack(segment, entries, h, time_ns, next_key)
