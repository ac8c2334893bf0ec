"""Level 6: pages, REKEY, ABANDON, and what concerns whole sessions."""

from __future__ import annotations

import socket

from conformance.broken.core import swapped, with_byte
from conformance.model import Node
from conformance.parts import OK, WRONG_LENGTH, Closing, Connection, Frame, Gone


class NoEcho(Node):
    """Does not say which page it shows, and yet lights what is part B."""

    caught_by = ("caps.page-echo", "dark.map")

    def caps(self, words: bytes, page: int) -> bytes:
        return super().caps(words, 0)


class WrongEcho(Node):
    """Says 2 for page 3."""

    caught_by = ("caps.pages",)

    def caps(self, words: bytes, page: int) -> bytes:
        return super().caps(words, min(page, 2))


class ChangingPages(Node):
    """Another size of memory on page 2."""

    caught_by = ("caps.pages",)

    def caps(self, words: bytes, page: int) -> bytes:
        caps = super().caps(words, page)
        return with_byte(caps, 21, 0) if page == 2 else caps


class AnyPage(Node):
    """Cuts P1 to two bits."""

    caught_by = ("caps.page-range",)

    def do_00(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        return (
            self.caps(bytes(8), frame.p1 & 3) + OK
            if frame.p1 > 3
            else super().do_00(one, frame, payload)
        )


class FlagInOnePlace(Node):
    """Bit 7 of byte 33 without a flag."""

    caught_by = ("caps.flags",)

    def caps(self, words: bytes, page: int) -> bytes:
        return with_byte(super().caps(words, page), 33, page | 0x80)


class TouchesInit(Node):
    """Takes PID 1 for a process like others."""

    caught_by = ("target.init",)

    def do_20(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        known = payload == (1).to_bytes(4, "big") and frame.p1 < 2
        return OK if known else super().do_20(one, frame, payload)


class DropsAtEnd(Node):
    """The end of stream comes before the requests in front of it."""

    caught_by = ("session.finish",)

    def messages(self, one: Connection, due: float) -> list[bytes]:
        messages = super().messages(one, due)
        if len(messages) == 2:
            one.socket.settimeout(1.0)
            try:
                if not one.socket.recv(1, socket.MSG_PEEK):
                    raise Gone
            except TimeoutError:
                pass
        return messages


class TakesReplays(Node):
    """Does not remember handshakes."""

    caught_by = ("session.replayed",)

    def replayed(self, message_1: bytes) -> bool:
        return False


class KeepsKeys(Node):
    """Success for REKEY, and the old keys."""

    caught_by = ("rekey.keys", "rekey.tag", "rekey.seq")

    def rekey(self, one: Connection) -> None:
        return


class CountsFromZero(Node):
    """New keys, and new counters."""

    caught_by = ("rekey.keys", "rekey.tag", "rekey.seq")

    def rekey(self, one: Connection) -> None:
        super().rekey(one)
        one.records.sent = one.records.received = 0


class KeepsOldK(Node):
    """New keys for records, the old one for tags."""

    caught_by = ("rekey.tag", "rekey.seq")

    def rekey(self, one: Connection) -> None:
        one.records.rekey()


class ForgetsSeq(Node):
    """Seq begins anew with the keys."""

    caught_by = ("rekey.seq",)

    def rekey(self, one: Connection) -> None:
        super().rekey(one)
        one.last_seq = 0


class RekeyTakesPayload(Node):
    """Ignores a payload."""

    caught_by = ("rekey.payload", "dark.map")

    def do_13(self, one: Connection, frame: Frame, payload: bytes) -> bytes | None:
        return super().do_13(one, frame, b"")


class RekeyWithMore(Node):
    """Does not look at what comes behind REKEY."""

    caught_by = ("rekey.followed",)

    def do_13(self, one: Connection, frame: Frame, payload: bytes) -> bytes | None:
        try:
            return super().do_13(one, frame, payload)
        except Closing:
            one.say(OK)
            self.rekey(one)
            return None


class AbandonTakesPayload(Node):
    """Ignores a payload."""

    caught_by = ("abandon.payload",)

    def do_14(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        return super().do_14(one, frame, b"")


class AbandonIsTold(Node):
    """6700, and closes them all the same."""

    caught_by = ("abandon.payload",)

    def do_14(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        answer = super().do_14(one, frame, b"")
        return WRONG_LENGTH if payload else answer


class AbandonsEverybody(Node):
    """Closes the sessions of others too."""

    caught_by = ("abandon.closes",)

    def abandons(self, one: Connection, other: Connection) -> bool:
        return True


class LittleEndianCount(Node):
    """The number of closed sessions the wrong way round."""

    caught_by = ("abandon.closes",)

    def abandoned(self, closed: int) -> bytes:
        return swapped(super().abandoned(closed), 0, 2)


class AbandonsNobody(Node):
    """Counts, and closes nothing."""

    caught_by = ("abandon.closes",)

    def do_14(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        return WRONG_LENGTH if payload else self.abandoned(2) + OK
