"""An agent that a case adds for itself, with a new random key, and that is removed behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from asys.conformance.expect import succeeds
from asys.conformance.frames import AGENT_ADD, AGENT_REMOVE, u32
from asys.conformance.probe import Probe

LABEL = b"asys-conformance"

TTL_SECONDS = 120
"""Should the removal fail, it ends by itself."""


@dataclass(frozen=True, slots=True)
class Delegate:
    """Its keys. The private one is random, whatever the seed: else anybody could be it."""

    private: bytes = field(
        default_factory=lambda: X25519PrivateKey.generate().private_bytes_raw(), repr=False
    )

    @property
    def public(self) -> bytes:
        """32 bytes."""
        return X25519PrivateKey.from_private_bytes(self.private).public_key().public_bytes_raw()


def key_hash(public: bytes) -> bytes:
    """What AGENT_ADD answers and AGENT_LIST names parents by."""
    return blake2b(public).digest()[:4]


def wire_map(*codes: int) -> bytes:
    """A capability map of 32 bytes (docs/protocol.md, section 4.2)."""
    lit = bytearray(32)
    for code in codes:
        lit[4 * (code // 32) + 3 - (code % 32) // 8] |= 1 << code % 8
    return bytes(lit)


def addition(public: bytes, caps: bytes, ttl: int = TTL_SECONDS, label: bytes = LABEL) -> bytes:
    """The payload of AGENT_ADD."""
    return public + caps + u32(ttl) + bytes((len(label),)) + label


@contextmanager
def delegate(probe: Probe, *codes: int) -> Iterator[Delegate]:
    """An added agent with these codes, while the block is entered."""
    one = Delegate()
    agent = probe.session()
    answer = agent.ask(agent.sealed(AGENT_ADD, addition(one.public, wire_map(*codes))))
    succeeds(answer, 4, "AGENT_ADD", flags=True)
    try:
        yield one
    finally:
        agent.say(agent.sealed(AGENT_REMOVE, one.public))
        agent.answer()
