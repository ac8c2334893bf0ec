"""The socket between asyd and a vendor's worker: neither believes a byte of the other."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Annotated, Any, Final, cast

from asys.isa import Empty, Guide, Instruction, Level, Risk
from asys.node.vendor.link import WorkerLink
from asys.protocol.codec import Layout, layout, u16
from asys.protocol.status import SW
from asys.vendor.definition import MAX_REPLY, Vendor, id_of_domain
from asys.vendor.handlers import REFUSALS
from asys.vendor.wire import (
    ANSWER,
    FAILED,
    HELLO,
    MAX_NOTE,
    MAX_TO_NODE,
    MAX_TO_WORKER,
    REQUEST,
    Description,
    Messages,
    WireError,
    message,
    pack_answer,
    pack_hello,
    pack_request,
    unpack_answer,
    unpack_hello,
    unpack_request,
)
from asys.vendor.worker import Work
from fuzz.choices import Choices, Script
from support.vendor_workers import DOMAIN, described, description

COVERS = ("asys.vendor.wire", "asys.node.vendor.link")


def one(data: bytes) -> None:
    """Bytes from a worker to asyd, from asyd to a worker, and the messages by themselves."""
    choices = Choices(data)
    what = choices.below(3)
    if what == 0:
        _from_worker(choices)
    elif what == 1:
        _to_worker(choices)
    else:
        _alone(choices.rest())


class _Heard:
    """What a link has told."""

    def __init__(self) -> None:
        self.said: list[object] = []
        self.over = False
        self.link: WorkerLink | None = None

    def greeted(self, description: Description) -> None:
        """As Hears.greeted; believes one domain."""
        assert not self.said
        if description.domain != DOMAIN:
            raise WireError("it is another one")
        self.said.append(description)

    def answered(self, number: int, sw: int, note: str, reply: bytes) -> None:
        """As Hears.answered; some answers end it."""
        assert self.said
        assert isinstance(self.said[0], Description)
        assert not self.over
        self.said.append((number, sw, note, reply))
        if number == 13 and self.link is not None:
            self.link.hang_up("enough")

    def hung_up(self, why: str) -> None:
        """As Hears.hung_up."""
        assert not self.over
        assert isinstance(why, str)
        self.over = True


class _Pipe:
    """A transport that only knows whether it is closing."""

    def __init__(self) -> None:
        self.closing = False

    def is_closing(self) -> bool:
        """As Transport.is_closing."""
        return self.closing

    def abort(self) -> None:
        """As Transport.abort."""
        self.closing = True


def _from_worker(choices: Choices) -> None:
    """However the stream is cut, the same is heard: up to what no worker may say."""
    pieces = choices.pieces()
    outcomes = []
    for delivered in (pieces, [b"".join(pieces)]):
        heard, pipe = _Heard(), _Pipe()
        link = heard.link = WorkerLink(heard)
        link.connection_made(cast(asyncio.Transport, pipe))
        for piece in delivered:
            if pipe.closing:
                break
            link.data_received(piece)
        link.connection_lost(None)
        assert heard.over
        outcomes.append((heard.said, pipe.closing))
    assert outcomes[0] == outcomes[1]
    said, closed = outcomes[0]
    packed = [
        pack_hello(one) if isinstance(one, Description) else pack_answer(*cast(_Answer, one))
        for one in said
    ]
    stream = b"".join(pieces)
    if not closed:
        rest = len(stream) - sum(map(len, packed))
        assert rest < 4 + MAX_TO_NODE
    for kind, body in _cut(stream, MAX_TO_NODE):
        _is_read(kind, body)


_Answer = tuple[int, int, str, bytes]


def _cut(stream: bytes, most: int) -> list[tuple[int, bytes]]:
    try:
        return Messages(most).feed(stream)
    except WireError as error:
        assert str(error)
        return []


def _is_read(kind: int, body: bytes) -> None:
    """A body gives what packs to the same bytes, or WireError."""
    try:
        if kind == HELLO:
            told = unpack_hello(body)
            assert told.domain.isprintable()
            assert told.bits
            assert all(one.level >= Level.SIGNED for one in told.instructions)
            [(_, again)] = Messages(MAX_TO_NODE).feed(pack_hello(told))
            assert unpack_hello(again) == told
        elif kind == ANSWER:
            number, sw, note, reply = unpack_answer(body)
            assert len(reply) <= MAX_REPLY
            assert len(note) <= MAX_NOTE
            assert body.endswith(reply)
            assert body[:6] == number.to_bytes(4, "big") + sw.to_bytes(2, "big")
        elif kind == REQUEST:
            number, ins, p1, p2, inside = unpack_request(body)
            assert pack_request(number, ins, p1, p2, inside) == message(REQUEST, body)
    except WireError as error:
        assert str(error)


def _alone(body: bytes) -> None:
    for kind in (HELLO, ANSWER, REQUEST):
        _is_read(kind, body)


@layout
class _Double(Layout):
    number: Annotated[int, u16("a number", most=1000)]


async def _double(request: _Double) -> _Double:
    if request.number == 13:
        raise ValueError("no luck")
    return _Double(2 * request.number)


async def _nothing(_request: Empty) -> None:
    return None


_GUIDE: Final = Guide("Doubles.", "Always.", "Never.", "None.", "Nothing.", Risk.NONE)
_VENDOR: Final = Vendor(
    DOMAIN,
    "For tests",
    (
        Instruction(
            0xC0, "DOUBLE", request=_Double, reply=_Double, level=Level.SIGNED, guide=_GUIDE
        ),
        Instruction(0xC1, "NOTHING", request=Empty, reply=Empty, level=Level.SIGNED, guide=_GUIDE),
    ),
    "none.such",
)
_MAY_SAY: Final = REFUSALS | {SW.WRONG_LENGTH, SW.NO_SUCH_INSTRUCTION}


def _to_worker(choices: Choices) -> None:
    """A worker answers each request once, with what a worker may say."""
    pieces = choices.pieces()
    stream = b"".join(pieces)
    messages = Messages(MAX_TO_WORKER)
    found: list[tuple[int, bytes]] = []
    try:
        for piece in pieces:
            found += messages.feed(piece)
    except WireError as error:
        assert str(error)
    assert found == _cut(stream, MAX_TO_WORKER)
    work = Work(_VENDOR, {0xC0: _double, 0xC1: _nothing})
    for kind, body in found:
        if kind != REQUEST:
            continue
        try:
            request = unpack_request(body)
        except WireError:
            assert len(body) < 7
            continue
        [(told, answer)] = Messages(MAX_TO_NODE).feed(_run(work.answer(*request)))
        assert told == ANSWER
        number, sw, note, reply = unpack_answer(answer)
        assert number == request[0]
        assert note.isprintable()
        if sw == SW.SUCCESS:
            assert request[1] in (0xC0, 0xC1)
            assert len(reply) == (2 if request[1] == 0xC0 else 0)
        else:
            assert sw in _MAY_SAY
            assert reply == b""


def _run(coroutine: Coroutine[Any, Any, bytes]) -> bytes:
    """What a coroutine gives that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast(bytes, end.value)
    raise AssertionError("it waits")


def seeds() -> Iterator[bytes]:
    """What both ends say, alone and behind each other, whole and in pieces; what neither may."""
    hellos = [
        description(),
        description(described(0xC0), described(0xFF, "OTHER", chainable=True, body_exact=False)),
        description(vendor_id=7),
    ]
    for hello in hellos:
        packed = pack_hello(hello)
        yield bytes(Script().byte(0, 0).raw(packed))
        yield bytes(Script().byte(0, 3, 5, 1, 9).raw(packed + pack_answer(1, 0x9000, "x", b"y")))
        yield bytes(Script().byte(2).raw(packed[5:]))
    enough = pack_hello(hellos[0]) + pack_answer(13, 0x6F00, "note") + pack_answer(2, 0x9000)
    yield bytes(Script().byte(0, 0).raw(enough))
    yield bytes(Script().byte(0, 0).raw(message(FAILED, b"no")))
    assert id_of_domain(DOMAIN) == hellos[0].id
    for number in (1, 13, 1001):
        asked = pack_request(7, 0xC0, 0, 0, number.to_bytes(2, "big"))
        yield bytes(Script().byte(1, 0).raw(asked))
        yield bytes(Script().byte(1, 2, 3, 8).raw(asked + pack_request(8, 0xC1, 0, 0, b"")))
    yield bytes(Script().byte(1, 0).raw(pack_request(9, 0xC9, 1, 2, b"body")))
    yield bytes(Script().byte(1, 0).raw(message(0x55, b"")))
