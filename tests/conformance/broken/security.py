"""Level 4: signed instructions, and what exists."""

from __future__ import annotations

from asys.conformance import signing
from asys.conformance.signing import TagRules
from conformance.model import Node
from conformance.parts import (
    ABSENT,
    ALL,
    DENIED,
    INVALID,
    SIGNED_CODES,
    WRONG_LENGTH,
    Closing,
    Connection,
    Frame,
)


class ShortHashTag(Node):
    """BLAKE2b with 16 bytes of output."""

    caught_by = ("sign.tag",)
    named = "16 bytes of output"
    tag_rules = TagRules(short_hash=True)


class KeyedTag(Node):
    """Keyed BLAKE2b."""

    caught_by = ("sign.tag",)
    named = "keyed BLAKE2b"
    tag_rules = TagRules(keyed=True)


class TagWithoutHeader(Node):
    """The tag covers the data alone."""

    caught_by = ("sign.tag",)
    named = "header"
    tag_rules = TagRules(no_header=True)


class TagWithoutEpoch(Node):
    """The tag is not tied to the session by Epoch_ID."""

    caught_by = ("sign.tag",)
    named = "Epoch_ID"
    tag_rules = TagRules(no_epoch=True)


class TagWithoutSeq(Node):
    """The tag does not cover Seq."""

    caught_by = ("sign.tag",)
    named = "Seq"
    tag_rules = TagRules(no_seq=True)


class AcceptsAnyTag(Node):
    """Does not look at the tag."""

    caught_by = (
        "sign.wrong-tag",
        "sign.whole-tag",
        "sign.covers-header",
        "sign.covers-data",
        "sign.this-session",
        "order.tag-before-existence",
        "seal.wrong-tag",
    )

    def tag_is_right(self, one: Connection, frame: Frame) -> bool:
        return True


class GoesOnAfterWrongTag(Node):
    """6982, and stays open."""

    caught_by = (
        "sign.wrong-tag",
        "sign.whole-tag",
        "sign.covers-header",
        "sign.covers-data",
        "sign.this-session",
        "sign.short",
        "order.tag-before-existence",
        "seal.wrong-tag",
    )

    def wrong_tag(self, one: Connection, frame: Frame) -> bytes:
        return DENIED


class WrongTagIsAnotherWord(Node):
    """6985 for a wrong tag."""

    caught_by = GoesOnAfterWrongTag.caught_by

    def wrong_tag(self, one: Connection, frame: Frame) -> bytes:
        raise Closing(b"\x69\x85")


class ComparesFourBytes(Node):
    """The rest of the tag is not looked at."""

    caught_by = ("sign.whole-tag", "seal.wrong-tag")

    def tag_is_right(self, one: Connection, frame: Frame) -> bool:
        return signing.auth_tag(one.k, frame.head, frame.data)[:4] == frame.tag[:4]


class TagWithoutParameters(Node):
    """Takes a tag that was made for another P1 or P2."""

    caught_by = ("sign.covers-header",)

    def tag_is_right(self, one: Connection, frame: Frame) -> bool:
        cla, ins, p1, p2 = frame.head[:4]
        return any(
            signing.auth_tag(one.k, bytes((cla, ins, *wrong)) + frame.head[4:], frame.data)
            == frame.tag
            for wrong in ((p1, p2), (p1 ^ 1, p2), (p1, p2 ^ 1))
        )


class TagWithoutPayload(Node):
    """Takes a tag that was made for another payload."""

    caught_by = ("sign.covers-data",)

    def tag_is_right(self, one: Connection, frame: Frame) -> bool:
        wrong = frame.data[:-1] + bytes((frame.data[-1] ^ 1,))
        return super().tag_is_right(one, frame) or (
            len(frame.data) == 8 and signing.auth_tag(one.k, frame.head, wrong) == frame.tag
        )


class CoversLe(Node):
    """The tag covers Le too, as far as it is not 0."""

    caught_by = ("sign.le-not-covered",)

    def tag_is_right(self, one: Connection, frame: Frame) -> bool:
        return not any(frame.le) and super().tag_is_right(one, frame)


class AnySession(Node):
    """Takes a tag that was made with the key of another session."""

    caught_by = ("sign.this-session",)

    def tag_is_right(self, one: Connection, frame: Frame) -> bool:
        with self.lock:
            keys = [other.k for other in self.connections if other.k]
        return any(signing.auth_tag(key, frame.head, frame.data) == frame.tag for key in keys)


class ShortIsLength(Node):
    """6700 where there is no room for Seq."""

    caught_by = ("sign.short",)

    def check_tag(self, one: Connection, frame: Frame) -> bytes | None:
        if len(frame.data) < 4:
            raise Closing(WRONG_LENGTH)
        return super().check_tag(one, frame)


class ClosesAtReplay(Node):
    """As deployed nodes do, and speaks part B."""

    caught_by = ("sign.replay", "seal.one-seq")

    def old_seq(self, one: Connection) -> bytes:
        raise Closing(super().old_seq(one))


class AcceptsReplay(Node):
    """Does not look at Seq."""

    caught_by = (
        "sign.replay",
        "sign.seq-order",
        "sign.refused-uses-seq",
        "order.seq-before-existence",
        "seal.one-seq",
        "rekey.seq",
    )

    def seq_is_new(self, one: Connection, seq: int) -> bool:
        return True


class AcceptsOlder(Node):
    """Only the last Seq is refused."""

    caught_by = ("sign.seq-order",)

    def seq_is_new(self, one: Connection, seq: int) -> bool:
        return seq != one.last_seq or seq == 0


class OneByOne(Node):
    """Seq must be the next one."""

    caught_by = ("sign.seq-gaps", "sign.seq-order", "order.seq-before-existence")

    def seq_is_new(self, one: Connection, seq: int) -> bool:
        return seq == one.last_seq + 1


class RefusedKeepsSeq(Node):
    """A refused instruction does not use its Seq up."""

    caught_by = ("sign.refused-uses-seq",)

    def absent(self, one: Connection, frame: Frame) -> bytes:
        one.last_seq -= bool(frame.sec)
        return super().absent(one, frame)


class ExistenceFirst(Node):
    """Existence before the tag."""

    caught_by = (
        "order.tag-before-existence",
        "order.seq-before-existence",
        "sign.refused-uses-seq",
    )

    def check_tag(self, one: Connection, frame: Frame) -> bytes | None:
        if frame.sec == 1 and not self.exists(one, frame.ins):
            return ABSENT
        return super().check_tag(one, frame)


class ExistenceBeforeSeq(Node):
    """Existence between tag and Seq."""

    caught_by = ("order.seq-before-existence",)

    def old_seq(self, one: Connection) -> bytes:
        return ABSENT if one.last_seq == 7 else super().old_seq(one)


class LevelFirst(Node):
    """The level before existence."""

    caught_by = ("dark.unknown", "dark.not-granted", "dark.map")

    def absent(self, one: Connection, frame: Frame) -> bytes:
        if frame.ins in SIGNED_CODES and not frame.sec:
            return DENIED
        return super().absent(one, frame)


class TellsForbidden(Node):
    """6982 for what exists and is not granted."""

    caught_by = ("dark.not-granted", "agents.add", "agents.again")

    def absent(self, one: Connection, frame: Frame) -> bytes:
        return DENIED if frame.ins in ALL else super().absent(one, frame)


class MapPromises(Node):
    """A bit for what does not exist."""

    caught_by = ("dark.map",)

    def caps(self, words: bytes, page: int) -> bytes:
        return super().caps(words[:7] + bytes((words[7] | 8 * (page == 0),)), page)


class MapConceals(Node):
    """No bit for what can be used."""

    caught_by = ("dark.map",)

    def caps(self, words: bytes, page: int) -> bytes:
        return super().caps(words[:7] + bytes((words[7] & ~(2 * (page == 0)),)), page)


class AcceptsUnsigned(Node):
    """PROC_THROTTLE from who has not signed it."""

    caught_by = ("order.level",)

    def minimum(self, code: int) -> int:
        return 0 if code == 0x20 else super().minimum(code)


class LengthBeforeLevel(Node):
    """6700 for who has not signed, where the length is wrong."""

    caught_by = ("order.level",)

    def dispatch(self, one: Connection, frame: Frame, payload: bytes) -> bytes | None:
        if frame.ins == 0x20 and not frame.sec and not payload and self.exists(one, 0x20):
            return WRONG_LENGTH
        return super().dispatch(one, frame, payload)


class ParametersFirst(Node):
    """P1 before the length."""

    caught_by = ("order.length-before-parameters",)

    def do_20(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        return INVALID if frame.p1 > 1 else super().do_20(one, frame, payload)
