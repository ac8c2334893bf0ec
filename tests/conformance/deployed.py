"""The model node as asyd 0.3.1 is: it differs where docs/protocol.md says so in section 10."""

from __future__ import annotations

from dataclasses import replace

from asys.conformance.delegate import wire_map
from conformance.model import Node
from conformance.parts import (
    DENIED,
    OK,
    RECEIVED,
    TIMING,
    Agent,
    Closing,
    Connection,
    Frame,
    public,
)

CODES = (0x00, 0x01, 0x02, 0x03, 0x11, 0x20, 0x22)
MOST_CONNECTIONS = 8


class Deployed(Node):
    """Speaks part A alone, and not all of it as it is specified."""

    timing = replace(TIMING, timeout=3.0)
    deadlines = replace(TIMING, frame=60.0, idle=60.0)

    def __init__(self) -> None:
        super().__init__()
        for key in (self.main, self.other):  # there is one map for all
            self.agents[public(key)] = Agent(CODES)

    def converse(self, one: Connection) -> None:
        with self.lock:
            full = len(self.connections) > MOST_CONNECTIONS
        if not full:
            super().converse(one)

    def replayed(self, message_1: bytes) -> bool:
        return False

    def fault(self, stream: bytes) -> bytes | None:
        if stream and stream[0] >> 2 & 3 == 3:
            stream = bytes((stream[0] & 0xF7,)) + stream[1:]  # Sec = 11 is signed
        return super().fault(stream)

    def take(self, one: Connection, message: bytes, batch: list[bytes]) -> int:
        """One frame for each message; what is behind it waits for the next one."""
        one.stream += message
        fault = self.fault(one.stream)
        if fault is not None:
            self.malformed(one, fault)
        frame = self.cut(one)
        if frame is None:
            return 0
        answer = self.judge(one, frame)
        if answer is not None:
            self.reply(one, frame, answer)
        return 1

    def old_seq(self, one: Connection) -> bytes:
        raise Closing(RECEIVED)

    def tag_is_right(self, one: Connection, frame: Frame) -> bool:
        return not frame.cla & 2 and super().tag_is_right(one, frame)

    def unseal(self, one: Connection, frame: Frame) -> bytes:
        return frame.data[4:]

    def dispatch(self, one: Connection, frame: Frame, payload: bytes) -> bytes | None:
        if frame.ins == 0x20 and frame.sec > 1:
            return DENIED
        return super().dispatch(one, frame, payload)

    def not_chainable(self, one: Connection, frame: Frame, payload: bytes) -> bytes | None:
        return self.run(one, frame, payload)

    def do_00(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        return self.caps(wire_map(*CODES)[:8], 0) + OK

    def throttle_length(self, payload: bytes) -> bool:
        return len(payload) >= 4
