"""The life of a connection on the node's side: deadlines and ends, with a clock turned by hand."""

from __future__ import annotations

import logging
import struct
from collections.abc import AsyncIterator

import pytest

from asys.node.connection import (
    FRAME_SECONDS,
    HANDSHAKE_SECONDS,
    IDLE_SECONDS,
    LINGER_SECONDS,
    MAGIC_SECONDS,
)
from asys.node.health.counts import Closing
from asys.protocol.limits import MAGIC, MESSAGE_2_SIZE, PRE_HANDSHAKE_SIZE
from asys.protocol.link import LinkState
from support.frames import (
    CLASS_NOT_SUPPORTED,
    DENIED,
    HELLO,
    NO_SUCH_INSTRUCTION,
    OK,
    STATUS,
    WRONG_LENGTH,
    frame,
)
from support.node_rig import AGENT, OTHER, Rig, RigAgent
from support.services import SlowServices

MOMENT = 0.001


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.close()


def is_over(agent: RigAgent) -> bool:
    agent.rig.run()
    return agent.transport.over


def is_closed(agent: RigAgent) -> bool:
    return agent.session.closed


def expect_end_at(agent: RigAgent, seconds: float) -> None:
    """The connection ends so many seconds from now, not before, and without a word."""
    already = agent.read()
    agent.rig.advance(seconds - MOMENT)
    assert not is_over(agent)
    assert not is_closed(agent)
    agent.rig.advance(MOMENT)
    assert is_closed(agent)
    agent.rig.advance(LINGER_SECONDS)
    assert is_over(agent)
    assert agent.read() == b"", already


# -- deadlines before the session


@pytest.mark.parametrize("sent", [b"", b"A", b"ASY"])
def test_the_magic_has_a_second(rig: Rig, sent: bytes) -> None:
    agent = rig.dial()
    agent.write(sent)
    expect_end_at(agent, MAGIC_SECONDS)


def test_the_magic_does_not_get_another_second_for_its_last_byte(rig: Rig) -> None:
    agent = rig.dial()
    agent.write(b"AS")
    rig.advance(0.9)
    agent.write(b"Y")
    expect_end_at(agent, MAGIC_SECONDS - 0.9)


@pytest.mark.parametrize("sent", [0, 1, 95])
def test_the_handshake_has_five_seconds_from_the_first_moment(rig: Rig, sent: int) -> None:
    agent = rig.dial()
    rig.advance(0.9)
    agent.write(MAGIC)
    assert len(agent.read()) == PRE_HANDSHAKE_SIZE
    rig.advance(3.0)
    agent.write(bytes(sent))
    expect_end_at(agent, HANDSHAKE_SECONDS - 3.9)


def test_a_handshake_in_time_is_not_ended_by_its_own_deadlines(rig: Rig) -> None:
    agent = rig.connect()
    rig.advance(HANDSHAKE_SECONDS + MAGIC_SECONDS)
    assert agent.ask(HELLO)[0].endswith(OK)


# -- deadlines of a session


def test_a_session_without_a_request_ends_after_a_minute(rig: Rig) -> None:
    expect_end_at(rig.connect(), IDLE_SECONDS)


def test_a_request_gives_another_minute(rig: Rig) -> None:
    agent = rig.connect()
    rig.advance(IDLE_SECONDS - 1)
    assert agent.ask(HELLO)[0].endswith(OK)
    expect_end_at(agent, IDLE_SECONDS)


def test_half_a_frame_is_no_request(rig: Rig) -> None:
    agent = rig.connect()
    rig.advance(IDLE_SECONDS - 1)
    agent.send(HELLO[:3])
    expect_end_at(agent, 1)


@pytest.mark.parametrize("size", [1, 4, 6, 7, 40, 253])
def test_a_frame_that_has_begun_has_ten_seconds(rig: Rig, size: int) -> None:
    agent = rig.connect()
    agent.send(frame(0x01, bytes(250))[:size])
    expect_end_at(agent, FRAME_SECONDS)


@pytest.mark.parametrize("size", [1, 2, 3, 23])
def test_a_record_that_has_begun_has_ten_seconds(rig: Rig, size: int) -> None:
    agent = rig.connect()
    agent.write(agent.sealed(HELLO)[:size])
    expect_end_at(agent, FRAME_SECONDS)


def test_more_of_the_same_frame_gives_no_more_time(rig: Rig) -> None:
    agent = rig.connect()
    whole = frame(0x01, bytes(250))
    for position in range(9):
        agent.send(whole[position : position + 1])
        rig.advance(1.0)
    expect_end_at(agent, FRAME_SECONDS - 9)


def test_the_next_frame_has_its_own_ten_seconds(rig: Rig) -> None:
    agent = rig.connect()
    agent.send(HELLO[:3])
    rig.advance(9.0)
    assert agent.ask(HELLO[3:] + HELLO[:3])[0].endswith(OK)
    rig.advance(9.0)
    assert agent.ask(HELLO[3:])[0].endswith(OK)
    expect_end_at(agent, IDLE_SECONDS)


def test_half_a_frame_costs_nothing_while_it_waits(rig: Rig) -> None:
    agent = rig.session()
    rig.advance(6.0)  # the sampler sleeps
    agent.send(frame(0x01, bytes(250))[:200])
    assert [handle.due > rig.clock.now() for handle in rig.clock.pending] == [True]


async def test_while_the_node_works_the_ten_seconds_do_not_count() -> None:
    services = SlowServices()
    rig = Rig(services=services)
    agent = rig.connect()
    agent.send(agent.restart("web"), HELLO[:3])
    await rig.settle()
    rig.advance(3 * FRAME_SECONDS)
    services.resolving.set()
    services.restarting.set()
    await rig.settle()
    assert [answer[-2:] for answer in agent.responses()] == [OK]
    expect_end_at(agent, FRAME_SECONDS)
    await rig.close()


async def test_nor_do_those_of_the_frame_that_it_works_on() -> None:
    services = SlowServices()
    rig = Rig(services=services)
    agent = rig.connect()
    request = agent.restart("web")
    agent.send(request[:10])
    rig.advance(FRAME_SECONDS - 1)
    agent.send(request[10:])
    await rig.settle()
    rig.advance(FRAME_SECONDS)
    services.resolving.set()
    services.restarting.set()
    await rig.settle()
    assert [answer[-2:] for answer in agent.responses()] == [OK]
    await rig.close()


async def test_no_timer_is_left_of_a_connection_that_is_gone(rig: Rig) -> None:
    for sent in (b"", MAGIC):
        agent = rig.dial()
        agent.write(sent)
        agent.transport.lose()
    agent = rig.connect()
    agent.send(HELLO[:3])
    agent.transport.lose(ConnectionResetError())
    refused = rig.connect(OTHER)
    refused.transport.lose()
    rig.advance(6.0)  # the sampler, which the session woke, sleeps
    assert rig.clock.pending == []


# -- the node's last word


def refused(agent: RigAgent, message: bytes, answer: bytes) -> None:
    """The answer arrives, then the end of what the node sends; nothing further is read."""
    assert agent.ask(HELLO, message, HELLO)[1:] == [answer]
    assert agent.transport.eof_sent
    assert not agent.transport.over


def test_a_refused_agent_has_a_second_to_read_why(rig: Rig) -> None:
    agent = rig.connect()
    refused(agent, b"\x20\x01\0\0\0\0", CLASS_NOT_SUPPORTED)
    rig.advance(LINGER_SECONDS - MOMENT)
    assert not agent.transport.over
    rig.advance(MOMENT)
    assert agent.transport.over


def test_what_a_refused_agent_still_sends_is_not_read_and_gains_nothing(rig: Rig) -> None:
    agent = rig.connect()
    refused(agent, b"\x01\x01\0\0\0\0", WRONG_LENGTH)
    for _ in range(9):
        rig.advance(LINGER_SECONDS / 10)
        agent.send(HELLO)
    assert agent.responses() == []
    rig.advance(LINGER_SECONDS / 10)
    assert agent.transport.over


def test_a_refused_agent_that_closes_is_gone_at_once(rig: Rig) -> None:
    agent = rig.connect()
    refused(agent, agent.signed(0x01, bad=True), DENIED)
    agent.transport.send_eof()
    assert agent.transport.over


def test_a_stranger_gets_one_word_whatever_it_sends_along(rig: Rig) -> None:
    stranger = rig.connect(OTHER)
    stranger.send(HELLO, HELLO)
    assert stranger.responses() == [DENIED]
    assert stranger.transport.eof_sent
    assert rig.node.session_count == 0


def test_a_session_that_is_idle_is_closed_with_what_it_did_not_read() -> None:
    rig = Rig()
    agent = rig.connect()
    agent.transport.taking = False
    agent.send(*[HELLO] * 4000)
    rig.run()
    assert not agent.transport.reading
    rig.advance(IDLE_SECONDS)
    assert agent.session.closed
    rig.advance(LINGER_SECONDS)
    assert agent.transport.over


def test_a_session_is_closed_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    agent = rig.session()
    with caplog.at_level(logging.INFO, "asyd.session"):
        agent.session.close(Closing.ADMIN)
        agent.session.close(Closing.IDLE)
    assert [record.getMessage() for record in caplog.records] == [
        "closed agent 192.0.2.1:4711: the admin closed it"
    ]


# -- the agent's end of sending


def test_an_end_before_the_session_ends_the_connection(rig: Rig) -> None:
    for sent in (b"", b"AS", MAGIC):
        agent = rig.dial()
        agent.write(sent)
        agent.transport.send_eof()
        assert is_over(agent)


@pytest.mark.parametrize("size", [0, 3, 5])
def test_an_end_behind_answered_requests_ends_the_session(rig: Rig, size: int) -> None:
    agent = rig.connect()
    agent.send(HELLO, HELLO, HELLO[:size])
    agent.transport.send_eof()
    assert [answer[-2:] for answer in agent.responses()] == [OK, OK]
    assert is_over(agent)


def test_an_end_behind_many_requests_waits_for_all_answers(rig: Rig) -> None:
    agent = rig.connect()
    agent.send(*[HELLO] * 1000)
    agent.transport.send_eof()
    rig.run()
    assert len(agent.responses()) == 1000
    assert is_over(agent)


async def test_an_end_behind_an_answer_that_takes_time_waits_for_it(rig: Rig) -> None:
    agent = rig.connect()
    agent.send(STATUS, frame(0x04))
    agent.transport.send_eof()
    assert not is_over(agent)
    await rig.until(lambda: agent.transport.over)
    status, last = agent.responses()
    assert status.endswith(OK)
    assert last == NO_SUCH_INSTRUCTION


def test_an_end_behind_answers_that_nobody_reads_does_not_last(rig: Rig) -> None:
    agent = rig.connect()
    agent.transport.taking = False
    agent.send(*[HELLO] * 60)
    agent.transport.send_eof()
    rig.run()
    assert not agent.transport.over  # 60 answers are less than what stops a session
    rig.advance(IDLE_SECONDS)
    rig.advance(LINGER_SECONDS)
    assert agent.transport.over


# -- what does not belong to the protocol


@pytest.mark.parametrize("sent", [b"\0", b"B", b"AX", b"ASYT", b"asys", b"GET / HTTP/1.1\r\n\r\n"])
def test_a_wrong_magic_ends_it_at_the_first_wrong_byte(rig: Rig, sent: bytes) -> None:
    agent = rig.dial()
    agent.write(sent)
    assert is_over(agent)
    assert agent.read() == b""


def test_a_wrong_message_1_ends_it_without_a_byte(rig: Rig) -> None:
    agent = rig.dial()
    agent.write(MAGIC)
    agent.read()
    agent.write(bytes(96))
    assert is_over(agent)
    assert agent.read() == b""


def test_bytes_behind_message_1_are_a_record_of_the_session(rig: Rig) -> None:
    agent = rig.dial()
    agent.magic()
    agent.link.receive_data(agent.read())
    agent.link.begin_handshake()
    agent.write(agent.link.data_to_send() + struct.pack(">H", 20) + bytes(20))
    assert len(agent.read()) == MESSAGE_2_SIZE
    assert is_over(agent)


@pytest.mark.parametrize("size", range(16))
def test_a_record_shorter_than_its_tag_ends_it(rig: Rig, size: int) -> None:
    agent = rig.connect()
    agent.write(struct.pack(">H", size))
    assert is_over(agent)
    assert agent.read() == b""


def test_a_record_that_was_sent_before_ends_it(rig: Rig) -> None:
    agent = rig.connect()
    record = agent.sealed(HELLO)
    agent.write(record)
    assert len(agent.responses()) == 1
    agent.write(record)
    assert is_over(agent)
    assert agent.read() == b""


def test_an_empty_message_is_no_fault(rig: Rig) -> None:
    agent = rig.connect()
    assert agent.ask(b"", b"") == []
    assert [answer[-2:] for answer in agent.ask(b"", HELLO[:2], b"", HELLO[2:])] == [OK]


def test_every_byte_alone_makes_the_same_session(rig: Rig) -> None:
    agent = rig.dial()
    agent.magic()
    agent.link.receive_data(agent.read())
    agent.link.begin_handshake()
    for byte in agent.link.data_to_send():
        agent.write(bytes((byte,)))
    agent.link.receive_data(agent.read())
    assert agent.link.state is LinkState.OPEN
    for byte in agent.sealed(HELLO, frame(0x04), agent.signed(0x01)):
        agent.write(bytes((byte,)))
    first, second, third = agent.responses()
    assert (first[:4], second, third[:4]) == (MAGIC, NO_SUCH_INSTRUCTION, MAGIC)


@pytest.mark.parametrize(
    ("peer", "name"),
    [(("192.0.2.1", 5), "192.0.2.1:5"), ("", "unix"), (None, "gone")],
)
def test_who_is_there_before_its_name_is_known(rig: Rig, peer: object, name: str) -> None:
    assert rig.dial(peer).session.name == name


def test_a_session_has_its_agents_name(rig: Rig) -> None:
    assert rig.connect(AGENT).session.name == "agent"
