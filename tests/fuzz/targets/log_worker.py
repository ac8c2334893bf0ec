"""What the process that reads logs says to asyd, and how asyd passes it on."""

from __future__ import annotations

from collections.abc import Iterator

from asys.node.platform.logs import wire
from asys.node.platform.logs.logbook import event_id
from asys.protocol.status import SW
from fuzz.choices import Choices, Script

COVERS = ("asys.node.platform.logs.wire",)


def one(data: bytes) -> None:
    """A packet is an answer whose parts are those bytes, or none at all."""
    choices = Choices(data)
    packet = choices.rest()
    try:
        answer = wire.read_answer(packet)
    except ValueError as error:
        assert str(error)
        return
    assert SW(answer.sw).wire == packet[:2]
    if answer.sw == SW.SUCCESS:
        size = int.from_bytes(packet[2:6], "big")
        assert answer.payload == packet[6 : 6 + size]
        assert len(answer.payload) == size
        assert b"\n".join(answer.cursors) == packet[6 + size :]
        assert answer.reason == ""
        for cursor in answer.cursors:
            assert len(event_id(cursor)) == 8
    else:
        assert (answer.payload, answer.cursors) == (b"", [])
        if answer.reason.isascii():
            assert wire.read_answer(wire.failure(SW(answer.sw), answer.reason)) == answer


def seeds() -> Iterator[bytes]:
    """Answers of each kind, and what is cut short."""
    good = b"\x90\0\0\0\0\x07payloadfirst\nsecond"
    for packet in (
        good,
        good[:13],
        good[:9],
        b"\x90\0\0\0\0\0",
        wire.failure(SW.INVALID_PAYLOAD, "gone"),
        wire.failure(SW.NODE_IO_ERROR, ""),
        wire.failure_of(MemoryError()),
        wire.failure_of(OSError(5, "input/output error")),
        wire.WORKS,
    ):
        yield bytes(Script().raw(packet))
