"""What all sessions share: ids, what a new book of agents does, when the sampler works."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from asys.node.facts import FACTS_SECONDS
from asys.node.platform.base import MachineFacts, SystemFailure
from asys.node.platform.portable import PortablePlatform
from asys.protocol.limits import MAGIC, PRE_HANDSHAKE_SIZE
from asys.protocol.status import SW
from support.frames import (
    CAPS,
    DENIED,
    HELLO,
    NO_SUCH_INSTRUCTION,
    OK,
    PROCS,
    STATUS,
    frame,
)
from support.node_rig import AGENT, OTHER, Rig, RigAgent, book
from support.services import Services, SlowServices

ASLEEP = 6.0
"""Seconds after which the sampler sleeps when nobody has asked it."""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.close()


def refusal(agent: RigAgent) -> bytes | None:
    """The unasked word of the node, behind which its stream has ended."""
    answers = agent.responses()
    assert answers == [] or agent.transport.eof_sent
    return answers[0] if answers else None


# -- ids


async def test_session_ids_are_never_0_and_never_twice(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = iter([5, 5, 0, 5, 6])
    with monkeypatch.context() as patch:
        patch.setattr(secrets, "randbits", lambda bits: next(drawn))
        assert [rig.session().session.id for _ in range(2)] == [5, 6]
    ids = {rig.session().session.id for _ in range(60)}
    assert len(ids) == 60
    assert all(0 < one < 1 << 16 for one in ids)


def test_ids_that_are_free_again_are_given_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "randbits", lambda bits: 5)
    for _ in range(3):
        agent = rig.session()
        assert agent.session.id == 5
        agent.transport.lose()


# -- another book of agents


def test_a_removed_agent_is_closed_and_others_are_not(rig: Rig) -> None:
    rig.node.authority.replace_book(book({AGENT: "agent caps=all", OTHER: "other"}))
    mine, other = rig.session(), rig.session(OTHER)
    rig.node.authority.replace_book(book({OTHER: "other"}))
    assert mine.transport.eof_sent
    assert refusal(rig.connect()) == DENIED
    assert other.ask(HELLO)[0].endswith(OK)
    assert rig.node.session_count == 1


def test_an_agent_that_is_removed_during_its_handshake_does_not_get_in(rig: Rig) -> None:
    agent = rig.dial()
    agent.magic()
    rig.node.authority.replace_book(book({}))
    agent.link.receive_data(agent.read())
    agent.link.begin_handshake()
    agent.write(agent.link.data_to_send())
    assert refusal(agent) == DENIED


def test_other_grants_hold_from_the_next_instruction(rig: Rig) -> None:
    agent = rig.connect()
    throttle = frame(0x20)
    assert agent.ask(throttle) == [DENIED]  # plain: it exists, and must be signed
    lit = agent.ask(CAPS)[0][4:8]
    rig.node.authority.replace_book(book({AGENT: "agent"}))
    assert agent.ask(throttle) == [NO_SUCH_INSTRUCTION]
    assert agent.ask(CAPS)[0][4:8] == bytes(4) != lit
    rig.node.authority.replace_book(book({AGENT: "agent caps=20,22"}))
    assert agent.ask(throttle, HELLO, CAPS) == [DENIED, NO_SUCH_INSTRUCTION, NO_SUCH_INSTRUCTION]


async def test_a_session_whose_key_stays_keeps_its_tasks() -> None:
    services = Services()
    rig = Rig(services=services)
    agent = rig.connect()
    agent.send(agent.restart("web"))
    await rig.settle()
    handle = agent.responses()[0][:4]
    rig.node.authority.replace_book(book({AGENT: "other-name caps=core"}))
    assert agent.ask(frame(0x11, handle)) == [b"\x00" + OK]
    rig.node.authority.replace_book(book({OTHER: "other"}))
    assert len(rig.node.tasks) == 0
    await rig.close()


async def test_a_removed_agent_with_an_answer_under_way() -> None:
    services = SlowServices()
    rig = Rig(services=services)
    agent = rig.connect()
    agent.send(agent.restart("web"))
    await rig.settle()
    rig.node.authority.replace_book(book({}))
    services.resolving.set()
    services.restarting.set()
    await rig.settle()
    assert agent.responses() == []
    assert agent.transport.eof_sent
    await rig.close()


def test_the_book_is_as_last_read(rig: Rig) -> None:
    new = book({OTHER: "other"})
    rig.node.authority.replace_book(new)
    assert rig.node.book is new


# -- what the machine is


class ChangingMachine(PortablePlatform):
    """Has as much memory as a test says; None: it cannot be read."""

    ram_mb: int | None = 1

    def facts(self) -> MachineFacts:
        """As Platform.facts."""
        if self.ram_mb is None:
            raise SystemFailure("out of file descriptors", SW.NODE_IO_ERROR)
        return replace(super().facts(), ram_mb=self.ram_mb)


@pytest.fixture
async def changing() -> AsyncIterator[tuple[Rig, ChangingMachine]]:
    machine = ChangingMachine()
    rig = Rig(platform=machine)
    yield rig, machine
    await rig.close()


def ram_mb(agent: RigAgent) -> int:
    return int.from_bytes(agent.ask(CAPS)[0][18:22], "big")


def test_facts_are_read_again_when_a_session_opens(
    changing: tuple[Rig, ChangingMachine],
) -> None:
    rig, machine = changing
    first = rig.connect()
    machine.ram_mb = 2
    assert ram_mb(first) == 1
    rig.advance(FACTS_SECONDS)
    assert ram_mb(rig.connect()) == 1
    rig.advance(0.001)
    assert ram_mb(rig.connect()) == 2
    assert ram_mb(first) == 2


def test_facts_that_cannot_be_read_stay_and_shut_nobody_out(
    changing: tuple[Rig, ChangingMachine], caplog: pytest.LogCaptureFixture
) -> None:
    rig, machine = changing
    machine.ram_mb = None
    rig.advance(2 * FACTS_SECONDS)
    with caplog.at_level(logging.WARNING, "asyd"):
        assert ram_mb(rig.connect()) == 1
        assert ram_mb(rig.connect()) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "SYS_CAPS says what it said before: out of file descriptors"
    ]
    machine.ram_mb = 3
    rig.advance(2 * FACTS_SECONDS)
    assert ram_mb(rig.connect()) == 3


# -- the sampler


def awake(rig: Rig) -> bool:
    """Whether the sampler does anything soon: every other deadline here is far away."""
    return any(handle.due < rig.clock.now() + 1 for handle in rig.clock.pending)


@pytest.fixture
def silence(rig: Rig) -> RigAgent:
    """A session, and a sampler that sleeps."""
    agent = rig.session()
    rig.advance(ASLEEP)
    assert not awake(rig)
    return agent


@pytest.mark.parametrize("request_", [HELLO, CAPS, frame(0x11, bytes(4)), frame(0x04)])
def test_these_wake_nobody(rig: Rig, silence: RigAgent, request_: bytes) -> None:
    for _ in range(20):
        assert len(silence.ask(request_)) == 1
        assert not awake(rig)
        rig.advance(1.0)


@pytest.mark.parametrize("request_", [STATUS, PROCS])
async def test_these_wake_it(rig: Rig, silence: RigAgent, request_: bytes) -> None:
    silence.send(request_)
    rig.run()
    assert awake(rig)
    await rig.until(lambda: silence.transport.reading)
    assert silence.responses()[0].endswith(OK)
    rig.advance(ASLEEP)
    assert not awake(rig)


def test_a_session_that_is_confirmed_wakes_it(rig: Rig, silence: RigAgent) -> None:
    agent = rig.connect()
    rig.run()
    assert not awake(rig)
    agent.ask(HELLO)
    assert awake(rig)


def test_nobody_else_wakes_it(rig: Rig, silence: RigAgent) -> None:
    agent = rig.dial()
    agent.write(MAGIC)
    assert len(agent.read()) == PRE_HANDSHAKE_SIZE
    agent.transport.lose()
    rig.connect(OTHER).transport.lose()
    rig.run()
    assert not awake(rig)


# -- beside the sessions


async def test_what_goes_wrong_beside_the_sessions_is_logged(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise ValueError("a mistake")

    rig.node.spawn(fail())
    await rig.settle()
    (record,) = caplog.records
    assert record.getMessage() == "background work failed"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "a mistake"


async def test_the_end_ends_everything() -> None:
    services = SlowServices()
    rig = Rig(services=services)
    session, nobody, waiting = rig.connect(), rig.dial(), rig.connect()
    waiting.send(waiting.restart("web"))
    lingering = rig.connect(OTHER)
    await rig.settle()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert others
    await rig.close()
    assert services.closed
    assert all(task.done() for task in others)
    assert rig.node.session_count == 0
    assert rig.clock.pending == []
    for agent in (session, nobody, waiting, lingering):
        assert agent.transport.over


async def test_a_node_without_services_ends_too() -> None:
    rig = Rig()
    rig.connect()
    await rig.close()
    assert rig.node.session_count == 0
