"""A whole session with `noiseprotocol` at one end and our link at the other, without sockets.

The other end is written from docs/protocol.md alone: it uses nothing of `asys`.
"""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.errors import ChannelError, HandshakeError
from asys.isa import SYS_CAPS, TASK_QUERY
from asys.isa.process import Restart, Throttle
from asys.protocol.apdu import Frame, FrameParser, encode_plain, split_response
from asys.protocol.keys import PrivateKey
from asys.protocol.link import AgentLink, LinkState, NodeLink
from asys.protocol.status import SW
from protocol.oracle import Oracle, Refused

AGENT, NODE = bytes([11]) * 32, bytes([22]) * 32
AGENT_PUBLIC, NODE_PUBLIC = PrivateKey(AGENT).public, PrivateKey(NODE).public

keys = st.binary(min_size=32, max_size=32)
bodies = st.binary(max_size=400)


class ForeignAgent:
    """An agent of other making: noiseprotocol, and HMAC over bytes put together by hand."""

    def __init__(self, static: bytes, node_public: bytes) -> None:
        self.oracle = Oracle.agent(static, node_public)
        self.seq = 0

    def signed(self, ins: int, p1: int, payload: bytes) -> bytes:
        """A standard signed frame, sealed."""
        self.seq += 1
        key = self.oracle.send_key
        head = bytes((0x04, ins, p1, 0, 4 + len(payload)))
        seq = self.seq.to_bytes(4, "big")
        epoch = hmac.new(key, b"asys-epoch-v1", "blake2b").digest()[:4]
        tag = hmac.new(key, head + epoch + seq + payload, "blake2b").digest()[:16]
        return self.oracle.record(head + seq + payload + b"\x00" + tag)


def foreign_agent_to(
    node: NodeLink, static: bytes = AGENT, node_public: bytes = NODE_PUBLIC
) -> ForeignAgent:
    """Its connection to `node`, open."""
    agent = ForeignAgent(static, node_public)
    node.receive_data(b"ASYS")
    shown = node.data_to_send()
    assert shown == b"ASYS\x01\x00" + node_public
    node.receive_data(agent.oracle.write())
    agent.oracle.read(node.data_to_send())
    return agent


def foreign_node_for(agent: AgentLink, static: bytes = NODE) -> Oracle:
    """The other end of `agent`, open."""
    assert agent.data_to_send() == b"ASYS"
    node = Oracle.node(static)
    agent.receive_data(b"ASYS\x01\x00" + PrivateKey(static).public)
    agent.begin_handshake()
    node.read(agent.data_to_send())
    agent.receive_data(node.write())
    return node


def received(node: NodeLink) -> list[Frame]:
    """The frames that have arrived at our node."""
    parser = FrameParser()
    found = [frame for message in node.messages() for frame in parser.feed(message)]
    assert parser.error is None
    assert parser.pending == 0
    return found


@given(keys, keys)
def test_any_foreign_agent_opens_our_node(agent_static: bytes, node_static: bytes) -> None:
    node = NodeLink(PrivateKey(node_static))
    agent = foreign_agent_to(node, agent_static, PrivateKey(node_static).public)
    assert node.state is LinkState.OPEN
    assert node.agent_key == PrivateKey(agent_static).public
    assert node.keys is not None
    assert node.keys.handshake_hash == agent.oracle.handshake_hash
    assert node.keys.agent_to_node == agent.oracle.send_key


@given(keys, keys)
def test_our_agent_opens_any_foreign_node(agent_static: bytes, node_static: bytes) -> None:
    agent = AgentLink(PrivateKey(agent_static))
    node = foreign_node_for(agent, node_static)
    assert agent.state is LinkState.OPEN
    assert agent.keys is not None
    assert agent.keys.handshake_hash == node.handshake_hash
    assert agent.keys.agent_to_node == node.receive_key


def test_a_foreign_agent_asks_and_is_answered() -> None:
    node = NodeLink(PrivateKey(NODE))
    agent = foreign_agent_to(node)
    node.receive_data(agent.oracle.record(bytes(6)))
    node.receive_data(agent.oracle.record(bytes.fromhex("001100000400057bb000")))
    caps, query = received(node)
    assert caps.ins == SYS_CAPS.code
    assert TASK_QUERY.parse(query.p1, query.p2, query.data).pack().hex() == "00057bb0"
    answers = node.seal([bytes(34) + SW.SUCCESS.wire, b"\x01" + SW.SUCCESS.wire])
    assert agent.oracle.open(answers[:54]) == bytes(34) + b"\x90\x00"
    assert agent.oracle.open(answers[54:]) == b"\x01\x90\x00"


def test_a_foreign_agent_signs() -> None:
    node = NodeLink(PrivateKey(NODE))
    agent = foreign_agent_to(node)
    node.receive_data(
        agent.signed(0x20, 1, (1234).to_bytes(4, "big")) + agent.signed(0x22, 0, b"nginx")
    )
    throttle, restart = received(node)
    assert node.verifier.verify(throttle) is None
    assert node.verifier.verify(restart) is None
    assert node.verifier.verify(throttle) == SW.ALREADY_RECEIVED
    assert Throttle.unpack(throttle.data[4:], throttle.p1) == Throttle(1234, "continue")
    assert Restart.unpack(restart.data[4:]) == Restart("nginx")


@given(st.lists(bodies, max_size=5), st.lists(bodies, max_size=5))
def test_messages_in_both_directions(to_node: list[bytes], to_agent: list[bytes]) -> None:
    node = NodeLink(PrivateKey(NODE))
    agent = foreign_agent_to(node)
    node.receive_data(b"".join(agent.oracle.record(message) for message in to_node))
    assert node.messages() == to_node
    for message in to_agent:
        assert agent.oracle.open(node.seal([message])) == message


def test_our_agent_asks_a_foreign_node() -> None:
    agent = AgentLink(PrivateKey(AGENT))
    node = foreign_node_for(agent)
    sealed = agent.seal([encode_plain(0x01), agent.signer.sign(0x20, 0, 0, b"\x00\x00\x04\xd2")])
    hello, throttle = node.open(sealed[:24]), node.open(sealed[24:])
    assert hello == bytes.fromhex("000100000000")
    key = node.receive_key
    epoch = hmac.new(key, b"asys-epoch-v1", "blake2b").digest()[:4]
    head, data, tag = throttle[:5], throttle[5:13], throttle[14:]
    assert head + data == bytes.fromhex("0420000008" + "00000001" + "000004d2")
    assert tag == hmac.new(key, head + epoch + data, "blake2b").digest()[:16]
    agent.receive_data(node.record(bytes(16) + b"\x90\x00") + node.record(b"\x90\x00"))
    assert [split_response(message) for message in agent.messages()] == [
        (bytes(16), 0x9000),
        (b"", 0x9000),
    ]


def test_a_foreign_node_that_does_not_know_us() -> None:
    """6982 unasked for, in the same segment as message 2."""
    agent = AgentLink(PrivateKey(AGENT))
    node = Oracle.node(NODE)
    agent.receive_data(b"ASYS\x01\x00" + NODE_PUBLIC)
    agent.begin_handshake()
    node.read(agent.data_to_send()[4:])
    assert node.remote_static == AGENT_PUBLIC
    agent.receive_data(node.write() + node.record(b"\x69\x82"))
    assert agent.messages() == [b"\x69\x82"]


def test_a_foreign_agent_for_another_node() -> None:
    node = NodeLink(PrivateKey(NODE))
    node.receive_data(b"ASYS")
    stranger = Oracle.agent(AGENT, AGENT_PUBLIC)
    with pytest.raises(HandshakeError, match="does not authenticate"):
        node.receive_data(stranger.write())
    assert node.state is LinkState.FAILED


def test_a_foreign_agent_with_a_prologue() -> None:
    """Ours is empty and mixed in all the same."""
    node = NodeLink(PrivateKey(NODE))
    node.receive_data(b"ASYS")
    other = Oracle.agent(AGENT, NODE_PUBLIC, prologue=b"asys")
    with pytest.raises(HandshakeError, match="does not authenticate"):
        node.receive_data(other.write())


@pytest.mark.parametrize("position", [2, 10, 23])
def test_damage_on_the_way_is_seen_at_either_end(position: int) -> None:
    node = NodeLink(PrivateKey(NODE))
    agent = foreign_agent_to(node)
    record = bytearray(agent.oracle.record(bytes(6)))
    record[position] ^= 0x40
    node.receive_data(bytes(record))
    with pytest.raises(ChannelError, match="does not authenticate"):
        node.messages()
    ours = AgentLink(PrivateKey(AGENT))
    theirs = foreign_node_for(ours)
    record = bytearray(ours.seal([bytes(6)]))
    record[position] ^= 0x40
    with pytest.raises(Refused):
        theirs.open(bytes(record))
