"""What asyd and a vendor's worker say to each other, on a Unix stream socket (docs/vendors.md).

Every message is length u32 || type u8 || body, all big-endian; the length counts type and body.

    worker   HELLO    once, first: who the vendor is and what it has
             FAILED   in place of it: why there is no vendor; the worker ends
             ANSWER   id u32 || SW u16 || note length u16 || note || reply, one for each REQUEST
    asyd     REQUEST  id u32 || INS || P1 || P2 || body

asyd believes none of it: what is not as it is written here, and a message that was not asked for,
ends the worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct, error
from typing import Final

from asys.isa import Level
from asys.isa.capmap import bits
from asys.vendor.definition import (
    CODES,
    MAX_JOINED_BODY,
    MAX_REPLY,
    Vendor,
    VendorError,
    check_id,
    normal_domain,
)

REQUEST: Final = 0x01
HELLO: Final = 0x81
ANSWER: Final = 0x82
FAILED: Final = 0x83

VERSION: Final = 1

MAX_NOTE: Final = 2048
"""Bytes of what a worker has to say to the node's log."""

LENGTH_SIZE: Final = 4
MAX_TO_WORKER: Final = 1 + 7 + MAX_JOINED_BODY
MAX_TO_NODE: Final = 1 + 8 + MAX_NOTE + MAX_REPLY
"""The largest lengths, which are looked at before anything is kept."""

_LENGTH: Final = Struct(">I")
_REQUEST: Final = Struct(">IBBB")
_ANSWER: Final = Struct(">IHH")
_HELLO: Final = Struct(">BIB")
_ROW: Final = Struct(">BBBII")
_CHAINABLE: Final = 1
_REQUEST_EXACT: Final = 2
_REPLY_EXACT: Final = 4


class WireError(ValueError):
    """Bytes that are no message of the other end's."""


@dataclass(frozen=True, slots=True)
class Described:
    """An instruction as the node knows it. Sizes are bytes of body and reply: the least there can
    be, and the only ones where `exact`.
    """

    code: int
    name: str
    level: Level
    chainable: bool
    body_size: int
    body_exact: bool
    reply_size: int
    reply_exact: bool


@dataclass(frozen=True, slots=True)
class Description:
    """A vendor as its worker describes it."""

    domain: str
    title: str
    id: int
    instructions: tuple[Described, ...]

    @property
    def bits(self) -> int:
        """The map of the codes that it has."""
        return bits(one.code for one in self.instructions)


def describe(vendor: Vendor) -> Description:
    """What a worker says of its vendor."""
    rows = []
    for one in vendor.instructions:
        request, reply = one.request, one.reply
        rows.append(
            Described(
                one.code,
                one.name,
                one.level,
                bool(getattr(one, "chainable", False)),
                request.SIZE,
                request.FIXED and not one.ignores_extra,
                reply.SIZE,
                reply.FIXED,
            )
        )
    return Description(vendor.domain, vendor.title, vendor.id, tuple(rows))


def message(kind: int, body: bytes) -> bytes:
    """A whole message."""
    return _LENGTH.pack(1 + len(body)) + bytes((kind,)) + body


def pack_request(number: int, ins: int, p1: int, p2: int, body: bytes) -> bytes:
    """A whole REQUEST."""
    return message(REQUEST, _REQUEST.pack(number, ins, p1, p2) + body)


def unpack_request(body: bytes) -> tuple[int, int, int, int, bytes]:
    """id, INS, P1, P2 and body of a REQUEST. WireError."""
    if len(body) < _REQUEST.size:
        raise WireError("a request is cut short")
    return *_REQUEST.unpack_from(body), body[_REQUEST.size :]


def pack_answer(number: int, sw: int, note: str = "", reply: bytes = b"") -> bytes:
    """A whole ANSWER; the note is cut where it is too long."""
    said = note.encode("utf-8", "replace")[:MAX_NOTE]
    return message(ANSWER, _ANSWER.pack(number, sw, len(said)) + said + reply)


def unpack_answer(body: bytes) -> tuple[int, int, str, bytes]:
    """id, status word, note and reply of an ANSWER. WireError."""
    if len(body) < _ANSWER.size:
        raise WireError("an answer is cut short")
    number, sw, size = _ANSWER.unpack_from(body)
    start = _ANSWER.size + size
    if size > MAX_NOTE or start > len(body) or len(body) - start > MAX_REPLY:
        raise WireError("an answer has other lengths than it says")
    return number, sw, body[_ANSWER.size : start].decode("utf-8", "replace"), body[start:]


def pack_hello(description: Description) -> bytes:
    """A whole HELLO."""
    parts = [_HELLO.pack(VERSION, description.id, len(description.instructions))]
    parts += [_text(description.domain), _text(description.title)]
    for one in description.instructions:
        flags = one.chainable * _CHAINABLE | one.body_exact * _REQUEST_EXACT
        flags |= one.reply_exact * _REPLY_EXACT
        parts.append(_ROW.pack(one.code, one.level, flags, one.body_size, one.reply_size))
        parts.append(_text(one.name))
    return message(HELLO, b"".join(parts))


def unpack_hello(body: bytes) -> Description:
    """The vendor in a HELLO. WireError: it is none that could be."""
    try:
        version, vendor_id, count = _HELLO.unpack_from(body)
        if version != VERSION:
            raise WireError(f"the worker speaks version {version} and not {VERSION}")
        domain, place = _read_text(body, _HELLO.size)
        title, place = _read_text(body, place)
        if normal_domain(domain) != domain:
            raise WireError("the domain is not in its normal form")
        check_id(domain, vendor_id)
        rows: dict[int, Described] = {}
        for _ in range(count):
            code, level, flags, body_size, reply_size = _ROW.unpack_from(body, place)
            name, place = _read_text(body, place + _ROW.size)
            rows[code] = Described(
                code,
                name,
                Level(level),
                bool(flags & _CHAINABLE),
                body_size,
                bool(flags & _REQUEST_EXACT),
                reply_size,
                bool(flags & _REPLY_EXACT),
            )
            if code not in CODES or level < Level.SIGNED:
                raise WireError(f"{code:02X} is no vendor's instruction, or not signed")
    except WireError:
        raise
    except (error, IndexError, ValueError, VendorError) as fault:
        raise WireError(f"the worker's description cannot be read: {fault}") from None
    if place != len(body) or not rows or len(rows) != count:
        raise WireError("the worker's description has another length than it says, or a code twice")
    return Description(domain, title, vendor_id, tuple(rows.values()))


class Messages:
    """Cuts a stream into messages. `most` is the largest length that the other end may send."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Type and body of all messages that end in `data`. WireError: it is no such stream; the
        messages before that are delivered first, and the error comes at the next call.
        """
        buffer = self._buffer
        buffer += data
        found: list[tuple[int, bytes]] = []
        while len(buffer) >= LENGTH_SIZE:
            (length,) = _LENGTH.unpack_from(buffer)
            if not 1 <= length <= self._most:
                if found:
                    break
                raise WireError(f"a message of {length} bytes")
            if len(buffer) < LENGTH_SIZE + length:
                break
            kind = buffer[LENGTH_SIZE]
            found.append((kind, bytes(buffer[LENGTH_SIZE + 1 : LENGTH_SIZE + length])))
            del buffer[: LENGTH_SIZE + length]
        return found


def _text(value: str) -> bytes:
    data = value.encode("utf-8")[:255]
    return bytes((len(data),)) + data


def _read_text(body: bytes, place: int) -> tuple[str, int]:
    """A text with its length in front, and where it ends. WireError, IndexError, ValueError."""
    end = place + 1 + body[place]
    text = body[place + 1 : end].decode("utf-8")
    if end > len(body) or not text.isprintable():
        raise WireError("a text is cut short, or does not print")
    return text, end
