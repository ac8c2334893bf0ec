"""A prologue of its own: the handshake against an independent implementation, and mixed ones."""

from __future__ import annotations

import pytest

from asys.audit.push import PROLOGUE
from asys.errors import HandshakeError
from asys.protocol.limits import MESSAGE_2_SIZE, PRE_HANDSHAKE_SIZE
from asys.protocol.link import AgentLink, LinkState, NodeLink
from protocol.links import AGENT, NODE, assert_failed
from protocol.oracle import Oracle, Refused

PROLOGUES = [PROLOGUE, b"", b"asys-audit-v2"]


def test_the_prologue_is_that_of_the_document() -> None:
    assert PROLOGUE == b"asys-audit-v1"


def test_our_node_and_their_agent() -> None:
    node = NodeLink(NODE, prologue=PROLOGUE)
    node.receive_data(b"ASYS")
    node.data_to_send()
    theirs = Oracle.agent(AGENT.raw(), NODE.public, prologue=PROLOGUE)
    node.receive_data(theirs.write())
    theirs.read(node.data_to_send())
    assert node.state is LinkState.OPEN
    assert node.keys is not None
    assert node.keys.handshake_hash == theirs.handshake_hash
    assert theirs.open(node.seal([b"stands"])) == b"stands"
    node.receive_data(theirs.record(b"put"))
    assert node.messages() == [b"put"]


def test_our_agent_and_their_node() -> None:
    agent = AgentLink(AGENT, prologue=PROLOGUE)
    agent.data_to_send()
    agent.receive_data(b"ASYS\x01\x00" + NODE.public)
    agent.begin_handshake()
    theirs = Oracle.node(NODE.raw(), prologue=PROLOGUE)
    theirs.read(agent.data_to_send())
    agent.receive_data(theirs.write())
    assert agent.state is LinkState.OPEN
    assert agent.keys is not None
    assert agent.keys.handshake_hash == theirs.handshake_hash
    assert theirs.open(agent.seal([b"put"])) == b"put"
    agent.receive_data(theirs.record(b"stands"))
    assert agent.messages() == [b"stands"]


@pytest.mark.parametrize("ours", PROLOGUES)
@pytest.mark.parametrize("theirs", PROLOGUES)
def test_two_prologues_open_nothing(ours: bytes, theirs: bytes) -> None:
    agent, node = AgentLink(AGENT, prologue=ours), NodeLink(NODE, prologue=theirs)
    node.receive_data(agent.data_to_send())
    shown = node.data_to_send()
    assert len(shown) == PRE_HANDSHAKE_SIZE  # what comes before the handshake is the same
    agent.receive_data(shown)
    agent.begin_handshake()
    if ours == theirs:
        node.receive_data(agent.data_to_send())
        agent.receive_data(node.data_to_send())
        assert agent.state is node.state is LinkState.OPEN
        return
    with pytest.raises(HandshakeError, match="does not authenticate"):
        node.receive_data(agent.data_to_send())
    assert_failed(node)


def test_a_node_of_another_prologue_cannot_answer() -> None:
    agent = AgentLink(AGENT, prologue=PROLOGUE)
    agent.data_to_send()
    agent.receive_data(b"ASYS\x01\x00" + NODE.public)
    agent.begin_handshake()
    theirs = Oracle.node(NODE.raw())
    with pytest.raises(Refused):
        theirs.read(agent.data_to_send())
    with pytest.raises(HandshakeError):
        agent.receive_data(bytes(MESSAGE_2_SIZE))
    assert_failed(agent)
