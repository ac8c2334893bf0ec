"""The PyPI library `noiseprotocol` in either role: Noise code that shares nothing with ours.

It is given private keys as bytes and never sees a class of `asys`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, cast

from cryptography.exceptions import InvalidTag
from noise.connection import Keypair, NoiseConnection
from noise.exceptions import NoiseInvalidMessage

NAME = b"Noise_IK_25519_ChaChaPoly_BLAKE2b"


class Refused(Exception):
    """What the peer sent does not authenticate."""


@dataclass
class Oracle:
    """One end of a connection; handshake messages have empty payloads."""

    connection: Any

    @classmethod
    def agent(
        cls, static: bytes, node_public: bytes, *, ephemeral: bytes = b"", prologue: bytes = b""
    ) -> Oracle:
        """The initiator."""
        connection = NoiseConnection.from_name(NAME)
        connection.set_as_initiator()
        connection.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, node_public)
        return cls(connection)._start(static, ephemeral, prologue)

    @classmethod
    def node(cls, static: bytes, *, ephemeral: bytes = b"", prologue: bytes = b"") -> Oracle:
        """The responder."""
        connection = NoiseConnection.from_name(NAME)
        connection.set_as_responder()
        return cls(connection)._start(static, ephemeral, prologue)

    def _start(self, static: bytes, ephemeral: bytes, prologue: bytes) -> Oracle:
        self.connection.set_keypair_from_private_bytes(Keypair.STATIC, static)
        if ephemeral:
            self.connection.set_keypair_from_private_bytes(Keypair.EPHEMERAL, ephemeral)
        self.connection.set_prologue(prologue)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "One of ephemeral keypairs is already set")
            self.connection.start_handshake()
        return self

    def write(self) -> bytes:
        """The next handshake message."""
        return bytes(self.connection.write_message(b""))

    def read(self, message: bytes) -> None:
        """Takes the peer's handshake message. Refused when it does not authenticate."""
        try:
            payload = self.connection.read_message(message)
        except InvalidTag:
            raise Refused from None
        assert bytes(payload) == b""

    @property
    def remote_static(self) -> bytes:
        """The peer's static public key; known before the handshake is over."""
        return cast(bytes, self.connection.noise_protocol.handshake_state.rs.public_bytes)

    @property
    def handshake_hash(self) -> bytes:
        """64 bytes, once the handshake is over."""
        return bytes(self.connection.get_handshake_hash())

    @property
    def send_key(self) -> bytes:
        """What this end seals with."""
        return cast(bytes, self.connection.noise_protocol.cipher_state_encrypt.k)

    @property
    def receive_key(self) -> bytes:
        """What this end opens with."""
        return cast(bytes, self.connection.noise_protocol.cipher_state_decrypt.k)

    def record(self, message: bytes) -> bytes:
        """`message` sealed, with its length in front."""
        ciphertext = bytes(self.connection.encrypt(message))
        return len(ciphertext).to_bytes(2, "big") + ciphertext

    def open(self, record: bytes) -> bytes:
        """The message in one record. Refused when it does not authenticate."""
        assert int.from_bytes(record[:2], "big") == len(record) - 2
        try:
            return bytes(self.connection.decrypt(record[2:]))
        except NoiseInvalidMessage:
            raise Refused from None
