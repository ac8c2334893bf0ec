"""REKEY by the caller, without I/O: when it goes, what waits for it, what follows."""

from __future__ import annotations

import pytest

from asys import errors, isa
from asys.client.renewal import Renewal
from asys.client.upkeep import LOOK_SECONDS, REKEY_SECONDS
from asys.isa import Empty
from asys.protocol.status import SW
from client.instructions import SEALED_ECHO, SIGNED_ECHO, Number
from client.pair import Pair, throttle
from support.wire_node import HELLO, OK

REKEY = isa.REKEY.code
HELLO_REPLY = HELLO.pack() + OK


def ready(lit: str = "core,process,security", seconds: float = 100.0) -> Pair:
    """A connection whose keys are due at `seconds`."""
    return Pair(lit=lit, renewal=Renewal(seconds, None))


def codes(pair: Pair) -> list[int]:
    return [frame.ins for frame in pair.requests()]


def test_nothing_is_renewed_before_it_is_due() -> None:
    pair = ready()
    pair.call(isa.SYS_HELLO, now=99.9)

    assert codes(pair) == [isa.SYS_HELLO.code]


def test_a_due_rekey_goes_first_and_the_request_after_its_answer() -> None:
    pair = ready()
    _, ear = pair.call(isa.SYS_HELLO, now=100.0)

    assert codes(pair) == [REKEY]
    assert codes(pair) == []
    before = pair.node.keys
    pair.rekey(now=101.0)
    assert pair.node.keys != before

    assert codes(pair) == [isa.SYS_HELLO.code]
    pair.reply(HELLO_REPLY)
    assert ear.heard == [HELLO]
    pair.call(isa.SYS_HELLO, now=200.0)
    assert codes(pair) == [isa.SYS_HELLO.code]
    pair.reply(HELLO_REPLY)
    pair.call(isa.SYS_HELLO, now=201.0)
    assert codes(pair) == [REKEY]


def test_a_rekey_is_due_by_count() -> None:
    pair = Pair(lit="core", renewal=Renewal(None, 6))
    for _ in range(2):
        pair.call(isa.SYS_HELLO)
        assert codes(pair) == [isa.SYS_HELLO.code]  # 4 pages, and these
        pair.reply(HELLO_REPLY)

    pair.call(isa.SYS_HELLO)

    assert codes(pair) == [REKEY]
    pair.rekey()
    assert codes(pair) == [isa.SYS_HELLO.code]
    assert pair.caller.renewal.carried == 1


def test_what_is_in_flight_is_answered_under_the_old_keys() -> None:
    pair = ready()
    _, early = pair.call(isa.SYS_HELLO, now=99.0)
    pair.requests()
    _, late = throttle(pair, now=100.0)

    assert codes(pair) == [REKEY]
    pair.reply(HELLO_REPLY)
    assert early.heard == [HELLO]
    assert codes(pair) == []
    pair.rekey()
    (frame,) = pair.requests()
    assert pair.node.verifier.verify(frame) is None
    pair.reply(OK)
    assert late.heard == [Empty()]


def test_requests_made_meanwhile_wait_in_order_and_are_signed_with_the_new_keys() -> None:
    pair = ready()
    ears = [throttle(pair, now=100.0)[1]]
    assert codes(pair) == [REKEY]
    ears += [pair.call(isa.SYS_HELLO, now=100.0)[1], throttle(pair, now=100.0)[1]]
    assert pair.caller.data_to_send() == b""
    assert pair.caller.in_flight == 4

    pair.rekey()

    frames = pair.requests()
    assert [frame.ins for frame in frames] == [0x20, 0x01, 0x20]
    assert [pair.node.verifier.verify(frame) for frame in frames if frame.cla] == [None, None]
    assert pair.node.verifier.last_seq == 2
    pair.reply(OK, HELLO_REPLY, b"\x6a\x80")
    assert [type(ear.heard[0]) for ear in ears] == [Empty, isa.Hello, errors.InvalidPayload]


def test_encrypted_requests_are_encrypted_for_the_new_keys() -> None:
    pair = ready()
    _, ear = pair.call(SEALED_ECHO, 77, now=100.0)
    assert codes(pair) == [REKEY]
    pair.rekey()

    (frame,) = pair.requests()
    assert pair.node.verifier.verify(frame) is None
    clear = pair.node.verifier.open(frame)

    assert clear is not None
    assert clear.data[4:] == Number(number=77).pack()
    pair.reply(clear.data[4:] + OK)
    assert ear.heard == [Number(number=77)]


def test_nobody_sees_it() -> None:
    pair = ready()
    pair.call(isa.SYS_HELLO, now=100.0)
    pair.requests()
    pair.rekey(now=100.5)
    pair.requests()
    pair.reply(HELLO_REPLY, now=101.0)

    (exchange,) = pair.exchanges
    assert (exchange.instruction, exchange.round_trip_ns) == ("SYS_HELLO", 1_000_000_000)
    assert pair.caller.in_flight == 0


@pytest.mark.parametrize("sw", [SW.NO_SUCH_INSTRUCTION, SW.NOT_SUPPORTED, SW.BLOCKED, SW.DENIED])
def test_a_refused_rekey_changes_no_keys_and_is_not_tried_before_the_next_age(sw: SW) -> None:
    pair = ready()
    _, ear = throttle(pair, now=100.0)
    assert codes(pair) == [REKEY]

    pair.reply(sw.wire, now=101.0)

    (frame,) = pair.requests()
    assert pair.node.verifier.verify(frame) is None
    pair.reply(OK)
    assert ear.heard == [Empty()]
    pair.call(isa.SYS_HELLO, now=200.9)
    assert codes(pair) == [isa.SYS_HELLO.code]
    pair.reply(HELLO_REPLY)
    pair.call(isa.SYS_HELLO, now=201.0)
    again = [REKEY] if sw is not SW.NO_SUCH_INSTRUCTION else [isa.SYS_HELLO.code]
    assert codes(pair) == again


def test_success_with_node_flags_is_success() -> None:
    pair = ready()
    throttle(pair, now=100.0)
    pair.requests()
    pair.reply(b"\x91\x01")
    pair.node.rekey()

    (frame,) = pair.requests()

    assert pair.node.verifier.verify(frame) is None


def test_a_node_without_rekey_is_never_asked() -> None:
    pair = Pair(renewal=Renewal(100.0, 4))
    for _ in range(3):
        pair.call(isa.SYS_HELLO, now=1000.0)

    assert codes(pair) == [isa.SYS_HELLO.code] * 3


def test_never_is_never() -> None:
    pair = Pair(lit="core", renewal=Renewal(None, None))
    pair.call(isa.SYS_HELLO, now=LOOK_SECONDS - 1)

    assert codes(pair) == [isa.SYS_HELLO.code]


# Deadlines


def test_a_request_that_waited_too_long_for_rekey_never_leaves() -> None:
    pair = ready()
    _, late = pair.call(isa.SYS_HELLO, deadline=110.0, now=100.0)
    _, signed = pair.call(SIGNED_ECHO, 1, deadline=110.0, now=100.0)
    _, patient = pair.call(SIGNED_ECHO, 2, deadline=120.0, now=100.0)
    assert codes(pair) == [REKEY]
    assert pair.caller.next_deadline() == 110.0

    pair.caller.expire(110.0)

    assert [type(ear.heard[0]) for ear in (late, signed)] == [errors.DeadlineExceeded] * 2
    assert not patient.heard
    pair.rekey()
    (frame,) = pair.requests()
    assert pair.node.verifier.verify(frame) is None
    assert frame.data == b"\0\0\0\2" + Number(number=2).pack()


def test_an_abandoned_request_does_not_keep_the_rekey_from_its_end() -> None:
    pair = ready()
    pending, _ = throttle(pair, now=100.0)
    assert codes(pair) == [REKEY]
    pair.caller.abandon(pending)
    pair.rekey(now=100.0)

    assert codes(pair) == []
    _, ear = pair.call(isa.SYS_HELLO, now=100.0)
    assert codes(pair) == [isa.SYS_HELLO.code]
    pair.reply(HELLO_REPLY)
    assert ear.heard == [HELLO]


def test_a_rekey_that_could_not_leave_is_due_again_with_the_next_call() -> None:
    pair = ready()
    pair.call(isa.SYS_HELLO, now=100.0)  # nothing of it leaves: the socket takes nothing
    pair.caller.expire(100.0 + REKEY_SECONDS)

    _, ear = pair.call(isa.SYS_HELLO, now=200.0)

    assert codes(pair) == [REKEY]
    pair.rekey(now=201.0)
    assert codes(pair)[-1] == isa.SYS_HELLO.code
    assert not ear.heard


def test_a_connection_that_ends_during_rekey_leaves_no_outcome_open() -> None:
    pair = ready()
    _, signed = throttle(pair, now=100.0)
    pair.requests()

    pair.caller.lost()

    assert type(signed.heard[0]) is errors.ConnectionLost  # it was never sent


# Answers that do not belong


def test_what_comes_behind_the_answer_under_the_old_keys_ends_the_connection() -> None:
    pair = ready()
    pair.call(isa.SYS_HELLO, now=100.0)
    pair.requests()

    pair.reply(OK, HELLO_REPLY)

    assert isinstance(pair.caller.error, errors.ProtocolError)


def test_part_of_a_record_behind_the_answer_ends_the_connection() -> None:
    pair = ready()
    pair.call(isa.SYS_HELLO, now=100.0)
    pair.requests()
    records = pair.node.seal([OK])

    pair.caller.receive_data(records + b"\0", 0.0)

    assert isinstance(pair.caller.error, errors.ChannelError)


def test_a_node_that_keeps_its_old_keys_is_noticed() -> None:
    pair = ready()
    _, ear = pair.call(isa.SYS_HELLO, now=100.0)
    pair.requests()
    pair.reply(OK)  # and no new keys there

    pair.caller.data_to_send()
    pair.reply(HELLO_REPLY)

    assert isinstance(pair.caller.error, errors.ChannelError)
    assert isinstance(ear.heard[0], errors.ChannelError)


# By hand


def test_a_rekey_by_hand_is_a_request_like_any_other() -> None:
    pair = ready()
    _, ear = pair.call(isa.REKEY)
    _, behind = throttle(pair)

    assert codes(pair) == [REKEY]
    pair.rekey()
    assert ear.heard == [Empty()]
    (frame,) = pair.requests()
    assert pair.node.verifier.verify(frame) is None
    pair.reply(OK)
    assert behind.heard == [Empty()]
    assert [one.instruction for one in pair.exchanges] == ["REKEY", "PROC_THROTTLE"]


def test_a_due_rekey_and_one_by_hand_are_one() -> None:
    pair = ready()
    pair.call(isa.REKEY, now=100.0)
    assert codes(pair) == [REKEY]
    pair.rekey(now=100.0)
    pair.call(isa.SYS_HELLO, now=100.0)
    assert codes(pair) == [isa.SYS_HELLO.code]


def test_two_rekeys_in_a_row_go_one_after_the_other() -> None:
    pair = ready()
    ears = [pair.call(isa.REKEY)[1], pair.call(isa.REKEY)[1], throttle(pair)[1]]
    for _ in range(2):
        assert codes(pair) == [REKEY]
        pair.rekey()
    (frame,) = pair.requests()
    assert pair.node.verifier.verify(frame) is None
    pair.reply(OK)
    assert [ear.heard for ear in ears] == [[Empty()]] * 3


def test_a_rekey_by_hand_that_is_given_up_before_it_leaves_holds_nothing_back() -> None:
    pair = ready()
    pending, _ = pair.call(isa.REKEY)
    pair.caller.abandon(pending)
    throttle(pair)
    pair.call(isa.SYS_HELLO)

    assert codes(pair) == [0x20, 0x01]


# Sending again


def test_a_request_is_sent_again_under_the_keys_of_the_moment() -> None:
    pair = ready()
    throttle(pair)
    pair.requests()
    pair.reply(b"\x6a\x80")
    pair.call(isa.REKEY)
    pair.requests()
    pair.rekey()

    _, again = pair.wait(pair.caller.resend(1, 0.0))
    (frame,) = pair.requests()

    pair.node.verifier.last_seq = 1  # that of the first, which nobody verified here
    assert pair.node.verifier.verify(frame) is SW.ALREADY_RECEIVED  # the tag is right
    pair.reply(SW.ALREADY_RECEIVED.wire)
    assert type(again.heard[0]) is errors.InvalidPayload
    throttle(pair)
    (frame,) = pair.requests()
    assert frame.data[:4] == b"\0\0\0\2"


def test_a_request_sent_again_during_a_rekey_waits_and_gets_the_new_keys() -> None:
    pair = ready()
    throttle(pair)
    pair.requests()
    pair.reply(OK)
    _, again = pair.wait(pair.caller.resend(1, 100.0))
    assert codes(pair) == [REKEY]
    pair.rekey()

    (frame,) = pair.requests()

    assert pair.node.verifier.verify(frame) is None
    pair.reply(SW.ALREADY_RECEIVED.wire)
    assert again.heard == [Empty()]


def test_a_node_that_never_answers_a_rekey_has_lost_the_connection() -> None:
    pair = ready()
    _, patient = pair.call(isa.SYS_HELLO, deadline=1000.0, now=100.0)
    assert codes(pair) == [REKEY]

    pair.caller.expire(159.9)
    assert not patient.heard
    pair.caller.expire(160.0)

    with pytest.raises(errors.ConnectionLost, match="REKEY"):
        pair.call(isa.SYS_HELLO, now=161.0)
    assert [type(heard) for heard in patient.heard] == [errors.DeadlineExceeded]
