"""Level 1: the link."""

from __future__ import annotations

import time
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from asys.conformance.handshake import MAGIC, Records, Rules, Unauthentic
from conformance.model import Node
from conformance.parts import DENIED, OK, TIMING, WRONG_LENGTH, Connection, Gone

LISTENING = replace(TIMING, quiet=2.0, magic=4.0, handshake=5.0)
UNASKED_SECONDS = 1.0
"""After so long without a word of the agent a node speaks that should not; half of LISTENING."""

SMALLEST_RECORD = 18
"""Bytes of an empty message on the wire."""

IMPATIENT = replace(TIMING, timeout=3.0)
"""For nodes that leave the kit waiting."""


class SpeaksFirst(Node):
    """Names itself to who says nothing."""

    caught_by = ("link.silent-first",)
    up_to, timing, deadlines = 1, LISTENING, LISTENING

    def read_magic(self, one: Connection) -> None:
        try:
            first = one.read(time.monotonic() + UNASKED_SECONDS, 1)
        except Gone:
            one.send(b"asyd 0.3.1\r\n")
            raise
        if first + one.read_exactly(3, one.began + self.deadlines.magic) != MAGIC:
            raise Gone


class AnswersAnyMagic(Node):
    """Does not look at the magic."""

    caught_by = ("link.wrong-magic",)

    def wrong_magic(self, one: Connection) -> None:
        return


class WantsMagicAtOnce(Node):
    """Takes a segment for a message."""

    caught_by = ("link.magic-in-pieces", "link.magic-deadline")

    def read_magic(self, one: Connection) -> None:
        if one.read(one.began + self.deadlines.magic, 4) != MAGIC:
            raise Gone


class WrongMagicBack(Node):
    """Another magic in its own frame."""

    caught_by = ("link.pre-handshake-frame",)

    def pre_handshake_frame(self) -> bytes:
        return b"ASYD" + super().pre_handshake_frame()[4:]


class LittleEndianVersion(Node):
    """00 01 for version 1.0."""

    caught_by = ("link.version", "caps.version")

    def version(self) -> bytes:
        return b"\x00\x01"


class NewKeyEachTime(Node):
    """Has no key of its own."""

    caught_by = ("link.static-key", "link.message-2")

    def pre_handshake_frame(self) -> bytes:
        self.private = X25519PrivateKey.generate()
        return super().pre_handshake_frame()


class KeyedHkdf(Node):
    """Keyed BLAKE2b in the place of HMAC."""

    caught_by = ("link.message-2",)
    named = "keyed BLAKE2b"
    rules = Rules(keyed_hkdf=True)


class ShortChainingKey(Node):
    """32 bytes of chaining key."""

    caught_by = ("link.message-2",)
    named = "chaining key"
    rules = Rules(short_chaining_key=True)


class NoPrologue(Node):
    """Does not mix in a prologue that is empty."""

    caught_by = ("link.message-2",)
    named = "prologue"
    rules = Rules(no_prologue=True)


class StaticSe(Node):
    """`se` made of the node's static key."""

    caught_by = ("link.message-2",)
    named = "`se`"
    rules = Rules(static_se=True)


class PrefixedMessage2(Node):
    """A length in front of message 2."""

    caught_by = ("link.message-2",)

    def message_2(self, message: bytes) -> bytes:
        return len(message).to_bytes(2, "big") + message


class SwappedSplit(Node):
    """Seals with the agent's key."""

    caught_by = ("link.records",)
    named = "Split"
    rules = Rules(swapped_split=True)


class LittleEndianPrefix(Node):
    """The length of a record the wrong way round."""

    caught_by = ("link.records",)
    named = "length of a record is little-endian"
    rules = Rules(little_endian_prefix=True)
    timing = IMPATIENT


class PrefixWithoutTag(Node):
    """The length of a record without its tag."""

    caught_by = ("link.records",)
    named = "does not count its tag"
    rules = Rules(prefix_without_tag=True)
    timing = IMPATIENT


class BigEndianCounter(Node):
    """The first record is right."""

    caught_by = ("link.counters",)
    named = "big-endian"
    rules = Rules(big_endian_nonce=True)


class _ByteRecords(Records):
    def _nonce(self, counter: int) -> bytes:
        return super()._nonce(counter & 0xFF)


class ByteCounter(Node):
    """Counts records in one byte."""

    caught_by = ("link.counters",)

    def shake_hands(self, one: Connection) -> None:
        super().shake_hands(one)
        one.records = _ByteRecords(one.records.send_key, one.records.receive_key)


class SameEphemeral(Node):
    """One ephemeral key for all."""

    caught_by = ("link.fresh-ephemeral",)

    def __init__(self) -> None:
        super().__init__()
        self._ephemeral = X25519PrivateKey.generate()

    def ephemeral(self) -> X25519PrivateKey:
        return self._ephemeral


class GreetsAgents(Node):
    """Success for who has asked nothing."""

    caught_by = ("link.silent-until-asked",)
    up_to, timing, deadlines = 1, LISTENING, LISTENING

    def messages(self, one: Connection, due: float) -> list[bytes]:
        if one.fresh:
            try:
                return one.records.feed(one.read(time.monotonic() + UNASKED_SECONDS))
            except Gone:
                one.say(OK)
        return super().messages(one, due)


class WantsWholeRecords(Node):
    """Takes a segment for a record."""

    caught_by = ("link.record-in-pieces",)

    def messages(self, one: Connection, due: float) -> list[bytes]:
        data = one.read(due)
        if len(data) < SMALLEST_RECORD:
            raise Gone
        return one.records.feed(data)


class IgnoresBadRecords(Node):
    """Waits for a better one."""

    caught_by = ("link.bad-record", "link.short-record")
    timing = IMPATIENT

    def messages(self, one: Connection, due: float) -> list[bytes]:
        try:
            return super().messages(one, due)
        except Unauthentic:
            return []


class AnswersShortRecords(Node):
    """Says what is wrong with them."""

    caught_by = ("link.short-record",)

    def messages(self, one: Connection, due: float) -> list[bytes]:
        data = one.read(due)
        if data[:2] in (b"\0\0", b"\0\x0f"):
            one.say(WRONG_LENGTH)
            raise Gone
        return one.records.feed(data)


class AnswersBadHandshakes(Node):
    """Sends a message 2 to everybody."""

    caught_by = ("link.bad-message-1", "link.low-order")

    def shake_hands(self, one: Connection) -> None:
        try:
            super().shake_hands(one)
        except Unauthentic:
            one.send(bytes(48))
            raise


class TakesLowOrder(Node):
    """Does not look at the result of X25519."""

    caught_by = ("link.low-order",)

    def exchange(self, private: X25519PrivateKey, peer: bytes) -> bytes:
        try:
            return super().exchange(private, peer)
        except Unauthentic:
            return bytes(32)


class NoMagicDeadline(Node):
    """Waits for a magic for ever."""

    caught_by = ("link.magic-deadline",)
    up_to, deadlines = 1, replace(TIMING, magic=60.0)


class NoHandshakeDeadline(Node):
    """Waits for message 1 for ever."""

    caught_by = ("link.handshake-deadline",)
    up_to, deadlines = 1, replace(TIMING, handshake=60.0)


class EarlyHandshakeDeadline(Node):
    """Closes before its time."""

    caught_by = ("link.handshake-deadline",)
    up_to, timing, deadlines = 1, replace(TIMING, handshake=4.0), replace(TIMING, handshake=2.0)


class NoFrameDeadline(Node):
    """Keeps half a frame for ever."""

    caught_by = ("frame.deadline",)
    up_to, slow = 2, True
    timing, deadlines = replace(TIMING, idle=12.0), replace(TIMING, frame=60.0, idle=12.0)


class NoIdleDeadline(Node):
    """Keeps who says nothing for ever."""

    caught_by = ("frame.idle-deadline",)
    up_to, slow, timing, deadlines = 2, True, replace(TIMING, idle=1.0), replace(TIMING, idle=60.0)


class SilentToStrangers(Node):
    """Closes without a word."""

    caught_by = ("session.unknown-agent", "agents.remove")

    def refuse_stranger(self, one: Connection) -> None:
        return


class KeepsStrangers(Node):
    """Says 6982 and goes on listening."""

    caught_by = ("session.unknown-agent",)
    timing = IMPATIENT

    def refuse_stranger(self, one: Connection) -> None:
        one.say(DENIED)
        one.read(time.monotonic() + 60)
