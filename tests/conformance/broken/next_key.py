"""Level 6: a node with a next key."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from conformance.model import Node
from conformance.parts import OK, Connection, Frame, public


class OtherContext(Node):
    """Signs for another purpose."""

    caught_by = ("next-key.statement",)
    context = b"asys-rotate-v1"


class UnsignedDates(Node):
    """Signs the keys alone."""

    caught_by = ("next-key.statement",)

    def do_15(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        said = super().do_15(one, frame, payload)
        if len(said) < 72:
            return said
        return said[:72] + self.signer.sign(self.context + said[:64]) + OK


class StatedByNext(Node):
    """The statement begins with the next key."""

    caught_by = ("next-key.statement", "next-key.session")

    def do_15(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        said = super().do_15(one, frame, payload)
        return said if len(said) < 72 else said[32:64] + said[:32] + said[64:]


class LongStatementRequest(Node):
    """Ignores a payload."""

    caught_by = ("next-key.payload",)

    def do_15(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        return super().do_15(one, frame, b"")


class OldKeyAlone(Node):
    """Has a statement, and does not take message 1 for the key in it."""

    caught_by = ("next-key.session",)

    def meant(self, message_1: bytes) -> X25519PrivateKey:
        return self.private


class SameKey(Node):
    """States itself."""

    caught_by = ("next-key.statement",)

    def do_15(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        said = super().do_15(one, frame, payload)
        if len(said) < 72:
            return said
        said = public(self.private) * 2 + said[64:72]
        return said + self.signer.sign(self.context + said) + OK
