"""Frames as bytes, right and wrong ones. Nothing is checked here (docs/protocol.md, section 2)."""

from __future__ import annotations

from typing import Final

SYS_CAPS: Final = 0x00
SYS_HELLO: Final = 0x01
SYS_STATUS: Final = 0x02
SYS_PROCS: Final = 0x03
CONTINUE: Final = 0x10
TASK_QUERY: Final = 0x11
TASK_CANCEL: Final = 0x12
REKEY: Final = 0x13
ABANDON: Final = 0x14
KEY_STATEMENT: Final = 0x15
PROC_THROTTLE: Final = 0x20
NET_ISOLATE: Final = 0x21
SVC_RESTART: Final = 0x22
LOG_SUMMARY: Final = 0x40
LOG_DETAIL: Final = 0x41
PROC_TREE: Final = 0x42
AGENT_ADD: Final = 0x60
AGENT_REMOVE: Final = 0x61
AGENT_LIST: Final = 0x62
UNKNOWN: Final = 0x90
"""A code that the protocol never gives out."""

CLA_SIGNED: Final = 0x04
CLA_SEALED: Final = 0x08
CLA_MORE: Final = 0x10
CLA_EXTENDED: Final = 0x02


def frame(
    ins: int,
    data: bytes = b"",
    p1: int = 0,
    p2: int = 0,
    *,
    cla: int = 0,
    le: bytes = b"\0",
    tag: bytes = b"",
) -> bytes:
    """A frame with whatever CLA, in standard form, or extended where CLA says so."""
    return header(ins, p1, p2, len(data), cla) + data + (le * 2 if cla & CLA_EXTENDED else le) + tag


def header(ins: int, p1: int, p2: int, length: int, cla: int) -> bytes:
    """CLA through the length field."""
    size = bytes((0, length >> 8, length & 0xFF)) if cla & CLA_EXTENDED else bytes((length,))
    return bytes((cla, ins, p1, p2)) + size


HELLO: Final = frame(SYS_HELLO)
CAPS: Final = frame(SYS_CAPS)
STATUS: Final = frame(SYS_STATUS)
PROCS: Final = frame(SYS_PROCS)


def u32(value: int) -> bytes:
    """A u32 as it travels."""
    return value.to_bytes(4, "big")


def number(data: bytes, start: int, size: int) -> int:
    """The integer in some bytes of an answer."""
    return int.from_bytes(data[start : start + size], "big")
