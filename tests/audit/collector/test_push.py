"""Messages of the push protocol, to the byte, and any bytes in place of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.audit import push
from asys.audit.push import Ack, BadPush, Open, Put, Refused, Stands, Unknown
from asys.audit.segments import KINDS

H = bytes(range(32))

kinds = st.sampled_from(KINDS)
u8, u32 = st.integers(0, 0xFF), st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, 2**64 - 1)
values = st.binary(min_size=32, max_size=32)

from_node = st.one_of(
    st.builds(Open, kinds, st.booleans()),
    st.builds(Put, kinds, u32, u64, st.binary(min_size=1, max_size=300)),
)
from_collector = st.one_of(
    st.builds(Stands, kinds, u32, u64, u64, values),
    st.builds(Ack, kinds, u64, values),
    st.builds(Refused, kinds, u8),
    st.just(Unknown()),
)

PARSERS = pytest.mark.parametrize("parse", [push.parse_from_node, push.parse_from_collector])

Parse = Callable[[bytes], push.FromNode | push.FromCollector]


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (Open("audit"), "01 00 00"),
        (Open("reads", anew=True), "01 01 01"),
        (Put("reads", 7, 41, b"xy"), "02 01 00000007 0000000000000029 7879"),
        (
            Stands("audit", 7, 41, 3, H),
            f"81 00 00000007 0000000000000029 0000000000000003 {H.hex()}",
        ),
        (Ack("reads", 3, H), f"82 01 0000000000000003 {H.hex()}"),
        (Refused("audit", 2), "83 00 02"),
        (Unknown(), "6982"),
    ],
)
def test_to_the_byte(message: push.FromNode | push.FromCollector, wire: str) -> None:
    data = bytes.fromhex(wire)
    assert message.pack() == data
    ours = push.parse_from_node if isinstance(message, Open | Put) else push.parse_from_collector
    other = push.parse_from_collector if ours is push.parse_from_node else push.parse_from_node
    assert ours(data) == message
    with pytest.raises(BadPush):
        other(data)


@given(from_node)
def test_what_a_node_says(message: push.FromNode) -> None:
    assert push.parse_from_node(message.pack()) == message


@given(from_collector)
def test_what_a_collector_says(message: push.FromCollector) -> None:
    assert push.parse_from_collector(message.pack()) == message


@PARSERS
@given(
    data=st.binary(max_size=80)
    | st.builds(
        bytes.__add__,
        st.sampled_from([b"\x01", b"\x02\x01", b"\x81\x00", b"\x82\x01", b"\x83", b"i"]),
        st.binary(max_size=60),
    )
)
def test_any_bytes_are_a_message_or_the_error(parse: Parse, data: bytes) -> None:
    try:
        message = parse(data)
    except BadPush:
        return
    assert message.pack() == data


@given(from_collector, st.binary(min_size=1, max_size=5))
def test_nothing_follows_a_message(message: push.FromCollector, more: bytes) -> None:
    with pytest.raises(BadPush):
        push.parse_from_collector(message.pack() + more)
    with pytest.raises(BadPush):
        push.parse_from_node(b"\x01\x00\x00" + more)


def test_the_bounds() -> None:
    longest = Put("audit", 1, 0, bytes(push.MAX_BYTES)).pack()
    assert len(longest) == push.MAX_MESSAGE
    assert push.parse_from_node(longest) == Put("audit", 1, 0, bytes(push.MAX_BYTES))
    for bad in (longest + b"x", longest[:14], b"\x02", b"\x01\x00\x02", b"\x01\x02\x00", b""):
        with pytest.raises(BadPush):
            push.parse_from_node(bad)
    for data in (b"", bytes(push.MAX_BYTES + 1)):
        with pytest.raises(ValueError, match="carries 1 to"):
            Put("audit", 1, 0, data).pack()
    with pytest.raises(ValueError, match="does not fit"):
        Put("audit", 1 << 32, 0, b"x").pack()
    with pytest.raises(ValueError, match="no chain"):
        Open("other").pack()
    for short in (Ack("audit", 1, b""), Stands("audit", 1, 1, 1, bytes(31))):
        with pytest.raises(ValueError, match="32 bytes"):
            short.pack()


def test_an_ack_is_an_anchor() -> None:
    assert Ack("audit", 3, H).anchor == f"3:{H.hex()}"
