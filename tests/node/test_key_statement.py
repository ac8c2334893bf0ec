"""KEY_STATEMENT in a node: when it exists, for whom, and which key a session was made for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asys.isa import AGENT_ADD, AGENT_LIST, KEY_STATEMENT, SYS_CAPS, Agents, CapabilityMap
from asys.isa.capmap import CORE, STATEMENT
from asys.isa.security import NewAgent
from asys.node.disk.next_key import NextKey
from asys.node.server import Mode
from asys.protocol.keys import PrivateKey
from asys.protocol.link import AgentLink
from asys.protocol.statement import KeyStatement
from support.frames import INVALID_PAYLOAD, NO_SUCH_INSTRUCTION, OK, WRONG_LENGTH, frame
from support.node_rig import NODE, Rig, RigAgent

PLAIN, NARROW, ADMIN = PrivateKey.generate(), PrivateKey.generate(), PrivateKey.generate()
LINES = {
    PLAIN: "plain",
    NARROW: "narrow caps=95",
    ADMIN: "admin caps=core,security role=admin",
}
ASK = frame(KEY_STATEMENT.code)


def rigged(mode: Mode = Mode.FULL, *, dark: bool = False) -> Iterator[Rig]:
    rig = Rig(LINES, mode=mode, dark=dark)
    yield rig
    for transport in rig.transports:
        transport.protocol.abort()
    rig.run()
    rig.node.sampler.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    yield from rigged()


def begin(rig: Rig) -> NextKey:
    made = NextKey.make(NODE, rig.clock.time_ns() // 10**9, 3600)
    rig.node.keys._began(made)
    return made


def connect(rig: Rig, key: PrivateKey, node_key: bytes) -> RigAgent:
    """A session that is made for one of the node's keys."""
    agent = rig.dial()
    agent.magic()
    agent.link = AgentLink(key)
    agent.link.data_to_send()
    agent.link.receive_data(agent.read())
    assert agent.link.shown_key == NODE.public
    agent.link.begin_handshake(node_key)
    agent.write(agent.link.data_to_send())
    agent.link.receive_data(agent.read())
    return agent


def lit(agent: RigAgent) -> bool:
    [reply] = agent.ask(frame(SYS_CAPS.code))
    return bool(int.from_bytes(reply[:4], "big") & STATEMENT)


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("dark", [False, True])
def test_it_exists_for_everybody_while_there_is_a_next_key(mode: Mode, dark: bool) -> None:
    for rig in rigged(mode, dark=dark):
        agents = [rig.session(PLAIN), rig.connect(NARROW)]
        assert [agent.ask(ASK) for agent in agents] == [[NO_SUCH_INSTRUCTION]] * 2
        assert not lit(agents[0])
        made = begin(rig)
        for agent in (*agents, rig.connect(NARROW)):
            [reply] = agent.ask(ASK)
            assert reply == made.statement.pack() + OK
            assert agent.ask(frame(KEY_STATEMENT.code, b"\0")) == [WRONG_LENGTH]
        assert lit(agents[0])
        KeyStatement.unpack(reply[:-2]).check()


def test_which_key_a_session_was_made_for_is_remembered(rig: Rig) -> None:
    made = begin(rig)
    keys = rig.node.keys
    old = connect(rig, PLAIN, NODE.public)
    new = connect(rig, ADMIN, made.key.public)
    # Not before it is confirmed: message 1 may have been recorded.
    assert [keys.state_of(one.public) for one in (PLAIN, ADMIN)] == ["old", "old"]
    for agent in (old, new):
        [answer] = agent.ask(frame(SYS_CAPS.code))
        assert answer[-2:] == OK
    assert [keys.state_of(one.public) for one in (PLAIN, ADMIN)] == ["old", "next"]
    old.ask(ASK)
    assert keys.state_of(PLAIN.public) == "told"


def test_sessions_go_on_when_the_old_key_ends(rig: Rig) -> None:
    made = begin(rig)
    agents = [connect(rig, PLAIN, NODE.public), connect(rig, ADMIN, made.key.public)]
    for agent in agents:
        agent.ask(ASK)
    rig.node.keys._ended(made)
    assert rig.node.key.public == made.key.public
    for agent in agents:
        assert agent.ask(ASK) == [NO_SUCH_INSTRUCTION]
        [answer] = agent.ask(frame(SYS_CAPS.code))
        assert answer[-2:] == OK
    late = rig.dial()
    late.magic()
    assert late.read()[6:38] == made.key.public


async def test_nobody_is_let_in_with_a_key_of_the_node(rig: Rig) -> None:
    made = begin(rig)
    agent = rig.session(ADMIN)
    for own in (NODE.public, made.key.public):
        request = NewAgent(own, CapabilityMap(CORE), 0, "thief").pack()
        sealed = agent.link.signer.seal(AGENT_ADD.code, 0, 0, request)
        agent.send(sealed)
        await rig.settle()
        assert agent.responses() == [INVALID_PAYLOAD]
    rig.node.keys._ended(made)
    request = NewAgent(made.key.public, CapabilityMap(CORE), 0, "thief").pack()
    agent.send(agent.link.signer.seal(AGENT_ADD.code, 0, 0, request))
    await rig.settle()
    assert agent.responses() == [INVALID_PAYLOAD]


async def test_what_nobody_grants_is_in_no_list_and_may_be_asked_for(rig: Rig) -> None:
    """An agent that copies its own map hands on what is granted."""
    begin(rig)
    agent = rig.session(ADMIN)
    child = PrivateKey.generate().public
    request = NewAgent(child, CapabilityMap(CORE | STATEMENT), 0, "child").pack()
    agent.send(agent.link.signer.seal(AGENT_ADD.code, 0, 0, request))
    await rig.settle()
    [answer] = agent.responses()
    assert answer[-2:] == OK
    agent.send(agent.link.signer.seal(AGENT_LIST.code, 0, 0, b""))
    await rig.settle()
    [answer] = agent.responses()
    listed = Agents.unpack(answer[:-2]).agents
    assert len(listed) == 4
    assert not any(CapabilityMap.of(one.caps).bits & STATEMENT for one in listed)
