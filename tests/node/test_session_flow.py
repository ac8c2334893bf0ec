"""Requests and answers of one session: order, turns, back pressure, and what must wait."""

from __future__ import annotations

import logging
import struct
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

import pytest

from asys.node.connection import FRAME_SECONDS, IDLE_SECONDS, WRITE_BUFFER
from asys.node.health.counts import Closing
from asys.node.session import TURN
from asys.protocol.channel import MAX_MESSAGE
from asys.protocol.limits import MAGIC
from support.frames import (
    ALREADY_RECEIVED,
    CAPS,
    DENIED,
    HELLO,
    NO_SUCH_INSTRUCTION,
    OK,
    PROCS,
    STATUS,
    WRONG_LENGTH,
    frame,
    scrambled,
)
from support.node_rig import Rig, RigAgent
from support.services import SlowServices

MANY = 10_000

Sender: TypeAlias = Callable[[RigAgent, list[bytes]], None]

KINDS = {
    CAPS: 36,
    HELLO: 18,
    frame(0x04): 2,
    frame(0x11, bytes(4)): 3,
}
"""Requests whose answers cannot be mistaken for each other's, and the sizes of the answers."""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.close()


def shuffled(count: int) -> list[bytes]:
    """Requests in an order that no mistake could reproduce by chance, the same in every run."""
    kinds = list(KINDS)
    return [kinds[byte % len(kinds)] for byte in scrambled(count)]


def sizes(requests: list[bytes]) -> list[int]:
    return [KINDS[request] for request in requests]


def as_messages(agent: RigAgent, requests: list[bytes]) -> None:
    agent.send(*requests)


def as_full_messages(agent: RigAgent, requests: list[bytes]) -> None:
    """As few as possible; 10,000 bare frames are one."""
    stream = b"".join(requests)
    agent.send(*[stream[at : at + MAX_MESSAGE] for at in range(0, len(stream), MAX_MESSAGE)])


def cut_anywhere(agent: RigAgent, requests: list[bytes]) -> None:
    stream = b"".join(requests)
    parts = []
    at = 0
    for byte in scrambled(len(stream), "cuts"):
        parts.append(stream[at : at + byte])
        at += byte
    agent.send(*parts)


# -- turns


@pytest.mark.parametrize("send", [as_messages, as_full_messages, cut_anywhere])
def test_thousands_of_requests_in_one_burst_are_answered_in_order(rig: Rig, send: Sender) -> None:
    agent = rig.connect()
    requests = shuffled(MANY)
    send(agent, requests)
    rig.run()
    assert [len(answer) for answer in agent.responses()] == sizes(requests)


@pytest.mark.parametrize("send", [as_messages, as_full_messages])
def test_others_are_served_between_the_turns_of_a_burst(rig: Rig, send: Sender) -> None:
    busy = rig.connect()
    other = rig.connect()
    send(busy, [HELLO] * MANY)
    answered = len(busy.responses())
    assert answered == TURN
    while answered < MANY:
        other.send(HELLO)
        assert len(other.responses()) == 1
        more = 0
        while not more:
            assert rig.clock.step()
            more = len(busy.responses())
        assert more <= TURN
        answered += more
    assert not busy.transport.incoming


def test_the_answers_of_a_turn_are_one_write(rig: Rig) -> None:
    agent = rig.connect()
    before = agent.transport.writes
    agent.send(*[HELLO] * (2 * TURN + 1))
    rig.run()
    assert len(agent.responses()) == 2 * TURN + 1
    assert agent.transport.writes == before + 3


@pytest.mark.parametrize("behind", [HELLO[:1], HELLO[:5], frame(0x01, bytes(250))[:200]])
def test_half_a_frame_behind_a_whole_turn_waits_for_the_rest(rig: Rig, behind: bytes) -> None:
    agent = rig.connect()
    assert len(agent.ask(HELLO * TURN + behind)) == TURN
    assert all(handle.due > rig.clock.now() for handle in rig.clock.pending)
    assert agent.transport.reading
    rest = (HELLO if behind == HELLO[: len(behind)] else frame(0x01, bytes(250)))[len(behind) :]
    assert len(agent.ask(rest)) == 1


def test_messages_that_hold_no_whole_frame_take_turns_as_well(rig: Rig) -> None:
    agent = rig.connect()
    big = frame(0x01, bytes(1000), cla=0x02)
    agent.send(*[big[at : at + 1] for at in range(len(big))])
    assert agent.responses() == []
    assert not agent.transport.reading  # it is not done yet, and lets others run
    rig.run()
    assert [answer[-2:] for answer in agent.responses()] == [OK]
    assert agent.transport.reading


# -- what must wait


async def test_an_answer_that_takes_time_keeps_its_place(rig: Rig) -> None:
    agent = rig.connect()
    requests = [HELLO, STATUS, frame(0x04), HELLO, PROCS, frame(0x11, bytes(4))]
    agent.send(*requests)
    assert [answer[:4] for answer in agent.responses()] == [MAGIC]
    asked_at = rig.clock.time_ns()
    assert not agent.transport.reading
    await rig.settle()
    assert agent.responses() == []
    await rig.until(lambda: agent.transport.reading)
    answers = agent.responses()
    assert [len(answer) for answer in answers] == [23, 2, 18, 44, 3]
    assert int.from_bytes(answers[2][8:16], "big") > asked_at  # it ran after, not only answered


async def test_others_do_not_wait_with_it(rig: Rig) -> None:
    waiting, other = rig.connect(), rig.connect()
    waiting.send(STATUS)
    assert other.ask(HELLO)[0].endswith(OK)
    assert waiting.responses() == []
    await rig.until(lambda: waiting.transport.reading)
    assert len(waiting.responses()) == 1


async def test_many_that_wait_in_one_session(rig: Rig) -> None:
    agent = rig.connect()
    agent.send(*[STATUS, PROCS] * TURN)
    await rig.until(lambda: agent.transport.reading)
    assert [len(answer) for answer in agent.responses()] == [23, 44] * TURN


async def test_a_bad_record_behind_a_request_that_waits_comes_after_it(rig: Rig) -> None:
    agent = rig.connect()
    agent.write(agent.sealed(STATUS) + b"\0\x20" + bytes(32))
    await rig.until(lambda: agent.transport.over)
    assert [len(answer) for answer in agent.responses()] == [23]


async def test_a_malformed_frame_behind_a_request_that_waits_comes_after_it(rig: Rig) -> None:
    agent = rig.connect()
    agent.send(STATUS, b"\x01\x01\0\0\0\0", HELLO)
    await rig.until(lambda: agent.session.closed)
    assert [len(answer) for answer in agent.responses()] == [23, 2]
    assert agent.transport.eof_sent


@pytest.mark.parametrize("how", ["lost", "closed"])
async def test_an_answer_that_nobody_waits_for_any_more(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    services = SlowServices()
    rig = Rig(services=services)
    agent = rig.connect()
    agent.send(agent.restart("web"), HELLO)
    await rig.settle()
    if how == "lost":
        agent.transport.lose(ConnectionResetError())
    else:
        agent.session.close(Closing.REVOKED)
    services.resolving.set()
    services.restarting.set()
    await rig.settle()
    assert services.restarts == 1  # what was accepted is carried out
    assert len(rig.node.tasks) == 0
    assert agent.responses() == []
    await rig.close()
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_the_minute_begins_anew_with_an_answer_that_took_time() -> None:
    services = SlowServices()
    rig = Rig(services=services)
    agent = rig.connect()
    agent.send(agent.restart("web"))
    await rig.settle()
    rig.advance(IDLE_SECONDS - 1)
    services.resolving.set()
    services.restarting.set()
    await rig.settle()
    closed = []
    for seconds in (IDLE_SECONDS - 1, 1):
        rig.advance(seconds)
        closed.append(agent.session.closed)
    assert closed == [False, True]
    await rig.close()


# -- an agent that does not read


def test_who_does_not_read_is_not_read_either(rig: Rig) -> None:
    agent = rig.connect()
    agent.transport.taking = False
    for _ in range(1000):
        agent.send(*[HELLO] * TURN)
        rig.run()
    held = len(agent.transport.unread)
    assert WRITE_BUFFER < held < WRITE_BUFFER + TURN * 64
    assert len(agent.transport.incoming) > 900  # the rest has stayed in the kernel


def test_who_reads_again_gets_everything(rig: Rig) -> None:
    agent = rig.connect()
    agent.transport.taking = False
    requests = shuffled(MANY)
    agent.send(*requests)
    rig.run()
    assert not agent.transport.reading
    while agent.transport.unread:
        agent.transport.take()
        rig.run()
    assert [len(answer) for answer in agent.responses()] == sizes(requests)
    assert agent.transport.reading


async def test_who_does_not_read_and_waits_goes_on_when_both_are_over(rig: Rig) -> None:
    agent = rig.connect()
    agent.transport.taking = False
    agent.transport.set_write_buffer_limits(10)
    agent.send(HELLO, STATUS, HELLO)
    await rig.settle()
    agent.transport.take()
    agent.transport.taking = True
    await rig.settle()
    assert [len(answer) for answer in agent.responses()] == [18]
    await rig.until(lambda: agent.transport.reading)
    assert [len(answer) for answer in agent.responses()] == [23, 18]


def test_data_that_was_read_already_when_reading_stopped_is_kept(rig: Rig) -> None:
    agent = rig.connect()
    agent.transport.taking = False
    agent.transport.set_write_buffer_limits(10)
    agent.send(HELLO)
    assert not agent.transport.reading
    agent.session.data_received(agent.sealed(frame(0x04)))
    assert len(agent.transport.unread) == 36
    agent.transport.taking = True
    agent.transport.take()
    rig.run()
    assert [len(answer) for answer in agent.responses()] == [18, 2]


def test_who_never_reads_and_is_removed(rig: Rig) -> None:
    agent = rig.connect()
    agent.transport.taking = False
    agent.send(*[HELLO] * 4000)
    rig.run()
    agent.session.close(Closing.REVOKED)
    rig.run()
    assert agent.transport.reading  # so that its end of the connection is noticed
    agent.transport.take()
    rig.advance(1)
    assert agent.transport.over


def test_half_a_frame_of_one_who_does_not_read_waits_with_it(rig: Rig) -> None:
    agent = rig.connect()
    agent.transport.taking = False
    agent.transport.set_write_buffer_limits(10)
    agent.send(HELLO + HELLO[:3])
    rig.advance(FRAME_SECONDS)
    assert not agent.session.closed
    agent.transport.taking = True
    agent.transport.take()
    rig.advance(FRAME_SECONDS - 1)
    assert len(agent.ask(HELLO[3:])) == 2


# -- malformed frames in a stream


@pytest.mark.parametrize("send", [as_messages, as_full_messages])
@pytest.mark.parametrize("before", [0, 1, TURN - 1, TURN, TURN + 1, 1000])
def test_what_came_before_a_malformed_frame_is_answered(
    rig: Rig, before: int, send: Sender
) -> None:
    agent = rig.connect()
    send(agent, [HELLO] * before + [b"\x01\x01\0\0\0\0"] + [HELLO] * 3)
    rig.run()
    answers = agent.responses()
    assert len(answers) == before + 1
    assert answers[-1] == WRONG_LENGTH
    assert agent.transport.eof_sent


# -- tags and levels


def test_what_is_wrong_with_a_tag_or_a_seq_takes_its_place_among_the_answers(rig: Rig) -> None:
    agent = rig.connect()
    first = agent.signed(0x04)
    requests = [HELLO, first, first, frame(0x20), HELLO]
    wanted = [NO_SUCH_INSTRUCTION, ALREADY_RECEIVED, DENIED]
    assert agent.ask(*requests)[1:-1] == wanted
    assert agent.ask(*requests, agent.signed(0x01, bad=True), HELLO)[1:] == [
        ALREADY_RECEIVED,
        ALREADY_RECEIVED,
        DENIED,
        agent_hello(agent),
        DENIED,
    ]
    assert agent.transport.eof_sent


def agent_hello(agent: RigAgent) -> bytes:
    """What SYS_HELLO answers now."""
    node = agent.rig.node
    return MAGIC + struct.pack(">IQ", node.uid, agent.rig.clock.time_ns()) + OK
