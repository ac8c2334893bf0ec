"""The caller without I/O: lost connections, deadlines, frames sent again."""

from __future__ import annotations

import struct

import pytest

from asys import errors, isa
from asys.client.caller import MAX_ABANDONED
from asys.client.signed import REMEMBERED
from asys.isa import Empty
from asys.protocol.status import SW
from client.pair import Pair, throttle
from support.wire_node import HELLO, OK

ALREADY = SW.ALREADY_RECEIVED.wire


# The end


def test_what_was_not_sent_failed_and_what_was_sent_signed_is_unknown() -> None:
    pair = Pair()
    _, plain = pair.call(isa.SYS_HELLO)
    _, signed = throttle(pair)
    pair.requests()
    _, unsent = throttle(pair)

    pair.caller.lost(ConnectionResetError(104, "Connection reset by peer"))

    assert type(plain.heard[0]) is errors.ConnectionLost
    assert "Connection reset by peer" in str(plain.heard[0])
    assert type(unsent.heard[0]) is errors.ConnectionLost
    (unknown,) = signed.heard
    assert type(unknown) is errors.OutcomeUnknown
    assert (unknown.instruction, unknown.seq) == ("PROC_THROTTLE", 1)
    assert unknown.__cause__ is pair.caller.error


def test_only_the_first_error_counts() -> None:
    pair = Pair()
    pair.caller.lost()
    first = pair.caller.error

    pair.caller.fail(errors.ProtocolError("later"))
    pair.caller.receive_data(b"more", 0.0)

    assert pair.caller.error is first


# Deadlines and abandoned requests


def test_a_late_answer_finds_its_place_and_the_connection_stays_usable() -> None:
    pair = Pair()
    _, late = pair.call(isa.SYS_HELLO, deadline=1.0)
    _, patient = pair.call(isa.SYS_HELLO, deadline=3.0)
    pair.requests()
    assert pair.caller.next_deadline() == 1.0

    pair.caller.expire(2.0)

    assert type(late.heard[0]) is errors.DeadlineExceeded
    assert not patient.heard
    assert pair.caller.next_deadline() == 3.0
    assert pair.caller.in_flight == 2
    pair.reply(HELLO.pack() + OK, HELLO.pack() + OK)
    assert patient.heard == [HELLO]
    assert len(late.heard) == 1
    assert pair.caller.in_flight == 0
    assert pair.caller.next_deadline() == float("inf")


def test_a_signed_request_past_its_deadline_is_unknown_unless_it_never_left() -> None:
    pair = Pair()
    _, sent = throttle(pair)
    pair.requests()
    _, unsent = throttle(pair)

    pair.caller.expire(11.0)

    assert isinstance(sent.heard[0], errors.OutcomeUnknown)
    assert isinstance(sent.heard[0].__cause__, errors.DeadlineExceeded)
    assert type(unsent.heard[0]) is errors.DeadlineExceeded
    assert pair.requests() == []
    assert pair.caller.in_flight == 1


def test_an_abandoned_request_that_has_not_left_never_leaves() -> None:
    pair = Pair()
    pending, ear = throttle(pair)
    pair.caller.abandon(pending)
    pair.caller.abandon(pending)

    _, other = throttle(pair)
    (frame,) = pair.requests()

    assert frame.data[:4] == b"\0\0\0\2"
    pair.reply(OK)
    assert other.heard == [Empty()]
    assert not ear.heard
    with pytest.raises(errors.ArgumentError):
        pair.caller.resend(1, 0.0)


def test_giving_up_on_an_answered_request_changes_nothing() -> None:
    pair = Pair()
    pending, ear = pair.call(isa.SYS_HELLO)
    pair.requests()
    pair.reply(HELLO.pack() + OK)

    pair.caller.abandon(pending)

    assert ear.heard == [HELLO]
    assert not pending.abandoned


def test_a_node_that_never_answers_is_given_up_on() -> None:
    pair = Pair()

    for _ in range(MAX_ABANDONED):
        pair.call(isa.SYS_HELLO)
        pair.requests()
        pair.caller.expire(11.0)
    assert pair.caller.error is None
    pair.call(isa.SYS_HELLO)
    pair.requests()
    pair.caller.expire(11.0)

    assert isinstance(pair.caller.error, errors.DeadlineExceeded)


# 6985


def test_6985_is_the_outcome_that_the_first_answer_had() -> None:
    pair = Pair()
    throttle(pair)
    (first,) = pair.requests()
    pair.reply(OK)

    _, again = pair.wait(pair.caller.resend(1, 0.0))
    assert pair.requests() == [first]
    pair.reply(ALREADY)

    assert again.heard == [Empty()]


def test_6985_is_the_failure_that_the_first_answer_was() -> None:
    pair = Pair()
    throttle(pair)
    pair.requests()
    pair.reply(b"\x6a\x80")

    _, again = pair.wait(pair.caller.resend(1, 0.0))
    pair.requests()
    pair.reply(ALREADY)

    assert type(again.heard[0]) is errors.InvalidPayload
    assert again.heard[0].instruction == "PROC_THROTTLE"


def test_6985_tells_the_handle_of_the_first_answer() -> None:
    pair = Pair()
    pair.call(isa.SVC_RESTART, "nginx")
    pair.requests()
    pair.reply(struct.pack(">I", 0x12345678) + OK)

    _, again = pair.wait(pair.caller.resend(1, 0.0))
    pair.requests()
    pair.reply(ALREADY)

    assert again.heard == [isa.TaskHandle(handle=0x12345678)]


def test_an_answer_that_came_too_late_for_its_caller_is_remembered() -> None:
    pair = Pair()
    _, late = throttle(pair)
    pair.requests()
    pair.caller.expire(11.0)
    assert isinstance(late.heard[0], errors.OutcomeUnknown)

    _, again = pair.wait(pair.caller.resend(1, 0.0))
    pair.requests()
    pair.reply(OK, ALREADY)

    assert again.heard == [Empty()]


def test_6985_without_a_first_answer_is_never_success() -> None:
    pair = Pair()
    _, ear = throttle(pair)
    pair.requests()
    pair.reply(ALREADY)

    (error,) = ear.heard
    assert type(error) is errors.AlreadyReceived
    assert isinstance(error, errors.OutcomeUnknown)
    assert (error.sw, error.instruction, error.seq) == (0x6985, "PROC_THROTTLE", 1)
    _, again = pair.wait(pair.caller.resend(1, 0.0))
    pair.requests()
    pair.reply(ALREADY)
    assert type(again.heard[0]) is errors.AlreadyReceived


def test_the_answer_to_a_repeated_frame_is_the_outcome_where_the_first_was_lost() -> None:
    pair = Pair()
    throttle(pair)
    pair.requests()
    pair.reply(ALREADY)
    _, second = pair.wait(pair.caller.resend(1, 0.0))
    _, third = pair.wait(pair.caller.resend(1, 0.0))
    pair.requests()

    pair.reply(OK, ALREADY)

    assert second.heard == [Empty()]
    assert third.heard == [Empty()]


def test_frames_are_kept_for_the_last_signed_requests_only() -> None:
    pair = Pair()
    for _ in range(REMEMBERED + 1):
        throttle(pair)
    pair.requests()
    pair.reply(*[OK] * (REMEMBERED + 1))

    with pytest.raises(errors.ArgumentError, match="seq 1 "):
        pair.caller.resend(1, 0.0)
    pair.caller.resend(2, 0.0)
    with pytest.raises(errors.ArgumentError):
        pair.caller.resend(REMEMBERED + 2, 0.0)
    pair.caller.lost()
    with pytest.raises(errors.ConnectionLost):
        pair.caller.resend(2, 0.0)


def test_nothing_that_holds_keys_shows_them() -> None:
    pair = Pair()
    keys = pair.node.keys
    assert keys is not None
    shown = repr(pair.caller) + repr(pair.caller.link) + repr(pair.exchanges)

    assert keys.agent_to_node.hex() not in shown
    assert repr(keys.agent_to_node) not in shown
