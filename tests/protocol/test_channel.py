"""Records: any pieces, any damage, and a broken channel that stays broken."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from asys.errors import ChannelError
from asys.protocol.channel import MAX_MESSAGE
from asys.protocol.limits import MAX_RECORD
from protocol.channels import HERE, assert_broken, ends
from protocol.streams import cut, marks

messages = st.lists(st.binary(max_size=200), max_size=8)


@given(messages, marks)
def test_any_split_gives_the_same_messages(sent: list[bytes], at: list[int]) -> None:
    here, there = ends()
    received = []
    for piece in cut(here.seal(sent), at):
        there.feed(piece)
        received += there.receive()
    assert received == sent
    assert there.buffered == 0
    there.feed(here.seal([b"next"]))
    assert there.receive() == [b"next"]


@given(st.lists(messages, max_size=4))
def test_both_directions_have_a_counter_of_their_own(turns: list[list[bytes]]) -> None:
    here, there = ends()
    for turn in turns:
        there.feed(here.seal(turn))
        assert there.receive() == turn
        here.feed(there.seal(turn[:1]))
        assert here.receive() == turn[:1]


@given(messages)
def test_a_batch_is_the_same_bytes_as_one_by_one(sent: list[bytes]) -> None:
    batch, single = ends()[0], ends()[0]
    assert batch.seal(sent) == b"".join(single.seal([message]) for message in sent)
    assert repr(batch) == repr(single) == f"<Channel open, {len(sent)} sent, 0 received>"


def test_a_record_is_what_section_1_says() -> None:
    """Length, then RFC 8439 with 4 zero bytes and a little-endian counter, no associated data."""
    here, _ = ends()
    cipher = ChaCha20Poly1305(HERE)
    for counter in range(3):
        sealed = cipher.encrypt(bytes(4) + counter.to_bytes(8, "little"), b"hello", None)
        assert here.seal([b"hello"]) == len(sealed).to_bytes(2, "big") + sealed


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=8), st.integers(1, 9))
def test_limit(sent: list[bytes], limit: int) -> None:
    here, there = ends()
    records = here.seal(sent)
    there.feed(records)
    assert there.receive(0) == []
    assert there.buffered == len(records)
    received: list[bytes] = []
    while batch := there.receive(limit):
        assert len(batch) == min(limit, len(sent) - len(received))
        received += batch
        left = sum(len(message) + 18 for message in sent[len(received) :])
        assert there.buffered == left
    assert received == sent


def test_bytes_fed_while_a_limit_holds_others_back() -> None:
    here, there = ends()
    there.feed(here.seal([b"1", b"2"]))
    assert there.receive(1) == [b"1"]
    there.feed(here.seal([b"3"]))
    assert there.receive() == [b"2", b"3"]


@given(messages, st.binary(max_size=60), st.integers(0), st.integers(0, 7), messages)
def test_a_flipped_bit_breaks_the_channel_for_good(
    before: list[bytes], hit: bytes, position: int, bit: int, after: list[bytes]
) -> None:
    here, there = ends()
    good = here.seal(before)
    record = bytearray(here.seal([hit]))
    record[2 + position % (len(record) - 2)] ^= 1 << bit
    there.feed(good + bytes(record) + here.seal(after))
    if before:
        assert there.receive() == before
        assert not there.broken
    with pytest.raises(ChannelError, match="does not authenticate"):
        there.receive()
    assert_broken(there)


@given(messages, st.binary(max_size=60), st.integers(0, 15))
def test_a_flipped_bit_in_a_length_gives_no_message_of_it(
    before: list[bytes], hit: bytes, bit: int
) -> None:
    here, there = ends()
    good = here.seal(before)
    record = bytearray(here.seal([hit]))
    record[bit // 8] ^= 0x80 >> bit % 8
    there.feed(good + bytes(record))
    received = there.receive() if before else []
    there.feed(bytes(MAX_RECORD + 2))  # so that a length that has grown is there too
    with pytest.raises(ChannelError):
        there.receive()
    assert received == before
    assert_broken(there)


@pytest.mark.parametrize("length", range(16))
def test_a_record_shorter_than_its_tag(length: int) -> None:
    here, there = ends()
    there.feed(here.seal([b"before"]) + length.to_bytes(2, "big"))
    assert there.receive() == [b"before"]
    with pytest.raises(ChannelError, match="shorter than its own tag"):
        there.receive()
    assert_broken(there)


def test_a_length_is_judged_before_its_bytes_are_there() -> None:
    there = ends()[1]
    there.feed(b"\x00")
    assert there.receive() == []
    there.feed(b"\x0f")
    with pytest.raises(ChannelError, match="shorter than its own tag"):
        there.receive()
    assert_broken(there)


def test_a_record_sent_again_does_not_open() -> None:
    here, there = ends()
    record = here.seal([b"once"])
    there.feed(record)
    assert there.receive() == [b"once"]
    there.feed(record)
    with pytest.raises(ChannelError, match="does not authenticate"):
        there.receive()
    assert_broken(there)


def test_a_record_left_out_is_seen() -> None:
    here, there = ends()
    here.seal([b"lost"])
    there.feed(here.seal([b"second"]))
    with pytest.raises(ChannelError, match="does not authenticate"):
        there.receive()


def test_a_record_does_not_open_at_its_own_end() -> None:
    here, _ = ends()
    here.feed(here.seal([b"reflected"]))
    with pytest.raises(ChannelError, match="does not authenticate"):
        here.receive()


def test_the_largest_message() -> None:
    assert MAX_MESSAGE == 65_519
    here, there = ends()
    record = here.seal([bytes(MAX_MESSAGE)])
    assert record[:2] == b"\xff\xff"
    there.feed(record[:-1])
    assert there.receive() == []
    assert there.buffered == len(record) - 1
    there.feed(record[-1:])
    assert there.receive() == [bytes(MAX_MESSAGE)]


@pytest.mark.parametrize("before", [[], [b"first"]])
def test_a_message_that_is_too_large_breaks_the_channel(before: list[bytes]) -> None:
    here, _ = ends()
    with pytest.raises(ChannelError, match="a message has 65520 bytes; 65519 is the most"):
        here.seal([*before, bytes(MAX_MESSAGE + 1)])
    assert_broken(here)


def test_close_drops_what_was_fed() -> None:
    here, there = ends()
    there.feed(here.seal([b"1", b"2"]))
    assert there.receive(1) == [b"1"]
    there.close()
    assert there.buffered == 0
    assert_broken(there)


@given(st.lists(st.binary(max_size=100), max_size=10))
def test_any_bytes_give_nothing_or_a_channel_error(pieces: list[bytes]) -> None:
    there = ends()[1]
    fed = 0
    for piece in pieces:
        there.feed(piece)
        fed += len(piece)
        try:
            assert there.receive() == []
        except ChannelError:
            assert_broken(there)
            return
        assert there.buffered == fed


def test_fed_in_single_bytes_with_whole_records_between() -> None:
    here, there = ends()
    received = []
    for byte in here.seal([b"", b"a", bytes(300)]):
        there.feed(bytes((byte,)))
        received += there.receive()
    assert received == [b"", b"a", bytes(300)]
