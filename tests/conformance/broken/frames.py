"""Level 2: frames."""

from __future__ import annotations

from dataclasses import replace

from conformance.model import Node
from conformance.parts import ABSENT, TIMING, WRONG_CLASS, WRONG_LENGTH, Closing, Connection, Frame

IMPATIENT = replace(TIMING, timeout=3.0)


class CutsByLe(Node):
    """Takes Le for what the agent wants."""

    caught_by = ("frame.le",)

    def reply(self, one: Connection, frame: Frame, answer: bytes) -> None:
        if frame.le[-1]:
            answer = answer[:-2][: frame.le[-1]] + answer[-2:]
        super().reply(one, frame, answer)


class RefusesShortExtended(Node):
    """Extended only where it must be."""

    caught_by = ("frame.extended",)

    def fault(self, stream: bytes) -> bytes | None:
        if stream and stream[0] == 2 and len(stream) >= 7 and self.extended_length(stream) < 256:
            return WRONG_LENGTH
        return super().fault(stream)


class OneByteLate(Node):
    """Waits for a byte more than an extended frame has."""

    caught_by = (
        "frame.extended",
        "frame.extended-length",
        "frame.largest",
        "extended.signed",
        "seal.extended",
        "vendor.short",
    )
    timing = IMPATIENT

    def frame_size(self, stream: bytes) -> int:
        size = super().frame_size(stream)
        return size + 1 if size and stream[0] & 2 else size


class LittleEndianLength(Node):
    """Lc of an extended frame the wrong way round."""

    caught_by = (
        "frame.extended-length",
        "frame.largest",
        "frame.too-long",
        "extended.signed",
        "seal.extended",
        "vendor.short",
    )
    timing = IMPATIENT

    def extended_length(self, stream: bytes) -> int:
        return int.from_bytes(stream[5:7], "little")


class SmallFrames(Node):
    """Has a limit of its own."""

    caught_by = ("frame.largest",)

    def fault(self, stream: bytes) -> bytes | None:
        if stream and stream[0] & 2 and len(stream) >= 7 and self.extended_length(stream) > 32768:
            return WRONG_LENGTH
        return super().fault(stream)


class MessageIsFrame(Node):
    """A message that is not a whole frame is malformed."""

    caught_by = ("frame.in-parts", "frame.lc-beyond")

    def take(self, one: Connection, message: bytes, batch: list[bytes]) -> int:
        answered = super().take(one, message, batch)
        if one.stream:
            raise Closing(WRONG_LENGTH)
        return answered


class RefusesLcBeyond(Node):
    """Takes an Lc beyond the message for a fault."""

    caught_by = ("frame.lc-beyond",)

    def fault(self, stream: bytes) -> bytes | None:
        if len(stream) > 5 and not stream[0] & 2 and len(stream) < 5 + stream[4]:
            return WRONG_LENGTH
        return super().fault(stream)


class DropsBehind(Node):
    """One frame a message; what is behind it is lost."""

    caught_by = ("frame.several", "rekey.followed")
    timing = IMPATIENT

    def cut(self, one: Connection) -> Frame | None:
        frame = super().cut(one)
        if frame is not None:
            one.stream = b""
        return frame


class ClosesOnEmpty(Node):
    """Takes an empty message for the end."""

    caught_by = ("frame.empty-message",)

    def take(self, one: Connection, message: bytes, batch: list[bytes]) -> int:
        if not message:
            raise Closing
        return super().take(one, message, batch)


class LastComeFirst(Node):
    """Answers what has come together in the wrong order."""

    caught_by = ("frame.order", "session.finish", "restart.once")
    RESTART_SECONDS = 3.0

    def messages(self, one: Connection, due: float) -> list[bytes]:
        return super().messages(one, due)[::-1]


class VersionIsLength(Node):
    """6700 for another version."""

    caught_by = ("frame.version-bits", "frame.earlier-first")

    def fault(self, stream: bytes) -> bytes | None:
        fault = super().fault(stream)
        return WRONG_LENGTH if fault == WRONG_CLASS and stream[0] & 0xE0 else fault


class GoesOnAfterFaults(Node):
    """Answers what is malformed, and stays open."""

    caught_by = (
        "frame.version-bits",
        "frame.reserved-bit",
        "frame.reserved-sec",
        "frame.placeholder",
        "frame.too-long",
        "frame.earlier-first",
    )

    def malformed(self, one: Connection, fault: bytes) -> None:
        one.stream = b""
        one.say(fault)


class IgnoresReservedBit(Node):
    """Does not look at bit 0 of CLA."""

    caught_by = ("frame.reserved-bit",)

    def fault(self, stream: bytes) -> bytes | None:
        return super().fault(bytes((stream[0] & 0xFE,)) + stream[1:]) if stream else None


class SecElevenIsSigned(Node):
    """As deployed nodes do, and speaks part B."""

    caught_by = ("frame.reserved-sec",)

    def fault(self, stream: bytes) -> bytes | None:
        if stream and stream[0] == 0x0C:
            return None
        return super().fault(stream)

    def unseal(self, one: Connection, frame: Frame) -> bytes:
        return frame.data[4:] if frame.sec == 3 else super().unseal(one, frame)


class IgnoresPlaceholder(Node):
    """Does not look at byte 4 of an extended frame."""

    caught_by = ("frame.placeholder",)
    timing = IMPATIENT

    def fault(self, stream: bytes) -> bytes | None:
        return super().fault(stream[:4] + b"\0" + stream[5:] if len(stream) > 4 else stream)


class TakesTooLong(Node):
    """Has no limit."""

    caught_by = ("frame.too-long",)
    timing = IMPATIENT

    def fault(self, stream: bytes) -> bytes | None:
        return super().fault(stream[:5] + b"\0\0" if len(stream) > 6 else stream)


class MalformedFirst(Node):
    """Looks at all that has come before it answers any of it."""

    caught_by = ("frame.earlier-first",)

    def messages(self, one: Connection, due: float) -> list[bytes]:
        return sorted(super().messages(one, due), key=lambda one_: self.fault(one_) is None)


class ClosesOnUnknown(Node):
    """Ends the session of who asks for what does not exist."""

    caught_by = (
        "frame.unknown-code",
        "dark.unknown",
        "dark.not-granted",
        "dark.map",
        "sign.refused-uses-seq",
        "agents.again",
    )

    def absent(self, one: Connection, frame: Frame) -> bytes:
        raise Closing(ABSENT)
