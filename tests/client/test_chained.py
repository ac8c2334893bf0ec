"""Calls in fragments, as a node sees them: what leaves when, and what a caller is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asys.client.caller import Caller
from asys.client.chained import FRAGMENT, fragments, is_too_long
from asys.client.pending import Pending
from asys.client.renewal import Renewal
from asys.errors import (
    ArgumentError,
    Blocked,
    ConnectionLost,
    DeadlineExceeded,
    InvalidPayload,
    NoSuchInstruction,
    OutcomeUnknown,
)
from asys.isa import CONTINUE, REKEY
from asys.protocol.apdu import CLA_EXTENDED, CLA_MORE, CLA_SEC, SEC_ENC_SIGN, SEC_SIGNED, Frame
from asys.protocol.limits import MAX_CHAIN, MAX_DATA, SEQ_SIZE
from client.pair import Ear, Pair
from support.chained import CHAINED, PLAIN, SEALED, Seen, declared, seen
from support.frames import (
    BLOCKED,
    INVALID_PAYLOAD,
    NO_SUCH_INSTRUCTION,
    OK,
    scrambled,
)

HANDLE = bytes.fromhex("0007c0de")
BODY = scrambled(MAX_DATA + 1000)
MANY = -(-len(BODY) // FRAGMENT)
LIT = "all,CONTINUE"


@pytest.fixture(autouse=True)
def chainable() -> Iterator[None]:
    with declared():
        yield


def call(
    pair: Pair, body: bytes = BODY, now: float = 0.0, **parameters: int
) -> tuple[Pending, Ear]:
    pending = pair.caller.request(CHAINED, (body,), parameters, now)
    ear = Ear()
    pending.waiter = ear
    return pending, ear


def payload(frame: Frame) -> bytes:
    return frame.data[SEQ_SIZE:] if frame.cla & CLA_SEC else frame.data


def joined(first: Frame, others: list[Frame]) -> bytes:
    """What the fragments carry together; each is of the form that it must have."""
    assert first.cla & CLA_MORE
    assert all(one.ins == CONTINUE.code for one in others)
    assert [bool(one.cla & CLA_MORE) for one in others] == [True] * (len(others) - 1) + [False]
    assert all(payload(one)[:4] == HANDLE for one in others)
    return payload(first) + b"".join(payload(one)[4:] for one in others)


def begun(pair: Pair) -> Frame:
    """The first fragment, which leaves alone, and is answered."""
    return begun_at(pair, 0.0)


def begun_at(pair: Pair, now: float) -> Frame:
    [first] = pair.requests()
    pair.reply(HANDLE + OK, now=now)
    return first


def test_a_payload_leaves_in_two_rounds_and_is_answered_once() -> None:
    pair = Pair(lit=LIT)
    pending, ear = call(pair, one=3, two=4)
    first = begun(pair)
    assert (first.ins, first.p1, first.p2) == (CHAINED.code, 3, 4)
    others = pair.requests()
    assert len(others) == MANY - 1
    assert joined(first, others) == BODY
    seqs = [int.from_bytes(one.data[:4], "big") for one in (first, *others)]
    assert seqs == list(range(1, MANY + 1))
    assert pending.seq == MANY
    for one in (first, *others):
        assert one.cla & (CLA_SEC | CLA_EXTENDED) == SEC_SIGNED | CLA_EXTENDED
        assert pair.node.verifier.verify(one) is None
    answer = seen(BODY, 3, 4)
    pair.reply(*[OK] * (MANY - 2), answer.pack() + OK)
    assert ear.heard == [answer]
    assert [(one.instruction, one.seq) for one in pair.exchanges] == [
        (CHAINED.name, seq) for seq in seqs
    ]


def test_what_fits_one_frame_is_not_cut() -> None:
    room = MAX_DATA - SEQ_SIZE
    assert not is_too_long(CHAINED, bytes(room))
    assert is_too_long(CHAINED, bytes(room + 1))
    assert is_too_long(SEALED, bytes(room - 15))
    assert is_too_long(PLAIN, bytes(MAX_DATA + 1))
    pair = Pair(lit=LIT)
    _, ear = call(pair, bytes(room))
    [frame] = pair.requests()
    assert (frame.ins, frame.cla) == (CHAINED.code, SEC_SIGNED | CLA_EXTENDED)
    pair.reply(seen(bytes(room)).pack() + OK)
    assert isinstance(ear.heard[0], Seen)


@pytest.mark.parametrize("size", [1, FRAGMENT, FRAGMENT + 1, MAX_CHAIN - 1, MAX_CHAIN])
def test_fragments_are_the_payload(size: int) -> None:
    found = list(fragments(scrambled(size)))
    assert b"".join(found) == scrambled(size)
    assert all(0 < len(one) <= FRAGMENT for one in found)


def test_more_than_256_kib_is_refused_before_anything_is_sent() -> None:
    pair = Pair(lit=LIT)
    with pytest.raises(ArgumentError, match="body must be 1 to 262144 bytes"):
        call(pair, bytes(MAX_CHAIN + 1))
    assert pair.requests() == []


def test_a_node_without_part_b_is_sent_no_fragment() -> None:
    pair = Pair()
    for one in (PLAIN, CHAINED, SEALED):
        with pytest.raises(ArgumentError, match="part B"):
            pair.caller.request(one, (BODY,), {}, 0.0)
    assert pair.requests() == []


def test_sealed_and_plain_chains() -> None:
    pair = Pair(lit=LIT)
    for instruction, sec in ((SEALED, SEC_ENC_SIGN), (PLAIN, 0)):
        pending = pair.caller.request(instruction, (BODY,), {}, 0.0)
        ear = pending.waiter = Ear()
        frames = pair.requests()
        pair.reply(HANDLE + OK)
        frames += pair.requests()
        assert {one.cla & CLA_SEC for one in frames} == {sec}
        clear = []
        for one in frames:
            if sec:
                assert pair.node.verifier.verify(one) is None
            opened = pair.node.verifier.open(one)
            assert opened is not None
            clear.append(opened)
        assert joined(clear[0], clear[1:]) == BODY
        pair.reply(*[OK] * (MANY - 2), seen(BODY).pack() + OK)
        assert ear.heard == [seen(BODY)]


# -- refusals


def test_a_refused_first_fragment_is_the_outcome() -> None:
    pair = Pair(lit=LIT)
    _, ear = call(pair)
    _, second = call(pair)
    assert len(pair.requests()) == 1
    pair.reply(BLOCKED)
    assert isinstance(ear.heard[0], Blocked)
    begun(pair)
    assert len(pair.requests()) == MANY - 1, "the next call has its turn"
    pair.reply(*[OK] * (MANY - 2), seen(BODY).pack() + OK)
    assert second.heard == [seen(BODY)]


def test_a_refused_fragment_is_the_outcome_and_not_what_follows_from_it() -> None:
    pair = Pair(lit=LIT)
    _, ear = call(pair)
    begun(pair)
    pair.requests()
    pair.reply(OK, BLOCKED, *[INVALID_PAYLOAD] * (MANY - 3))
    [error] = ear.heard
    assert isinstance(error, Blocked)
    assert pair.caller.in_flight == 0


def test_a_refused_last_fragment_is_the_outcome() -> None:
    for answer, kind in (
        (INVALID_PAYLOAD, InvalidPayload),
        (NO_SUCH_INSTRUCTION, NoSuchInstruction),
    ):
        pair = Pair(lit=LIT)
        _, ear = call(pair)
        begun(pair)
        pair.requests()
        pair.reply(*[OK] * (MANY - 2), answer)
        assert isinstance(ear.heard[0], kind)


# -- one at a time


def test_chains_begin_one_after_the_other_and_leave_room_for_others() -> None:
    pair = Pair(lit=LIT)
    _, first = call(pair)
    _, second = call(pair, BODY[::-1])
    [one] = pair.requests()
    pair.reply(HANDLE + OK)
    frames = pair.requests()
    assert frames[-1].ins == CHAINED.code, "the next one begins behind the last fragment"
    assert joined(one, frames[:-1]) == BODY
    pair.reply(*[OK] * (MANY - 2), seen(BODY).pack() + OK, HANDLE + OK)
    assert joined(frames[-1], pair.requests()) == BODY[::-1]
    pair.reply(*[OK] * (MANY - 2), seen(BODY[::-1]).pack() + OK)
    assert (first.heard, second.heard) == ([seen(BODY)], [seen(BODY[::-1])])


# -- giving up


def give_up(pair: Pair, pending: Pending) -> None:
    pair.caller.abandon(pending)


def test_a_call_given_up_before_its_handle_sends_nothing_more() -> None:
    pair = Pair(lit=LIT)
    pending, _ = call(pair)
    waiting, _ = call(pair)
    third, ear = call(pair)
    begun_first = pair.requests()
    give_up(pair, pending)
    give_up(pair, waiting)
    pair.reply(HANDLE + OK)
    [first] = pair.requests()
    assert (len(begun_first), first.ins) == (1, CHAINED.code)
    pair.reply(HANDLE + OK)
    assert joined(first, pair.requests()) == BODY
    assert not third.abandoned
    assert ear.heard == []


def test_a_call_given_up_before_anything_has_left_makes_room() -> None:
    pair = Pair(lit=LIT)
    pending, _ = call(pair)
    _, ear = call(pair, BODY[::-1])
    give_up(pair, pending)
    [first] = pair.requests()
    pair.reply(HANDLE + OK)
    assert joined(first, pair.requests()) == BODY[::-1]
    assert ear.heard == []


def test_a_call_given_up_before_its_fragments_leave_sends_none() -> None:
    pair = Pair(lit=LIT)
    pending, _ = call(pair)
    begun(pair)
    give_up(pair, pending)
    assert pair.requests() == []
    assert pair.caller.in_flight == 0


def test_a_deadline_before_the_last_fragment_has_a_clear_outcome() -> None:
    pair = Pair(lit=LIT)
    pending, ear = call(pair)
    pending.deadline = 5.0
    assert pair.caller.next_deadline() == 5.0
    pair.requests()
    pair.caller.expire(5.0)
    assert isinstance(ear.heard[0], DeadlineExceeded)
    pair.reply(HANDLE + OK)
    assert pair.requests() == []


def test_a_deadline_behind_the_last_fragment_leaves_the_outcome_unknown() -> None:
    pair = Pair(lit=LIT)
    pending, ear = call(pair)
    pending.deadline = 5.0
    begun(pair)
    pair.requests()
    pair.caller.expire(5.0)
    assert isinstance(ear.heard[0], OutcomeUnknown)


@pytest.mark.parametrize("stage", ["first", "handle"])
def test_a_connection_lost_before_the_last_fragment_has_a_clear_outcome(stage: str) -> None:
    pair = Pair(lit=LIT)
    _, ear = call(pair)
    _, behind = call(pair)
    if stage == "first":
        pair.requests()
    else:
        begun(pair)
    pair.caller.lost()
    for heard in (ear.heard, behind.heard):
        assert isinstance(heard[0], ConnectionLost)
    assert pair.caller.data_to_send() == b""


def test_a_connection_lost_behind_the_last_fragment_leaves_the_outcome_unknown() -> None:
    pair = Pair(lit=LIT)
    pending, ear = call(pair)
    begun(pair)
    pair.requests()
    pair.caller.lost()
    [error] = ear.heard
    assert isinstance(error, OutcomeUnknown)
    assert (error.seq, error.instruction) == (pending.seq, CHAINED.name)


def test_a_connection_that_has_ended_takes_no_chain() -> None:
    pair = Pair(lit=LIT)
    pair.caller.lost()
    with pytest.raises(ConnectionLost):
        call(pair)


# -- new keys, the same request again


def test_new_keys_in_the_middle_of_a_chain() -> None:
    """The fragments behind REKEY are made anew, with the Seq that they have."""
    pair = Pair(lit=LIT + ",REKEY", renewal=Renewal(seconds=10.0))
    _, ear = call(pair)
    first = begun_at(pair, 11.0)
    [rekey] = pair.requests()
    assert rekey.ins == REKEY.code
    assert pair.node.verifier.verify(first) is None
    pair.rekey(now=11.0)
    others = pair.requests()
    assert all(pair.node.verifier.verify(one) is None for one in others)
    assert joined(first, others) == BODY
    pair.reply(*[OK] * (MANY - 2), seen(BODY).pack() + OK)
    assert ear.heard == [seen(BODY)]


def test_the_last_fragment_can_be_sent_again() -> None:
    pair = Pair(lit=LIT)
    pending, ear = call(pair)
    begun(pair)
    last = pair.requests()[-1]
    pair.reply(*[OK] * (MANY - 2), seen(BODY).pack() + OK)
    again = pair.caller.resend(pending.seq, 0.0)
    told = again.waiter = Ear()
    assert pair.requests() == [last]
    pair.reply(b"\x69\x85")
    assert told.heard == ear.heard == [seen(BODY)]


def test_out_of_seq_is_told() -> None:
    pair = Pair(lit=LIT)
    caller: Caller = pair.caller
    caller.link.signer.seq = 0xFFFFFFFF - 1
    _, ear = call(pair)
    begun(pair)
    assert pair.requests() == []
    assert "Seq" in str(ear.heard[0])
