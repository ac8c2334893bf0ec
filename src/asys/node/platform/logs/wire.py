"""Questions and answers between asyd and the process that reads logs: one packet each.

A question is LOG_SUMMARY (`S`, window u32, priority u8, wanted u8) or LOG_DETAIL (`D`, before u8,
after u8, cursor). An answer is a status word, the length of the payload u32, the payload, and then,
a line each, the cursors of the events in it; behind another status word than 9000, a text that says
why.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from asys.node.platform.base import NoSuchTarget, Unsupported, node_failure
from asys.protocol.status import SW

if TYPE_CHECKING:
    from asys.node.platform.logs.logbook import Source

WORKS: Final = b"works"
"""The first packet of a process that reads logs: it is ready."""

ANSWER_BYTES: Final = 128 << 10
"""No packet is longer."""

_SUMMARY: Final = struct.Struct(">cIBB")
_DETAIL: Final = struct.Struct(">cBB")
_ANSWER: Final = struct.Struct(">HI")


class Answer(NamedTuple):
    """A payload and its cursors, or a status word and why."""

    sw: SW
    payload: bytes
    cursors: list[bytes]
    reason: str


def summary(window_s: int, priority: int, wanted: int) -> bytes:
    """The question for a LOG_SUMMARY."""
    return _SUMMARY.pack(b"S", window_s, priority, wanted)


def detail(cursor: bytes, before: int, after: int) -> bytes:
    """The question for a LOG_DETAIL."""
    return _DETAIL.pack(b"D", before, after) + cursor


def answer(source: Source, question: bytes) -> bytes:
    """The answer to a question. NoSuchTarget: that entry has gone; OSError."""
    from asys.node.platform.logs import logbook

    cursors: list[bytes] = []
    if question[:1] == b"S":
        _, window_s, priority, wanted = _SUMMARY.unpack(question)
        payload, cursors = logbook.summarize(source, window_s, priority, wanted)
    else:
        _, before, after = _DETAIL.unpack_from(question)
        found = logbook.detail(source, question[_DETAIL.size :], before, after)
        if found is None:
            raise NoSuchTarget("this log entry is not there any more")
        payload = found
    return _ANSWER.pack(SW.SUCCESS, len(payload)) + payload + b"\n".join(cursors)


def failure(sw: SW, reason: str) -> bytes:
    """The answer where there is none to be had."""
    return _ANSWER.pack(sw, 0) + reason.encode(errors="replace")


def failure_of(error: OSError | MemoryError) -> bytes:
    """The same, for what the operating system said."""
    if isinstance(error, MemoryError):
        return failure(SW.NODE_OUT_OF_MEMORY, "no memory to read the logs")
    if error.errno is None:  # libsystemd cannot be loaded
        unsupported = Unsupported(f"reading the logs: {error}")
        return failure(unsupported.sw, str(unsupported))
    known = node_failure(error, "reading the logs")
    return failure(known.sw, str(known))


def read_answer(packet: bytes) -> Answer:
    """What an answer says. ValueError: it is none."""
    try:
        number, size = _ANSWER.unpack_from(packet)
        sw = SW(number)
    except (struct.error, ValueError) as error:
        raise ValueError(str(error)) from None
    rest = packet[_ANSWER.size :]
    if len(rest) < size:
        raise ValueError(f"{len(rest)} bytes of {size}")
    if sw != SW.SUCCESS:
        return Answer(sw, b"", [], rest.decode("utf-8", "replace"))
    return Answer(sw, rest[:size], rest[size:].split(b"\n") if len(rest) > size else [], "")
