"""Frames in the shape of ISO/IEC 7816 APDUs (docs/protocol.md, section 2).

standard  CLA INS P1 P2 Lc             Data[Lc]  Le           [Auth_Tag 16]
extended  CLA INS P1 P2 00 Lc_hi Lc_lo Data[Lc]  Le_hi Le_lo  [Auth_Tag 16]
"""

from __future__ import annotations

from typing import Final, NamedTuple

from asys.errors import ProtocolError
from asys.protocol.limits import AUTH_TAG_SIZE, MAX_DATA, SW_SIZE
from asys.protocol.status import SW

CLA_VERSION: Final = 0xE0
CLA_MORE: Final = 0x10
CLA_SEC: Final = 0x0C
CLA_EXTENDED: Final = 0x02
CLA_RESERVED: Final = 0x01

SEC_PLAIN: Final = 0x00
SEC_SIGNED: Final = 0x04
SEC_ENC_SIGN: Final = 0x08
SEC_RESERVED: Final = 0x0C

STANDARD_HEADER: Final = 5
EXTENDED_HEADER: Final = 7
MAX_STANDARD_DATA: Final = 0xFF


class Frame(NamedTuple):
    """A request as it arrived; nothing in it has been checked but its shape.

    `data` is the Lc bytes after the header, with Seq in front where the frame is signed; `header`
    the bytes from CLA through the length field, as the Auth_Tag covers them; `tag` the 16 bytes
    behind Le, or nothing.
    """

    cla: int
    ins: int
    p1: int
    p2: int
    data: bytes = b""
    header: bytes = b""
    tag: bytes = b""

    @property
    def sec(self) -> int:
        """SEC_PLAIN, SEC_SIGNED or SEC_ENC_SIGN."""
        return self.cla & CLA_SEC


BARE_MESSAGES: Final = tuple(bytes((0, ins, 0, 0, 0, 0)) for ins in range(256))
"""By INS, the plain request without data or parameters, as its bytes.

Such a request says nothing but its INS, and polling agents send little else: one look-up in place
of a parse.
"""

BARE_FRAMES: Final = tuple(
    Frame(0, ins, 0, 0, b"", message[:STANDARD_HEADER]) for ins, message in enumerate(BARE_MESSAGES)
)
"""The same, as they are parsed."""

_BARE: Final = dict(zip(BARE_MESSAGES, BARE_FRAMES, strict=True))


class FrameParser:
    """Cuts a stream of decrypted bytes into frames; keeps what has not been taken yet.

    The first violation ends the stream: `error` holds its status word, frames that came before it
    are still delivered, and nothing more is parsed.
    """

    __slots__ = ("_buffer", "_position", "error")

    def __init__(self) -> None:
        self._buffer = b""
        self._position = 0
        self.error: SW | None = None

    @property
    def pending(self) -> int:
        """Bytes pushed and not taken; at most MAX_FRAME once `next_frame` has given None."""
        return len(self._buffer) - self._position

    def push(self, data: bytes) -> Frame | None:
        """Takes the bytes of a message; returns the first frame that is whole, as next_frame."""
        if not self._buffer:
            bare = _BARE.get(data)
            if bare is not None and self.error is None:
                return bare
        self._buffer = self._buffer[self._position :] + data
        self._position = 0
        return self.next_frame()

    def next_frame(self) -> Frame | None:
        """The next whole frame. None: there is none yet, or `error` says why there will be none."""
        buffer = self._buffer
        if not buffer:
            return None
        position = self._position
        size = 0 if self.error is not None else self._measure(buffer, position, len(buffer))
        if self.error is not None:
            self._buffer = b""
            self._position = 0
            return None
        stop = position + size
        if size == 0 or stop > len(buffer):
            return None
        if stop == len(buffer):
            self._buffer = b""
            self._position = 0
        else:
            self._position = stop
        return _cut(buffer, position, stop)

    def feed(self, data: bytes) -> list[Frame]:
        """All frames that end in `data`. Never raises; look at `error` afterwards."""
        frames = []
        frame = self.push(data)
        while frame is not None:
            frames.append(frame)
            frame = self.next_frame()
        return frames

    def _measure(self, buffer: bytes, position: int, end: int) -> int:
        """Size of the frame at `position`; 0 where that is not known yet or the frame is bad."""
        cla = buffer[position]
        self.error = check_class(cla)
        if self.error is not None:
            return 0
        tag = AUTH_TAG_SIZE if cla & CLA_SEC else 0
        if not cla & CLA_EXTENDED:
            if end - position < STANDARD_HEADER:
                return 0
            return STANDARD_HEADER + buffer[position + 4] + 1 + tag
        if end - position > 4 and buffer[position + 4] != 0:
            self.error = SW.WRONG_LENGTH
            return 0
        if end - position < EXTENDED_HEADER:
            return 0
        length = buffer[position + 5] << 8 | buffer[position + 6]
        if length > MAX_DATA:
            self.error = SW.WRONG_LENGTH
            return 0
        return EXTENDED_HEADER + length + 2 + tag


def check_class(cla: int) -> SW | None:
    """The status word for a CLA byte that this version refuses, else None."""
    if cla & CLA_VERSION or cla & CLA_SEC == SEC_RESERVED:
        return SW.CLASS_NOT_SUPPORTED
    if cla & CLA_RESERVED:
        return SW.WRONG_LENGTH
    return None


def _cut(buffer: bytes, start: int, stop: int) -> Frame:
    """The frame in buffer[start:stop], whose size has been measured."""
    cla, ins, p1, p2 = buffer[start : start + 4]
    body = start + (EXTENDED_HEADER if cla & CLA_EXTENDED else STANDARD_HEADER)
    tail = (2 if cla & CLA_EXTENDED else 1) + (AUTH_TAG_SIZE if cla & CLA_SEC else 0)
    return Frame(
        cla,
        ins,
        p1,
        p2,
        buffer[body : stop - tail],
        buffer[start:body],
        buffer[stop - AUTH_TAG_SIZE : stop] if cla & CLA_SEC else b"",
    )


def header(ins: int, p1: int, p2: int, length: int, *, sec: int = SEC_PLAIN) -> bytes:
    """CLA through the length field for `length` bytes of data; extended only where needed.

    `sec` are the bits of CLA: Sec, and CLA_MORE where more fragments follow.

    ValueError when `length` is over MAX_DATA.
    """
    if length <= MAX_STANDARD_DATA:
        return bytes((sec, ins, p1, p2, length))
    if length > MAX_DATA:
        raise ValueError(f"{length} bytes of data; a frame carries at most {MAX_DATA}")
    return bytes((sec | CLA_EXTENDED, ins, p1, p2, 0, length >> 8, length & 0xFF))


def encode_plain(
    ins: int, p1: int = 0, p2: int = 0, data: bytes = b"", *, more: bool = False
) -> bytes:
    """A plain request. Le is sent as zero, as deployed agents do. ValueError: too much data.

    `more`: it is a fragment, and not the last.
    """
    head = header(ins, p1, p2, len(data), sec=CLA_MORE if more else SEC_PLAIN)
    return head + data + bytes(2 if head[0] & CLA_EXTENDED else 1)


def encode_signed(head: bytes, data: bytes, tag: bytes) -> bytes:
    """A signed request from its header, its data (Seq in front) and its Auth_Tag."""
    return head + data + bytes(2 if head[0] & CLA_EXTENDED else 1) + tag


def split_response(message: bytes) -> tuple[bytes, int]:
    """Payload and status word of a response. ProtocolError when it is shorter than the latter."""
    if len(message) < SW_SIZE:
        raise ProtocolError(f"a response has {len(message)} bytes, less than a status word")
    return message[:-SW_SIZE], message[-2] << 8 | message[-1]
