"""A bare request that comes alone goes a short way; whatever it finds there, the answer is the same
as on the long one.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.isa import SYS_HELLO, SYS_PROCS, SYS_STATUS, Empty
from asys.isa.core import SYS_CAPS
from asys.node.connection import FRAME_SECONDS
from asys.node.refusal import Refused
from asys.node.server import Node
from asys.node.session import BARE_RECORD, Session
from asys.protocol.channel import Channel
from asys.protocol.status import SW
from support.frames import (
    BLOCKED,
    CAPS,
    HELLO,
    NO_SUCH_INSTRUCTION,
    OK,
    PROCS,
    STATUS,
    WRONG_LENGTH,
    frame,
)
from support.node_rig import AGENT, Rig, RigAgent, book

POLLED = {SYS_CAPS.code, SYS_HELLO.code, SYS_STATUS.code, SYS_PROCS.code}


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    await made.close()


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One entry for each turn that a session takes on the long way."""
    taken: list[None] = []
    real = Session._turn

    def turn(session: Session) -> None:
        taken.append(None)
        real(session)

    monkeypatch.setattr(Session, "_turn", turn)
    return taken


def short(node: Node) -> set[int]:
    """The codes that go the short way for AGENT."""
    grant = node.grant(AGENT.public)
    assert grant is not None
    return {code for code, reading in enumerate(grant.readings) if reading is not None}


async def fresh(rig: Rig, agent: RigAgent) -> None:
    """Waits until the sampler has something to show."""
    agent.send(STATUS)
    await rig.until(agent.responses)


async def test_what_polling_agents_ask_takes_no_turn(rig: Rig, turns: list[None]) -> None:
    agent = rig.session()
    await fresh(rig, agent)
    turns.clear()
    for request in (CAPS, HELLO, STATUS, PROCS):
        [answer] = agent.ask(request)
        assert answer.endswith(OK)
    assert not turns


def test_whose_record_has_the_size_that_is_looked_for() -> None:
    channel = Channel(bytes(32), bytes(32))
    assert {len(channel.seal([bare])) for bare in (CAPS, HELLO, STATUS, PROCS)} == {BARE_RECORD}


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        ("caps=all", POLLED),
        ("caps=core", POLLED),
        ("caps=SYS_STATUS,PROC_THROTTLE", POLLED),
        ("caps=core rate=SYS_STATUS:9/h", POLLED - {SYS_STATUS.code}),
        ("caps=core expires=2100-01-01", set()),
    ],
)
async def test_what_goes_the_short_way(line: str, codes: set[int]) -> None:
    """Not what has a rate, nor anybody whose time may be over with the next request."""
    rig = Rig({AGENT: f"agent {line}"})
    held = short(rig.node)
    lit = rig.node.grant(AGENT.public)
    assert lit is not None
    assert held == {code for code in codes if lit.lit >> code & 1}
    assert held <= POLLED
    await rig.close()


async def test_what_is_dark_goes_the_long_way_whatever_the_reason(turns: list[None]) -> None:
    rig = Rig({AGENT: "agent caps=SYS_HELLO"})
    agent = rig.session()
    turns.clear()
    for code in (0x02, 0x0F, 0x21, 0x95, 0xC1):
        assert agent.ask(frame(code)) == [NO_SUCH_INSTRUCTION]
    assert len(turns) == 5
    await rig.close()


async def test_vitals_that_are_too_old_are_waited_for(rig: Rig) -> None:
    agent = rig.session()
    await fresh(rig, agent)
    rig.advance(10.0)
    agent.send(STATUS)
    assert agent.responses() == []
    agent.send(HELLO)  # goes behind it
    answers: list[bytes] = []

    def both() -> bool:
        answers.extend(agent.responses())
        return len(answers) == 2

    await rig.until(both)
    assert [len(answer) for answer in answers] == [SYS_STATUS.reply.SIZE + 2, 18]


async def test_what_fails_has_its_status_word(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    agent = rig.session()
    errors: list[Exception] = [Refused(SW.BLOCKED, "not now"), OSError("unforeseen"), MemoryError()]

    def fails(_session: Session, _request: Any) -> bytes:
        raise errors.pop(0)

    readings = list(agent.session.grant.readings)
    readings[SYS_HELLO.code] = (fails, Empty(), "SYS_HELLO")
    agent.session.grant = replace(agent.session.grant, readings=tuple(readings))
    with caplog.at_level(logging.INFO):
        assert [agent.ask(HELLO) for _ in range(3)] == [[BLOCKED], [b"\x6f\xff"], [b"\x6f\x01"]]
    assert "6400 SYS_HELLO for agent: not now" in caplog.text
    assert "OSError: unforeseen" in caplog.text
    [caps] = agent.ask(CAPS)
    assert caps.endswith(OK)


async def test_an_answer_that_is_lost_ends_the_session(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No number may serve twice, and nothing may come behind the gap."""
    agent = rig.session()

    def fails(_channel: Channel, _message: bytes) -> bytes:
        raise MemoryError

    monkeypatch.setattr(Channel, "seal_alone", fails)
    agent.write(agent.sealed(HELLO))
    rig.run()
    assert agent.transport.over
    assert agent.read() == b""


async def test_it_is_counted_and_keeps_the_session_alive(rig: Rig) -> None:
    agent = rig.session()
    before = rig.node.counts.answers[OK]
    for _ in range(20):
        rig.advance(50.0)
        [answer] = agent.ask(HELLO)
        assert answer.endswith(OK)
        assert agent.session.idle_seconds == 0.0
    assert rig.node.counts.answers[OK] == before + 20


async def test_behind_a_piece_of_a_frame_it_is_the_next_piece(rig: Rig) -> None:
    agent = rig.session()
    assert agent.ask(frame(0x11, bytes(4))[:4]) == []
    assert agent.ask(HELLO) == [WRONG_LENGTH]  # a TASK_QUERY without its handle, and 4 bytes more


@pytest.mark.parametrize(("at", "change"), [(1, 0x01), (-1, 0x01)], ids=["length", "tag"])
async def test_a_bad_record_ends_the_session(rig: Rig, at: int, change: int) -> None:
    agent = rig.session()
    record = bytearray(agent.sealed(HELLO))
    record[at] ^= change
    agent.write(bytes(record))
    rig.run()
    rig.advance(FRAME_SECONDS)  # a record that says that it is longer is waited for
    assert agent.transport.over
    assert agent.read() == b""


async def test_the_first_request_still_shows_who_it_is(rig: Rig) -> None:
    agent = rig.connect()
    assert agent.session.id == 0
    agent.ask(HELLO)
    assert agent.session.id > 0


async def test_other_rights_hold_from_the_next_request(rig: Rig) -> None:
    agent = rig.session()
    assert agent.ask(HELLO) != [NO_SUCH_INSTRUCTION]
    rig.node.authority.replace_book(book({AGENT: "agent caps=PROC_THROTTLE"}))
    assert agent.ask(HELLO) == [NO_SUCH_INSTRUCTION]
    rig.node.authority.replace_book(book({AGENT: "agent caps=core rate=SYS_HELLO:1/h"}))
    assert [len(agent.ask(HELLO)[0]) for _ in range(2)] == [18, len(BLOCKED)]


BARE = st.integers(0, 255).map(frame)
REQUESTS = st.one_of(
    BARE,
    st.sampled_from([CAPS, HELLO, frame(0x04), frame(0x00, p1=3), frame(0x01, b"x")]),
    st.builds(frame, st.sampled_from([0x00, 0x01, 0x11]), st.binary(max_size=6)),
)
WAITS = {0x02, 0x03}
"""What may have to wait for the sampler, and has its own tests."""


@given(st.lists(st.tuples(REQUESTS.filter(lambda one: one[1] not in WAITS), st.booleans())))
async def test_both_ways_give_the_same_answers(requests: list[tuple[bytes, bool]]) -> None:
    """Each request in a record of its own, some of them in one piece with the next."""
    answers = []
    for readings in (True, False):
        rig = Rig({AGENT: "agent caps=core"})
        agent = rig.session()
        if not readings:
            agent.session.grant = replace(agent.session.grant, readings=(None,) * 256)
        pieces = b""
        for request, more in requests:
            pieces += agent.sealed(request)
            if not more:
                agent.write(pieces)
                pieces = b""
        agent.write(pieces)
        await rig.settle()
        answers.append(agent.responses())
        assert agent.session.closed == (agent.transport.closing or agent.transport.eof_sent)
        await rig.close()
    assert answers[0] == answers[1]
