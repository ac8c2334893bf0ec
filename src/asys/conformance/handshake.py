"""The handshake and the record keys, written from docs/protocol.md and RFCs alone.

It shares no code with `asys.protocol`: what both get wrong in the same way would not be seen. It
can also make the mistakes that implementations make (`MISTAKES`), so that a failed handshake can
be named: when a node understands an agent that makes one, that is the mistake of the node.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

NAME: Final = b"Noise_IK_25519_ChaChaPoly_BLAKE2b"
MAGIC: Final = b"ASYS"
PRE_HANDSHAKE_SIZE: Final = 38
MESSAGE_1_SIZE: Final = 96
MESSAGE_2_SIZE: Final = 48


@dataclass(frozen=True, slots=True)
class Rules:
    """How an end computes. The defaults are right; each other value is a mistake."""

    keyed_hkdf: bool = False
    short_chaining_key: bool = False
    no_prologue: bool = False
    static_se: bool = False
    swapped_split: bool = False
    big_endian_nonce: bool = False
    little_endian_prefix: bool = False
    prefix_without_tag: bool = False


RIGHT: Final = Rules()

MISTAKES: Final[Mapping[str, Rules]] = {
    "HKDF is made of keyed BLAKE2b and not of HMAC-BLAKE2b": Rules(keyed_hkdf=True),
    "the chaining key is cut to 32 bytes": Rules(short_chaining_key=True),
    "the empty prologue is not mixed into the hash": Rules(no_prologue=True),
    "`se` is made of the wrong pair of keys": Rules(static_se=True),
    "the two keys of Split are swapped": Rules(swapped_split=True),
    "the counter in a record's nonce is big-endian": Rules(big_endian_nonce=True),
    "the length of a record is little-endian": Rules(little_endian_prefix=True),
    "the length of a record does not count its tag": Rules(prefix_without_tag=True),
}


class Unauthentic(Exception):
    """What the peer sent does not authenticate."""


def exchange(private: X25519PrivateKey, public: bytes) -> bytes:
    """X25519, as a careless implementation has it: all zero for a key of low order."""
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        return bytes(32)


class Symmetric:
    """Chaining key, hash and handshake cipher, by some rules."""

    def __init__(self, rules: Rules) -> None:
        self.rules: Final = rules
        self.hash = self._chaining_key = NAME.ljust(64, b"\0")
        self._key = b""
        if not rules.no_prologue:
            self.mix_hash(b"")

    def mix_hash(self, data: bytes) -> None:
        """h = BLAKE2b(h || data)."""
        self.hash = blake2b(self.hash + data).digest()

    def mix_key(self, secret: bytes) -> None:
        """A new chaining key and a new cipher key."""
        first, second = self._hkdf(secret)
        self._chaining_key = first[:32] if self.rules.short_chaining_key else first
        self._key = second[:32]

    def seal(self, plaintext: bytes) -> bytes:
        """EncryptAndHash. Each key is used once, so the nonce is always 0."""
        ciphertext = ChaCha20Poly1305(self._key).encrypt(bytes(12), plaintext, self.hash)
        self.mix_hash(ciphertext)
        return ciphertext

    def open(self, ciphertext: bytes) -> bytes:
        """DecryptAndHash. Unauthentic."""
        try:
            plaintext = ChaCha20Poly1305(self._key).decrypt(bytes(12), ciphertext, self.hash)
        except InvalidTag:
            raise Unauthentic from None
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """The key from agent to node, and the one from node to agent."""
        first, second = (one[:32] for one in self._hkdf(b""))
        return (second, first) if self.rules.swapped_split else (first, second)

    def _hkdf(self, secret: bytes) -> tuple[bytes, bytes]:
        mac = _keyed if self.rules.keyed_hkdf else _hmac
        temporary = mac(self._chaining_key, secret)
        first = mac(temporary, b"\x01")
        return first, mac(temporary, first + b"\x02")


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "blake2b")


def _keyed(key: bytes, data: bytes) -> bytes:
    return blake2b(data, key=key[:64]).digest()


class AgentHandshake:
    """The agent's side. `ephemeral_public` may be another one than the agent has."""

    def __init__(
        self,
        static: bytes,
        node_key: bytes,
        rules: Rules = RIGHT,
        *,
        ephemeral_public: bytes | None = None,
    ) -> None:
        """`static` is the agent's private key, `node_key` the node's public one, 32 bytes each."""
        self._static = X25519PrivateKey.from_private_bytes(static)
        self._ephemeral = X25519PrivateKey.generate()
        self._shown = (
            self._ephemeral.public_key().public_bytes_raw()
            if ephemeral_public is None
            else ephemeral_public
        )
        self._node_key = node_key
        self._symmetric = Symmetric(rules)

    def message_1(self) -> bytes:
        """e, es, s, ss: 96 bytes."""
        state = self._symmetric
        state.mix_hash(self._node_key)
        state.mix_hash(self._shown)
        state.mix_key(exchange(self._ephemeral, self._node_key) if self._is_ours() else bytes(32))
        sealed = state.seal(self._static.public_key().public_bytes_raw())
        state.mix_key(exchange(self._static, self._node_key))
        return self._shown + sealed + state.seal(b"")

    def read_message_2(self, message: bytes) -> tuple[bytes, bytes]:
        """e, ee, se: the key from agent to node, and the one back. Unauthentic."""
        state = self._symmetric
        remote = message[:32]
        state.mix_hash(remote)
        state.mix_key(exchange(self._ephemeral, remote))
        if state.rules.static_se:
            state.mix_key(exchange(self._ephemeral, self._node_key))
        else:
            state.mix_key(exchange(self._static, remote))
        if state.open(message[32:]):
            raise Unauthentic
        return state.split()

    def _is_ours(self) -> bool:
        """Whether the ephemeral key that is shown is the agent's. If not, it is of low order."""
        return self._shown == self._ephemeral.public_key().public_bytes_raw()


class Records:
    """Messages to records and back, with a key and a counter in each direction."""

    def __init__(self, send_key: bytes, receive_key: bytes, rules: Rules = RIGHT) -> None:
        """Keys have 32 bytes."""
        self.send_key = send_key
        self.receive_key = receive_key
        self.sent = self.received = 0
        self._rules = rules
        self._buffer = b""

    def seal(self, message: bytes) -> bytes:
        """The next record."""
        nonce = self._nonce(self.sent)
        self.sent += 1
        ciphertext = ChaCha20Poly1305(self.send_key).encrypt(nonce, message, None)
        return self._prefix(len(ciphertext)) + ciphertext

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole now. Unauthentic: one does not open, or cannot be one."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= 2:
            size = self._size(self._buffer[:2])
            if size < 16:
                raise Unauthentic
            if len(self._buffer) < 2 + size:
                break
            ciphertext, self._buffer = self._buffer[2 : 2 + size], self._buffer[2 + size :]
            try:
                messages.append(
                    ChaCha20Poly1305(self.receive_key).decrypt(
                        self._nonce(self.received), ciphertext, None
                    )
                )
            except InvalidTag:
                raise Unauthentic from None
            self.received += 1
        return messages

    def rekey(self) -> None:
        """New keys in both directions; the counters go on."""
        self.send_key, self.receive_key = next_key(self.send_key), next_key(self.receive_key)

    def _nonce(self, counter: int) -> bytes:
        return bytes(4) + counter.to_bytes(8, "big" if self._rules.big_endian_nonce else "little")

    def _prefix(self, size: int) -> bytes:
        if self._rules.prefix_without_tag:
            size -= 16
        return size.to_bytes(2, "little" if self._rules.little_endian_prefix else "big")

    def _size(self, prefix: bytes) -> int:
        size = int.from_bytes(prefix, "little" if self._rules.little_endian_prefix else "big")
        return size + 16 if self._rules.prefix_without_tag else size


def next_key(key: bytes) -> bytes:
    """REKEY of the Noise specification."""
    return ChaCha20Poly1305(key).encrypt(bytes(4) + b"\xff" * 8, bytes(32), None)[:32]
