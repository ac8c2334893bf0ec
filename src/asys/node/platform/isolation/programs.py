"""The programs that cut a process off, assembled here: no compiler runs on a node.

`CUT` and `CUT_BUT_LOOPBACK` have one for each hook of the cgroup that an isolated process is in.
`by_cookie` makes the one that is run for every packet of the machine, on the first cgroup: it drops
those of sockets that are in a map. It has to be short.

A program answers 1 for "let it pass" and 0 for "no".
"""

from __future__ import annotations

import struct
from typing import Final

from asys.node.platform.isolation.bpf import AttachType

CUT_ALL: Final = 1
CUT_BUT_LOOPBACK_TOO: Final = 2
"""What the map says of a socket."""

COOKIE: Final = struct.Struct("<Q")
MARK: Final = struct.Struct("<I")

_R0, _R1, _R2, _R3, _R4, _R6, _R10 = 0, 1, 2, 3, 4, 6, 10

_MAP_LOOKUP: Final = 1
_SKB_LOAD_BYTES: Final = 26
_GET_SOCKET_COOKIE: Final = 46
"""Helpers, by their numbers in linux/bpf.h."""


def _i(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    """One instruction."""
    return struct.pack("<BBhi", code, src << 4 | dst, off, imm)


def _set(dst: int, value: int) -> bytes:
    return _i(0xB7, dst, imm=value)


def _copy(dst: int, src: int) -> bytes:
    return _i(0xBF, dst, src)


def _set_wide(dst: int, value: int) -> bytes:
    """64 bits; takes two instructions."""
    low, high = struct.unpack("<ii", struct.pack("<Q", value))
    return _i(0x18, dst, imm=low) + _i(0, imm=high)


def _call(helper: int) -> bytes:
    return _i(0x85, imm=helper)


_EXIT: Final = _i(0x95)
_PASS: Final = _set(_R0, 1) + _EXIT
_DROP: Final = _set(_R0, 0) + _EXIT
_SIZE: Final = 8


def _unless(test: bytes, then: bytes) -> bytes:
    """`test` is a jump whose distance is set here: over `then`, which it skips when it is taken."""
    code, registers, _, value = struct.unpack("<BBhi", test)
    return struct.pack("<BBhi", code, registers, len(then) // _SIZE, value) + then


def _if_equal(register: int, value: int, then: bytes) -> bytes:
    return _unless(_i(0x55, register, imm=value), then)  # jump over it if not equal


def _load_bytes(offset: int, to: int, size: int) -> bytes:
    """Packet bytes to the stack; drops what is shorter."""
    return (
        _copy(_R1, _R6)
        + _set(_R2, offset)
        + _copy(_R3, _R10)
        + _i(0x07, _R3, imm=to)
        + _set(_R4, size)
        + _call(_SKB_LOAD_BYTES)
        + _unless(_i(0x15, _R0, imm=0), _DROP)
    )


_LOOPBACK_4: Final = 127
"""The first byte of 127.0.0.0/8."""

_LOOPBACK_6: Final = 1 << 56
"""The last 8 bytes of ::1 as a number of this byte order; the first 8 are zero."""

_HEAD: Final = -64
"""Where on the stack the packet's head is read to."""


def _byte(dst: int, at: int) -> bytes:
    return _i(0x71, dst, _R10, at)


def _wide(dst: int, at: int) -> bytes:
    return _i(0x79, dst, _R10, at)


def _loopback_packet() -> bytes:
    """The packet of r6: passes from loopback to loopback, else is dropped."""
    four = (
        _byte(_R1, _HEAD + 12)
        + _unless(_i(0x15, _R1, imm=_LOOPBACK_4), _DROP)
        + _byte(_R1, _HEAD + 16)
        + _unless(_i(0x15, _R1, imm=_LOOPBACK_4), _DROP)
        + _PASS
    )
    six = _load_bytes(0, _HEAD, 40) + _set_wide(_R2, _LOOPBACK_6)
    for address in (_HEAD + 8, _HEAD + 24):
        six += _wide(_R1, address) + _unless(_i(0x15, _R1, imm=0), _DROP)
        six += _wide(_R1, address + 8) + _unless(_i(0x1D, _R1, _R2), _DROP)
    six += _PASS
    return (
        _load_bytes(0, _HEAD, 20)
        + _byte(_R1, _HEAD)
        + _i(0x77, _R1, imm=4)  # the version
        + _if_equal(_R1, 4, four)
        + _if_equal(_R1, 6, six)
        + _DROP
    )


_ADDRESS_4: Final = 4
_ADDRESS_6: Final = 8
"""Offsets of the peer's address in struct bpf_sock_addr, in network order."""

_MAPPED: Final = -65536
"""The third word of ::ffff:0:0/96, as it is loaded and then extended with its sign."""


def _word(dst: int, offset: int) -> bytes:
    return _i(0x61, dst, _R1, offset)


def _to_loopback_4(offset: int) -> bytes:
    """Passes when the word there is in 127.0.0.0/8, or is 0, which means loopback."""
    return (
        _word(_R2, offset)
        + _if_equal(_R2, 0, _PASS)
        + _i(0x57, _R2, imm=0xFF)
        + _if_equal(_R2, _LOOPBACK_4, _PASS)
    )


def _to_loopback_6() -> bytes:
    """Passes to ::1, ::, and to loopback of version 4 that is written as version 6."""
    first, second, third, fourth = (_ADDRESS_6 + 4 * word for word in range(4))
    plain = _word(_R2, fourth) + _if_equal(_R2, 0, _PASS) + _if_equal(_R2, 1 << 24, _PASS) + _DROP
    mapped = _to_loopback_4(fourth) + _DROP
    return (
        _word(_R2, first)
        + _unless(_i(0x15, _R2, imm=0), _DROP)
        + _word(_R2, second)
        + _unless(_i(0x15, _R2, imm=0), _DROP)
        + _word(_R2, third)
        + _if_equal(_R2, 0, plain)
        + _i(0x67, _R2, imm=32)
        + _i(0xC7, _R2, imm=32)
        + _if_equal(_R2, _MAPPED, mapped)
        + _DROP
    )


_KEEPING_4: Final = _to_loopback_4(_ADDRESS_4) + _DROP
_KEEPING_6: Final = _to_loopback_6()
_KEEPING_PACKETS: Final = _copy(_R6, _R1) + _loopback_packet()

CUT: Final[dict[AttachType, bytes]] = dict.fromkeys(AttachType, _DROP)

CUT_BUT_LOOPBACK: Final[dict[AttachType, bytes]] = {
    AttachType.INGRESS: _KEEPING_PACKETS,
    AttachType.EGRESS: _KEEPING_PACKETS,
    AttachType.SOCK_CREATE: _PASS,
    AttachType.CONNECT4: _KEEPING_4,
    AttachType.CONNECT6: _KEEPING_6,
    AttachType.SENDMSG4: _KEEPING_4,
    AttachType.SENDMSG6: _KEEPING_6,
}


def by_cookie(table: int) -> bytes:
    """For INGRESS and EGRESS: drops packets of the sockets whose cookies are in `table`, a map."""
    return (
        _copy(_R6, _R1)
        + _call(_GET_SOCKET_COOKIE)
        + _i(0x7B, _R10, _R0, -8)
        + _copy(_R2, _R10)
        + _i(0x07, _R2, imm=-8)
        + _i(0x18, _R1, 1, imm=table)  # the map behind a descriptor
        + _i(0)
        + _call(_MAP_LOOKUP)
        + _if_equal(_R0, 0, _PASS)
        + _i(0x61, _R1, _R0)
        + _unless(_i(0x15, _R1, imm=CUT_BUT_LOOPBACK_TOO), _DROP)
        + _loopback_packet()
    )
