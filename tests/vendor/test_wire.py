"""What asyd and a worker say to each other, and what neither believes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.isa import Level
from asys.vendor.definition import MAX_REPLY
from asys.vendor.wire import (
    ANSWER,
    HELLO,
    MAX_NOTE,
    MAX_TO_NODE,
    MAX_TO_WORKER,
    REQUEST,
    Messages,
    WireError,
    describe,
    message,
    pack_answer,
    pack_hello,
    pack_request,
    unpack_answer,
    unpack_hello,
    unpack_request,
)
from support.vendor_workers import described, description
from vendor.test_definition import instruction, vendor

WHOLE = description(
    described(0xC0),
    described(0xFF, "OTHER", level=Level.ENC_SIGN, chainable=True, body_exact=False),
    described(0xD0, "OPEN", reply=7, reply_exact=False),
)


def body(data: bytes, kind: int) -> bytes:
    """The body of the one message in `data`."""
    [(found, inside)] = Messages(MAX_TO_WORKER).feed(data)
    assert found == kind
    return inside


def test_a_request() -> None:
    data = pack_request(7, 0xC0, 1, 2, b"body")
    assert data.hex() == "0000000c" + "01" + "00000007" + "c00102" + b"body".hex()
    assert unpack_request(body(data, REQUEST)) == (7, 0xC0, 1, 2, b"body")
    with pytest.raises(WireError):
        unpack_request(b"\0" * 6)


def test_an_answer() -> None:
    data = pack_answer(7, 0x9000, "note", b"reply")
    assert data.hex() == "00000012" + "82" + "00000007" + "9000" + "0004" + b"notereply".hex()
    assert unpack_answer(body(data, ANSWER)) == (7, 0x9000, "note", b"reply")
    cut = unpack_answer(body(pack_answer(7, 0x6F00, "\u00e4" * MAX_NOTE), ANSWER))
    assert len(cut[2]) == MAX_NOTE // 2


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 7,
        b"\0\0\0\1\x90\x00\0\5note",
        b"\0\0\0\1\x90\x00" + (MAX_NOTE + 1).to_bytes(2, "big") + bytes(MAX_NOTE + 1),
        b"\0\0\0\1\x90\x00\0\0" + bytes(MAX_REPLY + 1),
    ],
    ids=["cut", "short note", "long note", "long reply"],
)
def test_what_is_no_answer(data: bytes) -> None:
    with pytest.raises(WireError):
        unpack_answer(data)


def test_a_description() -> None:
    assert unpack_hello(body(pack_hello(WHOLE), HELLO)) == WHOLE
    assert WHOLE.bits == 1 << 0xC0 | 1 << 0xD0 | 1 << 0xFF


def test_what_a_vendor_is_described_as() -> None:
    made = vendor(instruction(), instruction(0xC1, "SECRET", level=Level.ENC_SIGN, chainable=True))
    what = describe(made)
    assert (what.domain, what.title, what.id) == ("example.com", "Example", made.id)
    first, second = what.instructions
    assert first == described(0xC0)
    assert second == described(0xC1, "SECRET", level=Level.ENC_SIGN, chainable=True)
    assert unpack_hello(body(pack_hello(what), HELLO)) == what


@pytest.mark.parametrize(
    "change",
    [
        {"domain": "EXAMPLE.com"},
        {"domain": "localhost"},
        {"domain": ""},
        {"id": 0x0001_0000},
        {"title": "a\nb"},
        {"instructions": ()},
        {"instructions": (described(), described())},
        {"instructions": (described(0x20),)},
        {"instructions": (described(level=Level.PLAIN),)},
    ],
)
def test_what_no_vendor_can_be(change: dict[str, Any]) -> None:
    wrong = dataclasses.replace(WHOLE, **change)
    with pytest.raises(WireError):
        unpack_hello(body(pack_hello(wrong), HELLO))


def test_another_version_of_the_wire() -> None:
    data = bytearray(body(pack_hello(WHOLE), HELLO))
    data[0] = 2
    with pytest.raises(WireError, match="version 2"):
        unpack_hello(bytes(data))


@given(st.data())
def test_a_damaged_description_is_told(data: st.DataObject) -> None:
    """It is one that could be, or a WireError; nothing else comes of any bytes."""
    whole = body(pack_hello(WHOLE), HELLO)
    at = data.draw(st.integers(0, len(whole)))
    damaged = whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + 1 :]
    for one in (damaged, whole[:at]):
        try:
            found = unpack_hello(one)
        except WireError:
            continue
        assert found.bits >> 0xC0
        assert not found.bits & (1 << 0xC0) - 1


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    for unpack in (unpack_hello, unpack_answer, unpack_request):
        try:
            unpack(data)
        except WireError:
            continue


@given(st.lists(st.binary(max_size=40), max_size=5), st.integers(1, 17))
def test_a_stream_in_pieces(bodies: list[bytes], size: int) -> None:
    stream = b"".join(message(ANSWER, one) for one in bodies)
    messages = Messages(MAX_TO_NODE)
    found = []
    for start in range(0, len(stream), size):
        found += messages.feed(stream[start : start + size])
    assert found == [(ANSWER, one) for one in bodies]


@pytest.mark.parametrize("length", [0, MAX_TO_NODE + 1, 0xFFFF_FFFF])
def test_a_length_is_looked_at_before_anything_is_kept(length: int) -> None:
    with pytest.raises(WireError):
        Messages(MAX_TO_NODE).feed(length.to_bytes(4, "big"))


def test_what_came_before_bad_bytes_is_delivered_first() -> None:
    messages = Messages(MAX_TO_NODE)
    answer = pack_answer(1, 0x9000)
    assert messages.feed(answer + bytes(4)) == [(ANSWER, answer[5:])]
    for _ in range(2):
        with pytest.raises(WireError, match="0 bytes"):
            messages.feed(b"")
