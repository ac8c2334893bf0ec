"""The checks of the model node, in their order."""

from __future__ import annotations

from collections.abc import Callable

from cryptography.exceptions import InvalidTag

from asys.conformance import signing
from conformance.delegation import Delegation
from conformance.parts import (
    ABSENT,
    DENIED,
    RECEIVED,
    SEALED_CODES,
    SIGNED_CODES,
    VENDOR_CODES,
    WRONG_LENGTH,
    Closing,
    Connection,
    Frame,
)


class Checks(Delegation):
    """From a frame to its answer."""

    # -- checks, in their order

    def judge(self, one: Connection, frame: Frame) -> bytes | None:
        """The answer to a frame. Closing where the session ends with it."""
        payload = frame.data
        if frame.sec:
            refused = self.check_tag(one, frame)
            if refused is not None:
                return refused
            payload = frame.data[4:] if frame.sec == 1 else self.unseal(one, frame)
        return self.dispatch(one, frame, payload)

    def tag_is_right(self, one: Connection, frame: Frame) -> bool:
        """Auth_Tag over header, Epoch_ID and data."""
        return signing.auth_tag(one.k, frame.head, frame.data, self.tag_rules) == frame.tag

    def check_tag(self, one: Connection, frame: Frame) -> bytes | None:
        """Auth_Tag and Seq. Closing for a wrong tag; 6985 for an old Seq."""
        if len(frame.data) < 4 or not self.tag_is_right(one, frame):
            return self.wrong_tag(one, frame)
        seq = int.from_bytes(frame.data[:4], "big")
        if not self.seq_is_new(one, seq):
            return self.old_seq(one)
        one.last_seq = seq
        return None

    def seq_is_new(self, one: Connection, seq: int) -> bool:
        """Strictly increasing."""
        return seq > one.last_seq

    def wrong_tag(self, one: Connection, frame: Frame) -> bytes | None:
        """6982, close."""
        raise Closing(DENIED)

    def old_seq(self, one: Connection) -> bytes:
        """6985, open."""
        return RECEIVED

    def unseal(self, one: Connection, frame: Frame) -> bytes:
        """The payload in C. Closing when it does not open."""
        seq = int.from_bytes(frame.data[:4], "big")
        try:
            return signing.unsealed(one.k, frame.head, seq, frame.data[4:], self.seal_rules)
        except InvalidTag:
            raise Closing(DENIED) from None

    def exists(self, one: Connection, code: int) -> bool:
        """Whether the agent has it."""
        known = self.knows(one.agent)
        if known is None:
            return False
        if code in VENDOR_CODES:
            return 0x60 in known.lit
        return code in known.lit

    def dispatch(self, one: Connection, frame: Frame, payload: bytes) -> bytes | None:
        """Existence, level, fragments, then the instruction itself."""
        if not self.exists(one, frame.ins):
            return self.absent(one, frame)
        if frame.sec < self.minimum(frame.ins):
            return DENIED
        if frame.ins in VENDOR_CODES:
            return self.vendor(one, frame, payload)
        if frame.more and frame.ins != 0x10:
            return self.not_chainable(one, frame, payload)
        return self.run(one, frame, payload)

    def absent(self, one: Connection, frame: Frame) -> bytes:
        """6A81, whatever the reason."""
        return ABSENT

    def minimum(self, code: int) -> int:
        """The Sec that an instruction needs at least."""
        if code in SEALED_CODES:
            return 2
        return 1 if code in SIGNED_CODES or code in VENDOR_CODES else 0

    def not_chainable(self, one: Connection, frame: Frame, payload: bytes) -> bytes | None:
        """M = 1 where it is not for."""
        return WRONG_LENGTH

    def run(self, one: Connection, frame: Frame, payload: bytes) -> bytes | None:
        """The instruction itself."""
        handler: Callable[[Connection, Frame, bytes], bytes | None]
        handler = getattr(self, f"do_{frame.ins:02x}")
        return handler(one, frame, payload)
