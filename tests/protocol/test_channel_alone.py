"""A record that came whole and alone: the same bytes as the others, and nothing taken otherwise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.errors import ChannelError
from asys.protocol.channel import MAX_MESSAGE, MAX_SHORT
from asys.protocol.limits import AEAD_TAG_SIZE
from protocol.channels import assert_broken, ends

MOST = MAX_SHORT - AEAD_TAG_SIZE
"""Bytes of the longest message that `open_alone` takes."""


@given(st.lists(st.tuples(st.binary(max_size=MOST), st.booleans(), st.booleans()), max_size=12))
def test_both_ways_can_follow_each_other_in_any_order(
    turns: list[tuple[bytes, bool, bool]],
) -> None:
    """Counters are shared: with the wrong one no record would open."""
    here, there = ends()
    reference = ends()[0]
    for message, seals_alone, opens_alone in turns:
        if seals_alone:
            record = here.seal_alone(message)
            here.sent()
        else:
            record = here.seal([message])
        assert record == reference.seal([message])
        if opens_alone:
            assert there.open_alone(record) == message
            there.took()
        else:
            there.feed(record)
            assert there.receive() == [message]
    assert repr(here) == f"<Channel open, {len(turns)} sent, 0 received>"
    assert repr(there) == f"<Channel open, 0 sent, {len(turns)} received>"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record: record[:-1],
        lambda record: record + b"\0",
        lambda record: record + record,
        lambda record: b"\1" + record[1:],
        lambda record: record[:1] + bytes([record[1] - 1]) + record[2:],
        lambda record: record[:-1] + bytes([record[-1] ^ 1]),
    ],
    ids=["cut", "a byte more", "two", "long", "shorter than it is", "damaged"],
)
def test_what_is_no_whole_record_is_left_to_receive(spoil: Callable[[bytes], bytes]) -> None:
    here, there = ends()
    record = here.seal([b"hello!"])
    assert there.open_alone(spoil(record)) is None
    assert there.buffered == 0
    assert there.open_alone(record) == b"hello!"


def test_a_record_behind_a_piece_of_another_does_not_come_alone() -> None:
    """Although it would open: what came before it is judged first, and ends the channel."""
    here, there = ends()
    there.feed(b"\0\x30piece")
    record = here.seal([b"hello!"])
    assert there.open_alone(record) is None
    there.feed(record + bytes(48))
    with pytest.raises(ChannelError, match="does not authenticate"):
        there.receive()


def test_the_longest_that_is_opened_and_the_first_that_is_not() -> None:
    here, there = ends()
    longest = here.seal([bytes(MOST)])
    assert there.open_alone(longest) == bytes(MOST)
    there.took()
    assert there.open_alone(here.seal([bytes(MOST + 1)])) is None


@pytest.mark.parametrize("size", [MOST, MOST + 1, 1000, MAX_MESSAGE])
def test_any_message_can_be_sealed(size: int) -> None:
    here, there = ends()
    record = here.seal_alone(bytes(size))
    assert record == ends()[0].seal([bytes(size)])
    there.feed(record)
    assert there.receive() == [bytes(size)]


def test_a_message_that_is_too_long_breaks_the_channel() -> None:
    here, _ = ends()
    with pytest.raises(ChannelError, match=f"has {MAX_MESSAGE + 1} bytes; {MAX_MESSAGE} is"):
        here.seal_alone(bytes(MAX_MESSAGE + 1))
    assert_broken(here)


def test_a_broken_channel_does_neither() -> None:
    here, there = ends()
    record = here.seal([b"hello"])
    for end in here, there:
        end.close()
    assert there.open_alone(record) is None
    with pytest.raises(ChannelError, match="broken"):
        here.seal_alone(b"x")


def test_new_keys_hold_for_both_ways() -> None:
    here, there = ends()
    there.feed(here.seal([b"before"]))
    there.receive()
    old = here.seal([b"old"])
    for end in here, there:
        end.rekey()
    assert there.open_alone(old) is None
