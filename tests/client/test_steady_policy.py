"""What is tried again, when, and what never is: everything that decides without I/O."""

from __future__ import annotations

import math
import pickle
from itertools import islice
from typing import Any

import pytest

import asys
from asys import isa
from asys.client.backoff import delays
from asys.client.deadline import patience_of
from asys.client.reconnect import Outage, Reconnect, is_final
from asys.client.retry import Retry, Retrying
from asys.client.steady import MOST_SHOWN, Policy, ShownPids
from asys.client.vitals import Gap, Ticks, Vitals
from asys.errors import STATUS_ERRORS, StatusError, status_error
from asys.protocol.status import SW
from client.pair import Pair, throttle
from support.wire_node import HELLO, OK

KEY = bytes(32)

STATUS = isa.Status(
    load1=0.1,
    load5=0.1,
    cpu_percent=1,
    available_mb=1,
    root_used_percent=1,
    io_wait_ms=0,
    inbound_mbps=0,
    outbound_mbps=0,
    rpi_percent=0,
)


# Delays


def test_delays_double_up_to_the_most_and_are_cut_by_half_at_most() -> None:
    assert list(islice(delays(1, 5, lambda: 0.0), 5)) == [0.5, 1, 2, 2.5, 2.5]
    assert list(islice(delays(1, 5, lambda: 0.5), 4)) == [0.75, 1.5, 3, 3.75]
    assert list(islice(delays(9, 5, lambda: 0.0), 2)) == [2.5, 2.5]


def test_delays_differ_between_agents_by_themselves() -> None:
    policy = Reconnect()
    assert len({Outage(policy, 0.0).due for _ in range(20)}) > 1
    assert all(0.1 <= Outage(policy, 0.0).due < 0.2 for _ in range(20))


# Reconnecting


@pytest.mark.parametrize("name", ["first", "most", "within", "silence"])
@pytest.mark.parametrize("wrong", [0, -1, math.inf, math.nan, True, "1"])
def test_seconds_must_be_seconds(name: str, wrong: Any) -> None:
    with pytest.raises(asys.ArgumentError, match=name):
        Reconnect(**{name: wrong})


def test_what_else_must_be_right() -> None:
    wrong: Any = 1
    with pytest.raises(asys.ArgumentError, match="resend"):
        Reconnect(resend=wrong)
    said: dict[str, Any]
    for said in ({"blocked": -1}, {"blocked": 1.5}, {"busy": True}, {"first": 0}, {"most": 0}):
        with pytest.raises(asys.ArgumentError, match=next(iter(said))):
            Retry(**said)


FINAL = [
    asys.AgentRejected("no"),
    asys.HostKeyChanged("node:1", KEY, KEY),
    asys.UnknownHost("node:1", KEY),
    asys.Denied(),
    asys.NoSuchInstruction(),
    asys.InvalidPayload(),
    asys.IdentityError("no"),
]
PASSING = [
    asys.ConnectFailed("no"),
    asys.ConnectionLost("no"),
    asys.SessionLimit("no"),
    asys.DeadlineExceeded("no"),
    asys.HandshakeError("no"),
    asys.Blocked(),
    asys.NodeError(),
    asys.NodeOutOfMemory(),
]


@pytest.mark.parametrize("error", FINAL, ids=lambda one: type(one).__name__)
def test_a_refusal_and_another_key_are_final(error: asys.AsysError) -> None:
    assert is_final(error)
    assert Outage(Reconnect(), 0.0).failed(error, 0.0)


@pytest.mark.parametrize("error", PASSING, ids=lambda one: type(one).__name__)
def test_what_may_pass_is_tried_again(error: asys.AsysError) -> None:
    assert not is_final(error)
    assert not Outage(Reconnect(), 0.0).failed(error, 0.0)


def test_an_outage_is_over_after_its_time() -> None:
    outage = Outage(Reconnect(first=1, most=4, within=20, random=lambda: 0.0), 100.0)
    moments = [outage.due]
    while not outage.failed(asys.ConnectFailed("no"), outage.due):
        moments.append(outage.due)

    assert moments == [100.5, 101.5, 103.5, 105.5, 107.5, 109.5, 111.5, 113.5, 115.5, 117.5, 119.5]
    assert outage.attempts == len(moments)


def test_an_outage_without_a_limit_goes_on() -> None:
    outage = Outage(Reconnect(within=None), 0.0)
    assert not any(outage.failed(asys.ConnectFailed("no"), now) for now in (1.0, 1e6, 1e9))


def test_a_connection_that_does_not_last_goes_on_with_the_delays() -> None:
    outage = Outage(Reconnect(first=1, most=8, random=lambda: 0.0), 0.0)
    assert outage.due == 0.5
    outage.over(10.0)
    assert outage.anew(17.9)
    assert outage.due == 17.9 + 1.0
    outage.over(20.0)
    assert not outage.anew(28.0)


# Trying again for a status word


@pytest.mark.parametrize("sw", sorted(STATUS_ERRORS), ids=lambda sw: f"{sw:04X}")
@pytest.mark.parametrize(
    "instruction", [isa.SYS_STATUS, isa.PROC_THROTTLE], ids=lambda one: one.name
)
def test_only_6400_and_6f05_are_tried_again(sw: int, instruction: isa.AnyInstruction) -> None:
    retrying = Retrying(Retry(blocked=3, busy=2, random=lambda: 0.0), instruction)
    times = {SW.BLOCKED: 3, SW.NODE_BUSY: 2}.get(SW(sw), 0)
    waits = [retrying.after(status_error(sw)) for _ in range(5)]

    assert waits == [0.05, 0.1, 0.2, 0.4][:times] + [None] * (5 - times)


def test_6f05_is_not_tried_again_for_what_is_not_idempotent() -> None:
    assert not isa.REKEY.idempotent
    retrying = Retrying(Retry(), isa.REKEY)
    assert retrying.after(asys.NodeBusy()) is None
    assert retrying.after(asys.Blocked()) is not None


def test_without_a_policy_nothing_is_tried_again() -> None:
    retrying = Retrying(None, isa.SYS_STATUS)
    assert retrying.after(asys.Blocked()) is retrying.after(asys.NodeBusy()) is None


# What connect is told


def test_a_policy_of_nothing_is_none() -> None:
    assert Policy.of(None, None, None, ()) is Policy.of(False, False, None, []) is None


def test_true_is_the_usual_policy() -> None:
    policy = Policy.of(True, True, 25, ())
    assert policy == Policy(Reconnect(), Retry(), 25, ())
    assert Policy.of(Reconnect(first=3), None, None, ()) == Policy(
        Reconnect(first=3), None, None, ()
    )


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((1, None, None, ()), "reconnect must be a Reconnect"),
        ((None, "yes", None, ()), "retry must be a Retry"),
        ((None, None, 60, ()), "keepalive must be less than 60"),
        ((None, None, 0, ()), "keepalive"),
    ],
)
def test_a_wrong_policy_is_refused(arguments: tuple[Any, ...], match: str) -> None:
    with pytest.raises(asys.ArgumentError, match=match):
        Policy.of(*arguments)


async def test_connect_refuses_it_before_anything_else() -> None:
    with pytest.raises(asys.ArgumentError, match="keepalive"):
        await asys.connect("node.invalid", keepalive=60, node_key=KEY)
    with pytest.raises(asys.ArgumentError, match="keepalive"):
        asys.sync.connect(
            "node.invalid", keepalive=60, node_key=KEY, identity=asys.Identity.generate()
        )


# PIDs


def processes(*pids: int) -> isa.Processes:
    top = [
        isa.Process(pid=pid, cpu_percent=1.0, memory_percent=1, flags=isa.ProcessFlags(0))
        for pid in pids
    ]
    return isa.Processes(count=len(pids), top=tuple(top))


def test_a_pid_of_an_earlier_session_is_not_acted_on() -> None:
    shown = ShownPids()
    shown.saw(processes(7, 8), 1)
    shown.check(isa.PROC_THROTTLE, (7, "stop"), {}, 1)
    for instruction, args in ((isa.PROC_THROTTLE, (7, "stop")), (isa.NET_ISOLATE, (8, "isolate"))):
        with pytest.raises(asys.SessionEnded, match="look again"):
            shown.check(instruction, args, {}, 2)


def test_a_pid_that_was_never_shown_is_the_callers_own() -> None:
    shown = ShownPids()
    shown.saw(processes(7), 1)
    shown.check(isa.PROC_THROTTLE, (9, "stop"), {}, 2)


def test_a_pid_shown_again_is_fresh() -> None:
    shown = ShownPids()
    shown.saw(processes(7), 1)
    shown.saw(processes(7), 2)
    shown.check(isa.PROC_THROTTLE, (), {"pid": 7, "action": "stop"}, 2)


def test_what_takes_back_and_what_looks_is_never_refused() -> None:
    shown = ShownPids()
    shown.saw(processes(7), 1)
    shown.check(isa.PROC_THROTTLE, (7, "continue"), {}, 2)
    shown.check(isa.NET_ISOLATE, (7, "release"), {}, 2)
    shown.check(isa.PROC_TREE, (7,), {}, 2)


def test_a_wrong_argument_is_told_as_ever() -> None:
    with pytest.raises(asys.ArgumentError):
        ShownPids().check(isa.PROC_THROTTLE, ("seven", "stop"), {}, 1)


def test_what_is_remembered_is_bounded() -> None:
    shown = ShownPids()
    for pid in range(1, MOST_SHOWN + 2):
        shown.saw(processes(pid), 1)
    shown.check(isa.PROC_THROTTLE, (1, "stop"), {}, 2)
    with pytest.raises(asys.SessionEnded):
        shown.check(isa.PROC_THROTTLE, (2, "stop"), {}, 2)


# Exceptions


def test_an_unknown_outcome_is_neither_a_refusal_nor_a_lost_connection() -> None:
    assert not issubclass(asys.OutcomeUnknown, asys.StatusError | asys.LinkError)
    assert issubclass(asys.AlreadyReceived, asys.OutcomeUnknown)


def test_what_went_with_its_session_was_not_sent() -> None:
    assert issubclass(asys.SessionEnded, asys.LinkError)
    assert not issubclass(asys.SessionEnded, asys.OutcomeUnknown)
    assert str(pickle.loads(pickle.dumps(asys.SessionEnded("gone")))) == "gone"  # noqa: S301 ours


# Silence


def ended(pair: Pair) -> bool:
    return pair.caller.error is not None


def test_a_node_that_owes_an_answer_may_not_be_silent_for_ever() -> None:
    pair = Pair()
    pair.caller.silence.limit = 15.0
    _, first = pair.call(isa.SYS_HELLO, now=100.0, deadline=102.0)
    _, signed = throttle(pair, now=100.0)
    pair.requests()
    pair.caller.expire(102.0)
    assert isinstance(first.heard[0], asys.DeadlineExceeded)
    assert pair.caller.next_deadline() == 115.0

    pair.caller.expire(114.9)
    assert not ended(pair)
    pair.caller.expire(115.0)

    assert isinstance(pair.caller.error, asys.DeadlineExceeded)
    assert isinstance(signed.heard[0], asys.OutcomeUnknown)


def test_a_byte_is_an_answer_to_the_question_whether_it_lives() -> None:
    pair = Pair()
    pair.caller.silence.limit = 15.0
    for _ in range(2):
        pair.call(isa.SYS_HELLO, now=100.0, deadline=101.0)
    pair.requests()
    pair.reply(HELLO.pack() + OK, now=110.0)
    assert pair.caller.next_deadline() == 101.0
    pair.caller.expire(101.0)
    assert pair.caller.next_deadline() == 125.0


def test_a_node_that_owes_nothing_may_be_silent() -> None:
    pair = Pair()
    pair.caller.silence.limit = 15.0
    assert pair.caller.next_deadline() == math.inf
    pair.caller.expire(1e9)
    assert pair.caller.error is None


def test_a_call_that_may_take_longer_gives_the_node_that_time() -> None:
    pair = Pair()
    pair.caller.silence.limit = 15.0
    pair.call(isa.SYS_HELLO, now=100.0, deadline=160.0)
    pair.requests()
    pair.caller.expire(159.0)
    assert not ended(pair)
    pair.caller.expire(160.0)
    assert ended(pair)


# Keeping alive


def test_a_keep_alive_is_no_call() -> None:
    pair = Pair()
    pair.call(isa.SYS_HELLO, now=50.0)
    idle_from = pair.caller.renewal.idle_from
    pair.wait(pair.caller.keep_alive(60.0))

    assert pair.caller.spoke == 60.0
    assert pair.caller.renewal.idle_from == idle_from
    assert [frame.ins for frame in pair.requests()] == [1, 1]
    pair.caller.lost()
    with pytest.raises(asys.ConnectionLost):
        pair.caller.keep_alive(70.0)


# Readings


def test_readings_are_due_at_the_interval_and_none_is_made_up() -> None:
    ticks = Ticks(1.0, 100.0)
    assert ticks.left(100.0) == 0
    ticks.begin(100.0)
    assert ticks.left(100.25) == 0.75
    assert ticks.read(STATUS) == Vitals(STATUS, 0)
    ticks.begin(104.5)  # those of 101, 102 and 103 have passed
    assert ticks.read(STATUS) == Vitals(STATUS, 3)
    assert ticks.left(104.5) == 0.5


def test_a_gap_is_told_once_and_counted() -> None:
    ticks = Ticks(1.0, 0.0)
    lost = asys.ConnectionLost("no")
    ticks.begin(0.0)
    assert ticks.failed(lost, closed=False) == Gap(lost)
    for now in (1.0, 2.0):
        ticks.begin(now)
        assert ticks.failed(asys.Blocked(), closed=False) is None
    ticks.begin(3.0)
    assert ticks.read(STATUS).missed == 3
    ticks.begin(4.0)
    assert ticks.failed(asys.NodeBusy(), closed=False) is not None


@pytest.mark.parametrize(
    "error", [asys.Denied(), asys.NoSuchInstruction(), asys.NotSupported()], ids=str
)
def test_what_does_not_pass_ends_the_readings(error: StatusError) -> None:
    with pytest.raises(type(error)):
        Ticks(1.0, 0.0).failed(error, closed=False)


def test_a_closed_node_ends_the_readings() -> None:
    with pytest.raises(asys.ConnectionLost):
        Ticks(1.0, 0.0).failed(asys.ConnectionLost("no"), closed=True)


def test_the_interval_must_be_one() -> None:
    with pytest.raises(asys.ArgumentError, match="interval"):
        Ticks(0.0, 0.0)


# Deadlines


def test_without_a_block_the_usual_patience_holds() -> None:
    assert patience_of(None, 10.0, 0.0) == 10.0
    assert patience_of(3.0, 10.0, 0.0) == 3.0


def test_a_block_replaces_it_and_the_earlier_end_holds() -> None:
    from time import perf_counter

    with asys.deadline(1000):
        assert 900 < patience_of(None, 10.0, perf_counter()) <= 1000
        assert patience_of(3.0, 10.0, perf_counter()) == 3.0
        with asys.deadline(2000):
            assert patience_of(None, 10.0, perf_counter()) <= 1000
        with asys.deadline(100):
            assert patience_of(None, 10.0, perf_counter()) <= 100
            with pytest.raises(asys.DeadlineExceeded, match="was not made"):
                patience_of(None, 10.0, perf_counter() + 100)
        assert patience_of(None, 10.0, perf_counter()) > 900
    assert patience_of(None, 10.0, 0.0) == 10.0


@pytest.mark.parametrize("wrong", [0, -1, math.inf, "2"])
def test_a_deadline_must_be_one(wrong: Any) -> None:
    with pytest.raises(asys.ArgumentError, match="timeout"), asys.deadline(wrong):
        pass
