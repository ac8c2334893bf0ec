"""The handshake: Noise_IK_25519_ChaChaPoly_BLAKE2b, both roles (docs/protocol.md, section 1).

One pattern and one suite, so there is no negotiation and nothing to get wrong at run time. The
initiator is the agent, the responder the node; payloads are empty. The prologue is empty too; what
is no session of an agent, such as an audit's way to its collector, has one of its own, so that
neither can be passed on as the other.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from asys.errors import HandshakeError
from asys.protocol.keys import PrivateKey, Secret
from asys.protocol.limits import KEY_SIZE, MESSAGE_1_SIZE, MESSAGE_2_SIZE

PROTOCOL_NAME: Final = b"Noise_IK_25519_ChaChaPoly_BLAKE2b"


@dataclass(frozen=True, slots=True, repr=False)
class SessionKeys(Secret):
    """What both ends hold after the handshake.

    `agent_to_node` is K of the protocol; `handshake_hash` is 64 bytes, public, and the same on
    both ends.
    """

    agent_to_node: bytes
    node_to_agent: bytes
    handshake_hash: bytes

    def __repr__(self) -> str:
        return f"<SessionKeys of handshake {self.handshake_hash[:4].hex()}>"


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "blake2b")


def _hkdf(chaining_key: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """HKDF of the Noise specification over HMAC-BLAKE2b, two outputs of 64 bytes."""
    temporary = _hmac(chaining_key, secret)
    first = _hmac(temporary, b"\x01")
    return first, _hmac(temporary, first + b"\x02")


class _SymmetricState(Secret):
    """Chaining key, hash and handshake cipher (Noise specification, section 5.2)."""

    __slots__ = ("_chaining_key", "_cipher", "_nonce", "hash")

    _cipher: ChaCha20Poly1305  # unset until the first mix_key, which in IK precedes every use

    def __init__(self, prologue: bytes) -> None:
        self.hash = PROTOCOL_NAME.ljust(64, b"\0")  # a name of at most 64 bytes is padded
        self._chaining_key = self.hash
        self._nonce = 0
        self.mix_hash(prologue)

    def mix_hash(self, data: bytes) -> None:
        self.hash = blake2b(self.hash + data).digest()

    def mix_key(self, secret: bytes) -> None:
        self._chaining_key, key = _hkdf(self._chaining_key, secret)
        self._cipher = ChaCha20Poly1305(key[:KEY_SIZE])
        self._nonce = 0

    def _next_nonce(self) -> bytes:
        nonce = bytes(4) + self._nonce.to_bytes(8, "little")
        self._nonce += 1
        return nonce

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        ciphertext = self._cipher.encrypt(self._next_nonce(), plaintext, self.hash)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        try:
            plaintext = self._cipher.decrypt(self._next_nonce(), ciphertext, self.hash)
        except InvalidTag:
            raise HandshakeError("the peer's handshake message does not authenticate") from None
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> SessionKeys:
        first, second = _hkdf(self._chaining_key, b"")
        return SessionKeys(first[:KEY_SIZE], second[:KEY_SIZE], self.hash)


class Initiator(Secret):
    """The agent's side: `write_message_1`, then `read_message_2`. Each may be called once."""

    __slots__ = ("_ephemeral", "_remote", "_static", "_symmetric")

    def __init__(
        self,
        static: PrivateKey,
        remote: bytes,
        *,
        ephemeral: PrivateKey | None = None,
        prologue: bytes = b"",
    ) -> None:
        """`remote` is the node's static public key; `ephemeral` is for test vectors only."""
        self._static = static
        self._remote = remote
        self._ephemeral = ephemeral or PrivateKey.generate()
        self._symmetric = _SymmetricState(prologue)
        self._symmetric.mix_hash(remote)

    def write_message_1(self) -> bytes:
        """e, es, s, ss: 96 bytes. HandshakeError when the node's key is of low order."""
        symmetric = self._symmetric
        symmetric.mix_hash(self._ephemeral.public)
        symmetric.mix_key(self._ephemeral.exchange(self._remote))
        static = symmetric.encrypt_and_hash(self._static.public)
        symmetric.mix_key(self._static.exchange(self._remote))
        return self._ephemeral.public + static + symmetric.encrypt_and_hash(b"")

    def read_message_2(self, message: bytes) -> SessionKeys:
        """e, ee, se: 48 bytes. HandshakeError when it does not authenticate."""
        if len(message) != MESSAGE_2_SIZE:
            raise HandshakeError(f"message 2 has {len(message)} bytes, not {MESSAGE_2_SIZE}")
        symmetric = self._symmetric
        remote_ephemeral = message[:KEY_SIZE]
        symmetric.mix_hash(remote_ephemeral)
        symmetric.mix_key(self._ephemeral.exchange(remote_ephemeral))
        symmetric.mix_key(self._static.exchange(remote_ephemeral))
        symmetric.decrypt_and_hash(message[KEY_SIZE:])
        return symmetric.split()


class OtherKey(HandshakeError):
    """The agent's static key in message 1 does not decrypt with this key of the node."""


class Responder(Secret):
    """The node's side: `read_message_1`, then `write_message_2`. Each may be called once."""

    __slots__ = ("_ephemeral", "_remote_ephemeral", "_static", "_symmetric", "agent_key")

    def __init__(
        self,
        static: PrivateKey,
        *,
        ephemeral: PrivateKey | None = None,
        prologue: bytes = b"",
    ) -> None:
        """`ephemeral` is for test vectors only."""
        self._static: Final = static
        self._ephemeral = ephemeral
        self._remote_ephemeral = b""
        self._symmetric = _SymmetricState(prologue)
        self._symmetric.mix_hash(static.public)
        self.agent_key = b""

    def read_message_1(self, message: bytes) -> bytes:
        """e, es, s, ss: returns the agent's static public key, proven to be its own.

        HandshakeError when the message has not 96 bytes or does not authenticate; OtherKey when it
        was not made for this key of the node, or is not a message 1 at all.
        """
        if len(message) != MESSAGE_1_SIZE:
            raise HandshakeError(f"message 1 has {len(message)} bytes, not {MESSAGE_1_SIZE}")
        symmetric = self._symmetric
        self._remote_ephemeral = message[:KEY_SIZE]
        symmetric.mix_hash(self._remote_ephemeral)
        symmetric.mix_key(self._static.exchange(self._remote_ephemeral))
        try:
            agent_key = symmetric.decrypt_and_hash(message[KEY_SIZE : 2 * KEY_SIZE + 16])
        except HandshakeError as error:
            raise OtherKey(*error.args) from None
        symmetric.mix_key(self._static.exchange(agent_key))
        symmetric.decrypt_and_hash(message[2 * KEY_SIZE + 16 :])
        self.agent_key = agent_key
        return agent_key

    def write_message_2(self) -> tuple[bytes, SessionKeys]:
        """e, ee, se: the 48 bytes to send and the keys of the session."""
        symmetric = self._symmetric
        ephemeral = self._ephemeral or PrivateKey.generate()
        symmetric.mix_hash(ephemeral.public)
        symmetric.mix_key(ephemeral.exchange(self._remote_ephemeral))
        symmetric.mix_key(ephemeral.exchange(self.agent_key))
        message = ephemeral.public + symmetric.encrypt_and_hash(b"")
        return message, symmetric.split()


def answer_message_1(
    statics: Sequence[PrivateKey], message: bytes, *, prologue: bytes = b""
) -> tuple[Responder, PrivateKey]:
    """The responder that has read message 1, and which of a node's keys it was made for.

    The next key is tried only where the static key in the message does not decrypt: a message costs
    one DH for each key and one more at most. HandshakeError as Responder.read_message_1.
    """
    for static in statics[:-1]:
        responder = Responder(static, prologue=prologue)
        try:
            responder.read_message_1(message)
        except OtherKey:
            continue
        return responder, static
    responder = Responder(statics[-1], prologue=prologue)
    responder.read_message_1(message)
    return responder, statics[-1]
