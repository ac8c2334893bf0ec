"""Level 6: Enc+Sign."""

from __future__ import annotations

from cryptography.exceptions import InvalidTag

from asys.conformance import signing
from asys.conformance.signing import TagRules
from conformance.model import Node
from conformance.parts import DENIED, INVALID, WRONG_LENGTH, Closing, Connection, Frame


class EmptyAd(Node):
    """AD is empty."""

    caught_by = ("seal.payload",)
    named = "AD is empty"
    seal_rules = TagRules(plain_ad=True)


class ChannelKey(Node):
    """Sealed with K."""

    caught_by = ("seal.payload",)
    named = "K_enc"
    seal_rules = TagRules(channel_key=True)


class BigEndianSeq(Node):
    """The nonce the wrong way round."""

    caught_by = ("seal.payload",)
    named = "big-endian"
    seal_rules = TagRules(big_endian_nonce=True)


class ShortAd(Node):
    """AD has 5 bytes of header, also of an extended frame."""

    caught_by = ("seal.extended",)

    def unseal(self, one: Connection, frame: Frame) -> bytes:
        seq = int.from_bytes(frame.data[:4], "big")
        try:
            return signing.unsealed(one.k, frame.head[:5], seq, frame.data[4:])
        except InvalidTag:
            raise Closing(DENIED) from None


class SealedNeedsNoTag(Node):
    """Trusts C alone."""

    caught_by = ("seal.wrong-tag",)

    def tag_is_right(self, one: Connection, frame: Frame) -> bool:
        return frame.sec == 2 or super().tag_is_right(one, frame)


class UnopenedIsInvalid(Node):
    """6A80 for a C that does not open."""

    caught_by = ("seal.wrong-ciphertext", "seal.short", "seal.bound-to-header")

    def judge(self, one: Connection, frame: Frame) -> bytes | None:
        try:
            return super().judge(one, frame)
        except Closing as end:
            if frame.sec == 2 and end.answer == DENIED and self.tag_is_right(one, frame):
                return INVALID
            raise


class ShortIsLength(Node):
    """6700 for a C without room for its tag."""

    caught_by = ("seal.short",)

    def unseal(self, one: Connection, frame: Frame) -> bytes:
        if len(frame.data) < 20:
            raise Closing(WRONG_LENGTH)
        return super().unseal(one, frame)


class AnyInstruction(Node):
    """C may be moved to another instruction."""

    caught_by = ("seal.bound-to-header",)

    def unseal(self, one: Connection, frame: Frame) -> bytes:
        try:
            return super().unseal(one, frame)
        except Closing:
            seq = int.from_bytes(frame.data[:4], "big")
            head = bytes((frame.cla, 0x90)) + frame.head[2:]
            try:
                return signing.unsealed(one.k, head, seq, frame.data[4:])
            except InvalidTag:
                raise Closing(DENIED) from None


class TwoSeqs(Node):
    """Signed and Enc+Sign count apart."""

    caught_by = ("seal.one-seq",)

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[Connection, int], int] = {}

    def check_tag(self, one: Connection, frame: Frame) -> bytes | None:
        key = (one, frame.sec)
        one.last_seq = self._last.get(key, 0)
        refused = super().check_tag(one, frame)
        self._last[key] = one.last_seq
        return refused


class OpensBeforeSeq(Node):
    """C is opened before Seq is looked at."""

    caught_by = ("seal.one-seq",)

    def check_tag(self, one: Connection, frame: Frame) -> bytes | None:
        if frame.sec == 2 and len(frame.data) >= 20 and self.tag_is_right(one, frame):
            self.unseal(one, frame)
        return super().check_tag(one, frame)


class SealedUnknown(Node):
    """6982 for a code that does not exist, Enc+Sign."""

    caught_by = ("seal.unknown-code",)

    def absent(self, one: Connection, frame: Frame) -> bytes:
        return DENIED if frame.sec == 2 else super().absent(one, frame)


class SignedIsEnough(Node):
    """AGENT_LIST needs no encryption."""

    caught_by = ("seal.level",)

    def minimum(self, code: int) -> int:
        return 1 if code == 0x62 else super().minimum(code)


class ShortHeader(Node):
    """The tag covers 5 bytes of an extended header."""

    caught_by = ("extended.signed", "seal.extended", "vendor.short")
    named = "5 bytes of the header"
    tag_rules = TagRules(short_header=True)
