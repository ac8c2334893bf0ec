"""The caller without I/O: how a connection begins, requests, answers."""

from __future__ import annotations

from typing import Any

import pytest

from asys import errors, isa
from asys.client.address import Address
from asys.client.caller import Caller
from asys.client.exchange import Exchange
from asys.isa import Empty
from asys.protocol.apdu import Frame
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import MAX_DATA
from asys.protocol.link import NodeLink
from asys.protocol.noise import Responder
from asys.protocol.status import SW
from client.instructions import HUGE, LARGE, LONG, SECRET
from client.pair import Pair, throttle
from support.wire_node import HELLO, OK, answer_caps

# The beginning


def test_every_connection_begins_with_all_pages_of_sys_caps_in_one_write() -> None:
    pair = Pair(accept=False)

    asked = pair.requests()

    assert [(one.cla, one.ins, one.p2, one.data) for one in asked] == [(0, 0, 0, b"")] * 4
    assert [one.p1 for one in asked] == [1, 2, 3, 0]


@pytest.mark.parametrize("part_b", [False, True])
def test_a_node_speaks_part_b_when_it_echoes_the_page(part_b: bool) -> None:
    pair = Pair(part_b=part_b)

    assert pair.caller.lit.speaks_part_b is part_b
    assert pair.caller.lit.caps is not None
    assert pair.caller.lit.caps.core_bitmap == 0x0002_000F
    assert len(pair.opening.heard) == 1


def test_the_flag_bits_beside_the_page_do_not_matter() -> None:
    pair = Pair(accept=False)
    flagged = bytearray(answer_caps(pair.requests()[0], part_b=True))
    flagged[33] |= 0x80

    pair.reply(bytes(flagged), *[answer_caps(Frame(0, 0, 0, 0))] * 3)

    assert pair.caller.lit.speaks_part_b


def test_sys_caps_that_is_not_granted_is_no_failure_of_the_connection() -> None:
    pair = Pair(accept=False)
    pair.requests()

    pair.reply(*[b"\x6a\x81"] * 4)
    assert not pair.opening.heard
    assert [frame.ins for frame in pair.requests()] == [isa.KEY_STATEMENT.code]
    pair.reply(b"\x6a\x81")

    assert isinstance(pair.opening.heard[0], errors.NoSuchInstruction)
    assert pair.caller.error is None
    assert not pair.caller.lit.speaks_part_b
    _, ear = pair.call(isa.SYS_HELLO)
    pair.requests()
    pair.reply(HELLO.pack() + OK)
    assert ear.heard == [HELLO]


@pytest.mark.parametrize(
    ("first", "kind"), [(b"\x69\x82", errors.AgentRejected), (b"\x64\x00", errors.SessionLimit)]
)
@pytest.mark.parametrize("asked", [False, True])
def test_the_first_message_may_refuse_the_agent(
    first: bytes, kind: type[errors.LinkError], asked: bool
) -> None:
    pair = Pair(accept=False)
    if asked:
        pair.requests()

    pair.reply(first)

    assert type(pair.caller.error) is kind
    assert [type(one) for one in pair.opening.heard] == [kind]


def test_a_refusal_that_comes_with_message_2_is_heard_before_anything_is_sent() -> None:
    agent, key = PrivateKey.generate(), PrivateKey.generate()
    caller = Caller(agent, Address.of("node", 1), key.public)
    node = NodeLink(key)
    node.receive_data(caller.data_to_send())
    caller.receive_data(node.data_to_send(), 0.0)
    node.receive_data(caller.data_to_send())

    caller.receive_data(node.data_to_send() + node.seal([b"\x69\x82"]), 0.0)

    assert isinstance(caller.error, errors.AgentRejected)
    assert agent.public.hex() in str(caller.error)
    assert caller.data_to_send() == b""


@pytest.mark.parametrize("sw", [b"\x69\x82", b"\x64\x00"])
def test_after_the_first_answer_a_refusal_is_an_answer(sw: bytes) -> None:
    pair = Pair()
    _, ear = pair.call(isa.SYS_HELLO)
    pair.requests()

    pair.reply(sw)

    assert type(ear.heard[0]) is errors.STATUS_ERRORS[int.from_bytes(sw, "big")]
    assert pair.caller.error is None


def test_an_unknown_host_key_ends_it_before_message_1() -> None:
    agent, key = PrivateKey.generate(), PrivateKey.generate()
    caller = Caller(agent, Address.of("::1", 99), None)
    node = NodeLink(key)
    node.receive_data(caller.data_to_send())

    caller.receive_data(node.data_to_send(), 0.0)

    assert isinstance(caller.error, errors.UnknownHost)
    assert (caller.error.host, caller.error.key) == ("[::1]:99", key.public)
    assert caller.data_to_send() == b""


@pytest.mark.parametrize("end", ["closed", "garbage", "late"])
def test_a_changed_host_key_gets_a_message_for_the_known_key_alone(end: str) -> None:
    agent, key, known = (PrivateKey.generate() for _ in range(3))
    caller = Caller(agent, Address.of("node", 1), known.public)
    caller.opening.deadline = 5.0
    node = NodeLink(key)
    node.receive_data(caller.data_to_send())
    caller.receive_data(node.data_to_send(), 0.0)
    message_1 = caller.data_to_send()
    assert Responder(known).read_message_1(message_1) == agent.public
    with pytest.raises(errors.HandshakeError):
        node.receive_data(message_1)

    if end == "closed":
        caller.lost()
    elif end == "garbage":
        caller.receive_data(bytes(48), 0.0)
    else:
        caller.expire(5.0)

    assert isinstance(caller.error, errors.HostKeyChanged)
    assert (caller.error.key, caller.error.known) == (key.public, known.public)
    assert caller.data_to_send() == b""


def test_it_knows_what_the_node_owes() -> None:
    agent, key = PrivateKey.generate(), PrivateKey.generate()
    caller = Caller(agent, Address.of("node", 1), key.public)
    node = NodeLink(key)
    owed = [caller.stage]
    for _ in range(2):
        node.receive_data(caller.data_to_send())
        caller.receive_data(node.data_to_send(), 0.0)
        owed.append(caller.stage)
    node.receive_data(caller.data_to_send())
    caller.receive_data(node.seal([b"\x6a\x81"]), 0.0)

    assert [*owed, caller.stage] == [
        "show its key",
        "answer the handshake",
        "answer the first request",
        "answer",
    ]


@pytest.mark.parametrize("rounds", [0, 1, 2, 3])
def test_the_message_of_a_lost_connection_says_how_far_it_came(rounds: int) -> None:
    agent, key = PrivateKey.generate(), PrivateKey.generate()
    caller = Caller(agent, Address.of("node", 1), key.public)
    node = NodeLink(key)
    for _ in range(min(rounds, 2)):
        node.receive_data(caller.data_to_send())
        caller.receive_data(node.data_to_send(), 0.0)
    if rounds == 3:
        node.receive_data(caller.data_to_send())
        caller.receive_data(node.seal([b"\x6a\x81"]), 0.0)

    caller.lost()

    assert isinstance(caller.error, errors.ConnectionLost)
    says = ("before it showed its key", "during the handshake", "may not know this agent's key")
    assert (*says, "node:1 closed the connection")[rounds] in str(caller.error)
    assert [one in str(caller.error) for one in says].count(True) == (rounds < 3)


def test_a_connect_that_takes_too_long_ends_the_connection() -> None:
    pair = Pair(accept=False)
    pair.requests()
    pair.caller.opening.deadline = 5.0

    pair.caller.expire(4.9)
    before = pair.caller.error
    pair.caller.expire(5.0)

    assert before is None
    assert isinstance(pair.caller.error, errors.DeadlineExceeded)
    assert isinstance(pair.opening.heard[0], errors.DeadlineExceeded)


# Requests


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((0, "stop"), {}, "pid must be 1 to"),
        ((2**32, "stop"), {}, "pid must be 1 to"),
        (("7", "stop"), {}, "pid must be a number"),
        ((7, "halt"), {}, "'stop', 'continue'"),
        ((7, 2), {}, "'stop', 'continue'"),
        ((7,), {}, "proc_throttle\\(\\) missing 1 required positional argument: 'action'"),
        ((7, "stop"), {"signal": 9}, "unexpected keyword argument 'signal'"),
    ],
)
def test_wrong_arguments_cost_neither_bytes_nor_a_seq(
    args: tuple[Any, ...], kwargs: dict[str, Any], says: str
) -> None:
    pair = Pair()

    with pytest.raises(errors.ArgumentError, match=says):
        pair.caller.request(isa.PROC_THROTTLE, args, kwargs, 0.0)

    assert pair.caller.data_to_send() == b""
    assert pair.caller.link.signer.seq == 0


@pytest.mark.parametrize("name", ["", "a" * 65, "nginx.service", "Nginx", "../etc", "a b"])
def test_wrong_service_names_are_refused_here(name: str) -> None:
    pair = Pair()

    with pytest.raises(errors.ArgumentError):
        pair.caller.request(isa.SVC_RESTART, (name,), {}, 0.0)

    assert pair.caller.data_to_send() == b""


def test_extended_signed_frames_go_to_nodes_that_can_verify_them_only() -> None:
    deployed, ours = Pair(), Pair(part_b=True)

    with pytest.raises(errors.ArgumentError, match="cannot verify"):
        deployed.call(LONG, bytes(252))
    assert deployed.caller.data_to_send() == b""
    _, ear = ours.call(LONG, bytes(range(252)))
    (frame,) = ours.requests()

    assert ours.node.verifier.verify(frame) is None
    assert frame.data == b"\0\0\0\1" + bytes(range(252))
    ours.reply(OK)
    assert ear.heard == [Empty()]


def test_a_request_larger_than_any_frame_is_refused() -> None:
    with pytest.raises(errors.ArgumentError, match="at most"):
        Pair().call(HUGE, bytes(MAX_DATA + 1))


def test_an_instruction_that_must_be_encrypted_is_never_sent_otherwise() -> None:
    pair = Pair()

    with pytest.raises(errors.ArgumentError, match=r"encrypted.*does not speak part B"):
        pair.call(SECRET)

    assert pair.caller.data_to_send() == b""
    assert pair.caller.link.signer.seq == 0


def test_plain_and_signed_requests_share_one_pipeline_and_seq_counts_the_signed() -> None:
    pair = Pair()
    ears = [pair.call(isa.SYS_HELLO)[1], throttle(pair)[1], throttle(pair)[1]]

    hello, first, second = pair.requests()

    assert hello.cla == 0
    assert [pair.node.verifier.verify(frame) for frame in (first, second)] == [None, None]
    assert [frame.data[:4] for frame in (first, second)] == [b"\0\0\0\1", b"\0\0\0\2"]
    pair.reply(HELLO.pack() + OK, OK, b"\x6a\x80")
    assert [ear.heard[0] for ear in ears[:2]] == [HELLO, Empty()]
    assert isinstance(ears[2].heard[0], errors.InvalidPayload)


def test_large_requests_leave_in_pieces_and_small_ones_in_one() -> None:
    pair = Pair()
    for _ in range(100):
        pair.call(isa.SYS_HELLO)
    assert len(pair.caller.data_to_send()) == 100 * 24
    assert pair.caller.data_to_send() == b""

    for _ in range(5):
        pair.call(LARGE, bytes(60_000))
    pieces = []
    while piece := pair.caller.data_to_send():
        pieces.append(len(piece) // 60_000)

    assert pieces == [2, 2, 1]


# Answers


@pytest.mark.parametrize("sw", [sw for sw in SW if sw is not SW.SUCCESS])
def test_each_status_word_is_its_own_exception(sw: SW) -> None:
    pair = Pair()
    _, ear = pair.call(isa.SYS_HELLO)
    pair.requests()

    pair.reply(sw.wire)

    (error,) = ear.heard
    assert type(error) is errors.STATUS_ERRORS[sw]
    assert (error.sw, error.instruction) == (sw, "SYS_HELLO")
    assert error.meaning
    assert error.advice
    assert pair.caller.error is None


@pytest.mark.parametrize(
    ("sw", "kind"),
    [(0x6F42, errors.NodeError), (0x6401, errors.StatusError), (0x9001, errors.StatusError)],
)
def test_an_unknown_status_word_is_a_failure(sw: int, kind: type[errors.StatusError]) -> None:
    pair = Pair()
    _, ear = pair.call(isa.SYS_HELLO)
    pair.requests()

    pair.reply(HELLO.pack() + sw.to_bytes(2, "big"))

    assert type(ear.heard[0]) is kind
    assert ear.heard[0].sw == sw


def test_success_with_node_flags_is_success_and_the_exchange_has_the_flags() -> None:
    pair = Pair()
    _, ear = pair.call(isa.SYS_HELLO)
    pair.requests()

    pair.reply(HELLO.pack() + b"\x91\x01", now=0.25)

    assert ear.heard == [HELLO]
    (exchange,) = pair.exchanges
    assert exchange.succeeded
    assert exchange.node_flags == 1
    assert exchange == Exchange("SYS_HELLO", 0x9101, None, 250_000_000, 24, 36)


def test_the_exchange_of_a_signed_request_has_its_seq_and_no_flags() -> None:
    pair = Pair()
    throttle(pair)
    pair.requests()

    pair.reply(b"\x69\x82", now=1e-6)

    assert pair.exchanges == [Exchange("PROC_THROTTLE", 0x6982, 1, 1000, 48, 20)]
    assert not pair.exchanges[0].succeeded
    assert pair.exchanges[0].node_flags == 0


@pytest.mark.parametrize(
    "message", [b"", b"\x90", HELLO.pack()[:-1] + OK, HELLO.pack() + b"x" + OK]
)
def test_a_malformed_answer_ends_the_connection(message: bytes) -> None:
    pair = Pair()
    _, ear = pair.call(isa.SYS_HELLO)
    _, behind = pair.call(isa.SYS_HELLO)
    pair.requests()

    pair.reply(message)

    assert type(pair.caller.error) is errors.ProtocolError
    assert [type(one.heard[0]) for one in (ear, behind)] == [errors.ProtocolError] * 2
    assert ear.heard[0] is not behind.heard[0]


def test_a_malformed_answer_to_a_signed_request_leaves_its_outcome_unknown() -> None:
    pair = Pair()
    _, ear = pair.call(isa.SVC_RESTART, "nginx")
    pair.requests()

    pair.reply(b"\0\0" + OK)

    (error,) = ear.heard
    assert isinstance(error, errors.OutcomeUnknown)
    assert isinstance(error.__cause__, errors.ProtocolError)


def test_an_answer_to_nothing_ends_the_connection() -> None:
    pair = Pair()

    pair.reply(OK)

    assert type(pair.caller.error) is errors.ProtocolError
    with pytest.raises(errors.ConnectionLost, match="to nothing that was asked") as caught:
        pair.call(isa.SYS_HELLO)
    assert caught.value.__cause__ is pair.caller.error


def test_good_answers_in_front_of_a_broken_record_count() -> None:
    pair = Pair()
    _, good = pair.call(isa.SYS_HELLO)
    _, bad = throttle(pair)
    pair.requests()
    records = bytearray(pair.node.seal([HELLO.pack() + OK, OK]))
    records[-1] ^= 1

    pair.caller.receive_data(bytes(records), 0.0)

    assert good.heard == [HELLO]
    assert isinstance(bad.heard[0], errors.OutcomeUnknown)
    assert isinstance(bad.heard[0].__cause__, errors.ChannelError)


def test_answers_may_come_byte_by_byte() -> None:
    pair = Pair()
    ears = [pair.call(isa.SYS_HELLO)[1] for _ in range(3)]
    pair.requests()

    for byte in pair.node.seal([HELLO.pack() + OK] * 3):
        pair.caller.receive_data(bytes((byte,)), 0.0)

    assert [ear.heard for ear in ears] == [[HELLO]] * 3
