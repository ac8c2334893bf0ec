"""Who gets in: room for sessions, the pool of those who are nobody yet, handshakes, addresses."""

from __future__ import annotations

import logging

import pytest

from asys.node.health.counts import Closing
from asys.node.server import Limits
from asys.protocol.limits import MAGIC, MESSAGE_2_SIZE, PRE_HANDSHAKE_SIZE
from support.frames import BLOCKED, DENIED, HELLO, OK
from support.node_rig import AGENT, OTHER, Rig, RigAgent, book


async def limited(
    *, sessions: int = 1000, sessions_per_key: int = 1000, unconfirmed: int = 1000
) -> Rig:
    agents = {AGENT: "agent", OTHER: "other"}
    return Rig(agents, limits=Limits(sessions, sessions_per_key, unconfirmed, handshakes=0))


def refused_at_once(rig: Rig) -> bool:
    agent = rig.dial()
    assert agent.read() == b""
    rig.run()
    return agent.transport.over


def refusal(agent: RigAgent) -> bytes | None:
    """The unasked word of the node, behind which its stream has ended."""
    answers = agent.responses()
    assert answers == [] or agent.transport.eof_sent
    return answers[0] if answers else None


def first_answer(agent: RigAgent) -> bytes:
    """The status word that an agent's first message gets; a refusal is alone and the last one."""
    answers = agent.ask(HELLO, HELLO)
    if answers[0].endswith(OK):
        assert len(answers) == 2
        assert agent.session.id
        return OK
    assert len(answers) == 1
    assert agent.transport.eof_sent
    assert not agent.session.id
    return answers[0]


def gone(agents: list[RigAgent]) -> list[int]:
    """Which connections have ended."""
    agents[0].rig.run()
    return [number for number, agent in enumerate(agents) if agent.transport.over]


# -- room


async def test_over_the_number_of_sessions_connections_are_closed_at_once() -> None:
    rig = await limited(sessions=2)
    first, second = rig.session(), rig.session(OTHER)
    assert refused_at_once(rig)
    assert first.ask(HELLO)[0].endswith(OK)
    second.transport.lose()
    assert not refused_at_once(rig)
    await rig.close()


async def test_sessions_that_fill_up_before_the_first_message() -> None:
    rig = await limited(sessions=2)
    agents = [rig.connect() for _ in range(3)]
    assert [refusal(agent) for agent in agents] == [None, None, None]
    assert rig.node.session_count == 0
    assert [first_answer(agent) for agent in reversed(agents)] == [OK, OK, BLOCKED]
    assert rig.node.session_count == 2
    assert agents[2].ask(HELLO)[0].endswith(OK)
    await rig.close()


async def test_one_key_has_its_own_bound() -> None:
    rig = await limited(sessions_per_key=2)
    mine = [rig.connect() for _ in range(4)]
    assert [first_answer(agent) for agent in mine] == [OK, OK, BLOCKED, BLOCKED]
    assert first_answer(rig.connect(OTHER)) == OK
    mine[0].transport.lose()
    assert first_answer(rig.connect()) == OK
    assert first_answer(rig.connect()) == BLOCKED
    await rig.close()


async def test_by_default_one_key_has_64_sessions() -> None:
    rig = Rig()
    assert [first_answer(rig.connect()) for _ in range(66)] == [OK] * 64 + [BLOCKED] * 2
    await rig.close()


async def test_a_session_is_not_there_before_it_is_confirmed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig()
    with caplog.at_level(logging.INFO, "asyd.session"):
        agent = rig.connect()
        assert (agent.session.id, rig.node.session_count) == (0, 0)
        assert not rig.node.is_connected(AGENT.public)
        agent.transport.lose()
        assert not caplog.records
        agent = rig.session()
        assert rig.node.session_count == 1
        assert rig.node.is_connected(AGENT.public)
        opened = f"opened agent 192.0.2.1:4711 session {agent.session.id}"
        assert [record.getMessage() for record in caplog.records] == [opened]
    await rig.close()


@pytest.mark.parametrize("record", [b"\0\x16" + bytes(22), b"\0\x05short"])
async def test_what_does_not_authenticate_confirms_nothing(record: bytes) -> None:
    rig = Rig()
    agent = rig.connect()
    agent.write(record)
    rig.run()
    assert agent.transport.over
    assert agent.read() == b""
    assert agent.session.id == 0
    await rig.close()


async def test_half_a_frame_confirms_a_session_as_well() -> None:
    rig = Rig()
    agent = rig.connect()
    agent.send(HELLO[:2])
    assert agent.session.id
    await rig.close()


# -- the pool of those who are nobody yet


async def test_a_newcomer_takes_the_place_of_the_oldest() -> None:
    rig = await limited(unconfirmed=3)
    served = rig.session()
    silent = [rig.dial() for _ in range(3)]
    assert gone(silent) == []
    silent.append(rig.dial())
    assert gone(silent) == [0]
    silent += [rig.dial(), rig.dial()]
    assert gone(silent) == [0, 1, 2]
    assert all(agent.read() == b"" for agent in silent)
    assert served.ask(HELLO)[0].endswith(OK)
    await rig.close()


async def test_those_who_have_shown_the_magic_go_last() -> None:
    rig = await limited(unconfirmed=3)
    agents = [rig.dial(), rig.dial(), rig.connect()]
    agents[0].magic()
    agents.append(rig.dial())
    assert gone(agents) == [1]
    agents[3].magic()
    agents += [rig.dial(), rig.dial()]
    assert gone(agents) == [0, 1, 4]  # nobody was without the magic when 4 came, so the oldest went
    assert first_answer(agents[2]) == OK
    await rig.close()


async def test_a_session_that_is_confirmed_makes_room() -> None:
    rig = await limited(unconfirmed=2)
    agents = [rig.connect(), rig.connect()]
    assert first_answer(agents[0]) == OK
    agents += [rig.dial()]
    assert gone(agents) == []
    agents += [rig.dial(), rig.dial(), rig.dial()]
    assert gone(agents) == [2, 3, 4]
    assert first_answer(agents[1]) == OK
    assert gone(agents) == [2, 3, 4]
    await rig.close()


async def test_by_default_256_connections_may_be_nobody_yet() -> None:
    rig = Rig({AGENT: "agent", OTHER: "other"})
    served = rig.session()
    silent = [rig.dial() for _ in range(256)]
    assert gone(silent) == []
    silent.append(rig.dial())
    assert gone(silent) == [0]
    silent[1].transport.lose()
    silent.append(rig.dial())
    assert gone(silent) == [0, 1]
    assert served.ask(HELLO)[0].endswith(OK)
    await rig.close()


async def test_a_refused_agent_that_lingers_takes_no_session() -> None:
    rig = await limited(sessions=1, sessions_per_key=1)
    agent = rig.session(AGENT)
    agent.session.close(Closing.ADMIN)
    assert not agent.transport.over
    assert rig.node.session_count == 0
    assert first_answer(rig.connect()) == OK
    await rig.close()


# -- handshakes


async def test_a_handshake_that_was_recorded_is_dropped_without_a_byte() -> None:
    rig = Rig()
    agent = rig.dial()
    agent.magic()
    agent.link.receive_data(agent.read())
    agent.link.begin_handshake()
    message_1 = agent.link.data_to_send()
    agent.write(message_1)
    assert len(agent.read()) == MESSAGE_2_SIZE
    for seconds in (0, 1, 140):
        rig.advance(seconds)
        again = rig.dial()
        again.write(MAGIC)
        assert len(again.read()) == PRE_HANDSHAKE_SIZE
        again.write(message_1)
        rig.run()
        assert again.read() == b""
        assert again.transport.over
    assert rig.node.session_count == 0
    await rig.close()


async def test_a_stranger_fills_no_memory_of_handshakes() -> None:
    rig = Rig()
    for _ in range(3):
        assert refusal(rig.connect(OTHER)) == DENIED
    assert len(rig.node.replays) == 0
    rig.connect()
    assert len(rig.node.replays) == 1
    await rig.close()


async def test_handshakes_of_one_address_are_counted() -> None:
    """Between the magic and the node's key: who is over it learns nothing, and waits."""
    rig = Rig(limits=Limits(handshakes=2))
    before = [rig.session() for _ in range(10)]
    late = rig.dial()
    late.write(MAGIC)
    rig.run()
    assert late.read() == b""
    assert late.transport.over
    rig.session(peer=("192.0.2.2", 4711))  # another address
    rig.session(peer=("2001:db8::1", 4711, 0, 0))
    assert all(agent.ask(HELLO)[0].endswith(OK) for agent in before)
    rig.advance(0.5)
    rig.session()
    await rig.close()


async def test_a_connection_without_a_magic_costs_no_token() -> None:
    rig = Rig(limits=Limits(handshakes=2))
    for _ in range(50):
        rig.dial().transport.lose()
    assert first_answer(rig.connect()) == OK
    await rig.close()


# -- where an agent may come from


@pytest.mark.parametrize(
    ("peer", "answer"),
    [
        (("192.0.2.1", 4711), OK),
        (("192.0.2.77", 4711), OK),
        (("198.51.100.1", 4711), DENIED),
        (("2001:db8::1", 4711, 0, 0), DENIED),
        ("/run/asyd.sock", DENIED),
    ],
)
async def test_an_agent_from_elsewhere_is_unknown(peer: object, answer: bytes) -> None:
    rig = Rig({AGENT: "agent from=192.0.2.0/24"})
    agent = rig.connect(peer=peer)
    if answer == OK:
        assert first_answer(agent) == OK
    else:
        assert refusal(agent) == answer
        assert len(rig.node.replays) == 0
    await rig.close()


async def test_an_agent_that_may_not_be_where_it_is_any_more_is_closed() -> None:
    rig = Rig()
    here, there = rig.session(), rig.session(peer=("198.51.100.1", 4711))
    rig.node.authority.replace_book(book({AGENT: "agent from=192.0.2.0/24"}))
    assert here.ask(HELLO)[0].endswith(OK)
    assert there.transport.eof_sent
    await rig.close()
