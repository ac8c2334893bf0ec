"""Replays and unconfirmed sessions inside a node: nothing wakes, nothing counts, nothing leaks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from asys.node.connection import IDLE_SECONDS
from asys.node.door import GENERATION_SECONDS
from asys.node.server import Limits
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import MESSAGE_2_SIZE, PRE_HANDSHAKE_SIZE
from asys.protocol.link import AgentLink
from support.frames import BLOCKED, HELLO
from support.node_rig import AGENT, OTHER, Rig, RigAgent, book

MESSAGE_2 = PRE_HANDSHAKE_SIZE + MESSAGE_2_SIZE
"""Bytes that a handshake gets that the node answers."""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig({AGENT: "agent caps=all", OTHER: "other"}, limits=Limits(handshakes=0))
    yield made
    await made.close()


def recorded(rig: Rig, key: PrivateKey = AGENT) -> tuple[RigAgent, bytes]:
    """An agent's session that is not confirmed, and what it sent as message 1."""
    agent = rig.dial()
    agent.link = AgentLink(key)
    agent.write(agent.link.data_to_send())
    agent.link.receive_data(agent.read())
    agent.link.begin_handshake()
    message_1 = agent.link.data_to_send()
    agent.write(message_1)
    agent.link.receive_data(agent.read())
    return agent, message_1


def replay(rig: Rig, message_1: bytes) -> RigAgent:
    """Somebody else sends it again."""
    peer = rig.dial()
    peer.magic()
    peer.write(message_1)
    rig.run()
    return peer


def nothing_came_of_it(rig: Rig, peer: RigAgent) -> None:
    """The peer's connection is no session, and has changed nothing."""
    assert peer.session.id == 0
    assert rig.node.session_count == 0
    assert not rig.node.is_connected(AGENT.public)
    assert not rig.node.is_connected(OTHER.public)
    assert is_asleep(rig)


def is_asleep(rig: Rig) -> bool:
    """Whether the sampler has no timer: what is left are the deadlines of connections."""
    there = sum(not transport.over for transport in rig.transports)
    return len(rig.clock.pending) <= there


def is_over(peer: RigAgent) -> bool:
    """Whether a peer's connection has ended."""
    return peer.transport.over


def dropped(peer: RigAgent) -> bool:
    """Whether a peer was hung up on behind the pre-handshake frame."""
    return peer.transport.over and len(peer.transport.taken) == PRE_HANDSHAKE_SIZE


@pytest.mark.parametrize("later", [0, 1, GENERATION_SECONDS - 1, GENERATION_SECONDS])
async def test_within_the_window_it_is_dropped(rig: Rig, later: float) -> None:
    agent, message_1 = recorded(rig)
    agent.transport.lose()
    rig.advance(later)
    peer = replay(rig, message_1)
    assert dropped(peer)
    nothing_came_of_it(rig, peer)


async def test_a_repeat_does_not_prolong_the_memory(rig: Rig) -> None:
    agent, message_1 = recorded(rig)
    agent.transport.lose()
    for _ in range(2):
        rig.advance(GENERATION_SECONDS - 1)
        assert dropped(replay(rig, message_1))
    rig.advance(3)
    assert not dropped(replay(rig, message_1))


@pytest.mark.parametrize("later", [2 * GENERATION_SECONDS, 3 * GENERATION_SECONDS, 86_400])
async def test_when_the_generations_have_turned_it_has_no_effect(rig: Rig, later: float) -> None:
    """The node answers with message 2; all that comes of it is a place among the unconfirmed."""
    agent, message_1 = recorded(rig)
    agent.transport.lose()
    rig.advance(later)
    peer = replay(rig, message_1)
    assert len(peer.transport.taken) == MESSAGE_2
    assert not is_over(peer)
    nothing_came_of_it(rig, peer)
    assert dropped(replay(rig, message_1))  # and now it is known again
    rig.advance(IDLE_SECONDS)
    assert peer.transport.eof_sent
    rig.advance(2)
    assert is_over(peer)
    assert not rig.node.sessions


async def test_behind_a_replay_no_message_opens(rig: Rig) -> None:
    agent, message_1 = recorded(rig)
    record = agent.sealed(HELLO)
    agent.transport.lose()
    rig.advance(2 * GENERATION_SECONDS)
    peer = replay(rig, message_1)
    peer.write(record)
    rig.run()
    assert peer.transport.over
    assert len(peer.transport.taken) == MESSAGE_2
    nothing_came_of_it(rig, peer)


async def test_a_handshake_alone_wakes_nobody_and_a_message_does(rig: Rig) -> None:
    agent, _ = recorded(rig)
    nothing_came_of_it(rig, agent)
    agent.send(HELLO)
    rig.run()
    assert agent.session.id
    assert rig.node.is_connected(AGENT.public)
    assert not is_asleep(rig)


async def test_half_a_message_is_none(rig: Rig) -> None:
    agent, _ = recorded(rig)
    record = agent.sealed(HELLO)
    for byte in record[:-1]:
        agent.write(bytes((byte,)))
        nothing_came_of_it(rig, agent)
    agent.write(record[-1:])
    rig.run()
    assert rig.node.session_count == 1


async def test_a_message_that_is_no_frame_confirms(rig: Rig) -> None:
    """Only the agent can have sealed it; what is in it does not matter."""
    agent, _ = recorded(rig)
    agent.write(agent.sealed(b""))
    rig.run()
    assert rig.node.session_count == 1
    assert agent.ask(HELLO)[0][:4] == b"ASYS"


async def test_unconfirmed_sessions_do_not_count_in_the_limits() -> None:
    limits = Limits(sessions=2, sessions_per_key=1, unconfirmed=5, handshakes=0)
    rig = Rig({AGENT: "agent caps=all", OTHER: "other"}, limits=limits)
    waiting = [recorded(rig)[0] for _ in range(5)]
    agent = rig.connect()
    assert agent.ask(HELLO)[0][:4] == b"ASYS"
    assert waiting[0].transport.over  # the oldest made room
    late = waiting[1]
    assert late.ask(HELLO) == [BLOCKED]  # its key has its one session by now
    other, _ = recorded(rig, OTHER)
    assert other.ask(HELLO)[0][:4] == b"ASYS"
    assert rig.node.session_count == 2
    await rig.close()


async def test_a_key_that_goes_between_handshake_and_message(rig: Rig) -> None:
    agent, _ = recorded(rig, OTHER)
    rig.node.authority.replace_book(book({AGENT: "agent caps=all"}))
    agent.send(HELLO)
    rig.run()
    assert agent.responses() == []
    nothing_came_of_it(rig, agent)
