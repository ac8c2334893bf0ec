"""The connection as a state machine: both ends joined in memory, and peers that misbehave."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from asys.errors import ChannelError, HandshakeError, ProtocolError
from asys.protocol.apdu import FrameParser
from asys.protocol.channel import MAX_MESSAGE
from asys.protocol.keys import PrivateKey
from asys.protocol.link import AgentLink, LinkState, NodeLink
from asys.protocol.noise import Initiator
from protocol.links import AGENT, NODE, SHOWN, assert_failed, opened
from protocol.streams import cut, marks


def test_an_agent_reaches_a_node() -> None:
    agent, node = opened()
    assert agent.state is node.state is LinkState.OPEN
    assert agent.node_key == NODE.public
    assert agent.node_version == 0x0100
    assert node.agent_key == AGENT.public
    assert agent.keys == node.keys is not None
    node.receive_data(agent.seal([bytes(6), agent.signer.sign(0x20, 0, 0, b"abcd")]))
    plain, signed = (FrameParser().feed(message)[0] for message in node.messages())
    assert plain.ins == 0
    assert node.verifier.verify(signed) is None
    agent.receive_data(node.seal([b"one", b"two"]))
    assert agent.messages(1) == [b"one"]
    assert agent.messages() == [b"two"]
    assert repr(agent) == "<AgentLink OPEN>"
    assert repr(node) == "<NodeLink OPEN>"


@given(marks, marks, marks, marks)
def test_any_pieces(first: list[int], second: list[int], third: list[int], last: list[int]) -> None:
    agent, node = AgentLink(AGENT), NodeLink(NODE)
    for piece in cut(agent.data_to_send(), first):
        node.receive_data(piece)
    for piece in cut(node.data_to_send(), second):
        agent.receive_data(piece)
    agent.begin_handshake()
    for piece in cut(agent.data_to_send(), third):
        node.receive_data(piece)
    for piece in cut(node.data_to_send(), last):
        agent.receive_data(piece)
    assert agent.keys == node.keys is not None


def test_the_node_says_nothing_before_the_magic() -> None:
    node = NodeLink(NODE)
    for byte in b"ASY":
        node.receive_data(bytes((byte,)))
        assert node.data_to_send() == b""
    node.receive_data(b"S")
    assert node.data_to_send() == SHOWN
    assert node.data_to_send() == b""


def test_an_agent_may_send_the_handshake_and_requests_with_the_magic() -> None:
    """It knows the node's key: nothing in the same segment is lost."""
    initiator = Initiator(AGENT, NODE.public)
    node = NodeLink(NODE)
    node.receive_data(b"ASYS" + initiator.write_message_1())
    assert node.state is LinkState.OPEN
    answer = node.data_to_send()
    assert answer[:38] == SHOWN
    assert len(answer) == 38 + 48


def test_data_behind_message_1_is_not_lost() -> None:
    """A peer cannot make a record before message 2, but part of one may look like that."""
    node = NodeLink(NODE)
    node.receive_data(b"ASYS" + Initiator(AGENT, NODE.public).write_message_1() + b"\x00\x20tail")
    assert node.channel.buffered == 6
    assert node.messages() == []


def test_data_behind_message_2_is_not_lost() -> None:
    agent, node = AgentLink(AGENT), NodeLink(NODE)
    node.receive_data(agent.data_to_send())
    agent.receive_data(node.data_to_send())
    agent.begin_handshake()
    node.receive_data(agent.data_to_send())
    agent.receive_data(node.data_to_send() + node.seal([b"\x69\x82"]) + b"\x00")
    assert agent.messages() == [b"\x69\x82"]
    assert agent.channel.buffered == 1


@given(st.binary(min_size=1, max_size=300))
def test_a_node_refuses_whatever_is_not_the_magic(data: bytes) -> None:
    node = NodeLink(NODE)
    if b"ASYS".startswith(data[:4]):
        data = b"\x00" + data
    with pytest.raises(HandshakeError, match="does not speak ASys"):
        node.receive_data(data)
    assert_failed(node)


@pytest.mark.parametrize("size", range(4))
def test_a_node_refuses_the_first_wrong_byte(size: int) -> None:
    node = NodeLink(NODE)
    node.receive_data(b"ASYS"[:size])
    with pytest.raises(HandshakeError, match="does not speak ASys"):
        node.receive_data(b"!")
    assert_failed(node)


@given(st.binary(min_size=96, max_size=400), marks)
def test_a_node_refuses_any_garbage_as_message_1(data: bytes, at: list[int]) -> None:
    node = NodeLink(NODE)
    node.receive_data(b"ASYS")
    for piece in cut(data[:95], at):
        node.receive_data(piece)
        assert node.state is LinkState.HANDSHAKE
    with pytest.raises(HandshakeError):
        node.receive_data(data[95:])
    assert node.agent_key == b""
    assert_failed(node)


@pytest.mark.parametrize("size", range(4))
def test_an_agent_refuses_the_first_wrong_byte(size: int) -> None:
    agent = AgentLink(AGENT)
    agent.receive_data(b"ASYS"[:size])
    with pytest.raises(HandshakeError, match="not an ASys node"):
        agent.receive_data(b"!")
    assert_failed(agent)


@pytest.mark.parametrize("version", [0x0000, 0x00FF, 0x0200, 0xFFFF])
def test_an_agent_refuses_another_major_version(version: int) -> None:
    agent = AgentLink(AGENT)
    said = f"version {version >> 8}.{version & 0xFF}, this agent 1.0"
    with pytest.raises(HandshakeError, match=said):
        agent.receive_data(b"ASYS" + version.to_bytes(2, "big") + NODE.public)
    assert agent.node_key == b""
    assert_failed(agent)


def test_an_agent_takes_a_later_minor_version() -> None:
    agent = AgentLink(AGENT)
    agent.receive_data(b"ASYS\x01\x07" + NODE.public)
    assert agent.state is LinkState.KEY_SHOWN
    assert agent.node_version == 0x0107


def test_a_node_that_speaks_out_of_turn() -> None:
    together = AgentLink(AGENT)
    with pytest.raises(HandshakeError, match="out of turn"):
        together.receive_data(SHOWN + b"\x00")
    assert_failed(together)
    later = AgentLink(AGENT)
    later.receive_data(SHOWN)
    later.receive_data(b"")
    assert later.state is LinkState.KEY_SHOWN
    with pytest.raises(HandshakeError, match="out of turn"):
        later.receive_data(b"\x00")
    assert_failed(later)


@given(st.binary(min_size=48, max_size=200))
def test_an_agent_refuses_any_garbage_as_message_2(data: bytes) -> None:
    agent = AgentLink(AGENT)
    agent.receive_data(SHOWN)
    agent.begin_handshake()
    with pytest.raises(HandshakeError):
        agent.receive_data(data)
    assert_failed(agent)


def test_a_node_with_another_key_than_it_shows() -> None:
    agent = AgentLink(AGENT)
    agent.receive_data(SHOWN)
    agent.begin_handshake()
    liar = NodeLink(PrivateKey.generate())
    with pytest.raises(HandshakeError, match="does not authenticate"):
        liar.receive_data(agent.data_to_send())
    assert_failed(liar)


def test_a_node_that_shows_a_low_order_key() -> None:
    agent = AgentLink(AGENT)
    agent.receive_data(b"ASYS\x01\x00" + bytes(32))
    with pytest.raises(HandshakeError, match="not a usable X25519 key"):
        agent.begin_handshake()
    assert_failed(agent)


def test_the_handshake_begins_once_and_in_turn() -> None:
    agent = AgentLink(AGENT)
    with pytest.raises(ProtocolError, match="has not shown its key"):
        agent.begin_handshake()
    assert repr(agent) == "<AgentLink MAGIC>"
    agent.receive_data(SHOWN)
    agent.begin_handshake()
    with pytest.raises(ProtocolError, match="the handshake has begun"):
        agent.begin_handshake()
    assert agent.state is LinkState.HANDSHAKE


@pytest.mark.parametrize("link", [AgentLink(AGENT), NodeLink(NODE)], ids=repr)
def test_nothing_is_sealed_or_opened_before_the_link_is_open(link: AgentLink | NodeLink) -> None:
    with pytest.raises(ProtocolError, match="not open"):
        link.seal([b"early"])
    with pytest.raises(ProtocolError, match="not open"):
        link.messages()
    assert link.state is LinkState.MAGIC


def test_a_bad_record_fails_the_link_after_the_good_ones() -> None:
    agent, node = opened()
    node.receive_data(agent.seal([b"good"]) + b"\x00\x10" + bytes(16))
    assert node.messages() == [b"good"]
    with pytest.raises(ChannelError):
        node.messages()
    assert_failed(node)


def test_a_message_that_is_too_large_fails_the_link() -> None:
    agent, _ = opened()
    with pytest.raises(ChannelError, match="is the most"):
        agent.seal([bytes(MAX_MESSAGE + 1)])
    assert_failed(agent)


def test_fail_drops_what_has_arrived_and_what_waits() -> None:
    agent, node = opened()
    node.receive_data(agent.seal([b"1", b"2"]))
    assert node.messages(1) == [b"1"]
    node.fail()
    assert node.channel.buffered == 0
    with pytest.raises(ChannelError):
        node.channel.receive()
    assert_failed(node)
    unsent = AgentLink(AGENT)
    unsent.fail()
    assert_failed(unsent)


class TwoEnds(RuleBasedStateMachine):
    """Both ends with anything at all between them.

    Whatever happens: only ProtocolError and its kinds, no way back from FAILED, and a message that
    arrives is one that was sent.
    """

    @initialize(ready=st.booleans())
    def begin(self, ready: bool) -> None:
        self.agent, self.node = opened() if ready else (AgentLink(AGENT), NodeLink(NODE))
        self.links: list[AgentLink | NodeLink] = [self.agent, self.node]
        self.wires = {id(link): b"" for link in self.links}
        self.sent: dict[int, list[bytes]] = {id(link): [] for link in self.links}
        self.got: dict[int, list[bytes]] = {id(link): [] for link in self.links}
        self.lowest = {id(link): LinkState.MAGIC.value for link in self.links}

    def peer(self, link: AgentLink | NodeLink) -> AgentLink | NodeLink:
        return self.node if link is self.agent else self.agent

    @rule(which=st.booleans(), size=st.integers(1, 400))
    def deliver(self, which: bool, size: int) -> None:
        link = self.links[which]
        peer = self.peer(link)
        wire = self.wires[id(peer)] + peer.data_to_send()
        self.wires[id(peer)] = wire[size:]
        try:
            link.receive_data(wire[:size])
        except ProtocolError:
            assert link.state is LinkState.FAILED

    @rule()
    def trust(self) -> None:
        shown = self.agent.state is LinkState.KEY_SHOWN
        try:
            self.agent.begin_handshake()
        except ProtocolError:
            assert not shown or self.agent.state is LinkState.FAILED

    @rule(which=st.booleans(), messages=st.lists(st.binary(max_size=30), max_size=3))
    def send(self, which: bool, messages: list[bytes]) -> None:
        link = self.links[which]
        is_open = link.state is LinkState.OPEN
        try:
            self.wires[id(link)] += link.data_to_send() + link.seal(messages)
        except ProtocolError:
            assert not is_open
        else:
            self.sent[id(link)] += messages

    @rule(which=st.booleans(), limit=st.integers(1, 4))
    def read(self, which: bool, limit: int) -> None:
        link = self.links[which]
        try:
            self.got[id(link)] += link.messages(limit)
        except ProtocolError:
            assert link.state is not LinkState.OPEN

    @rule(which=st.booleans(), garbage=st.binary(min_size=1, max_size=120))
    def inject(self, which: bool, garbage: bytes) -> None:
        link = self.links[which]
        self.wires[id(link)] += link.data_to_send() + garbage

    @rule(which=st.booleans(), position=st.integers(0), bit=st.integers(0, 7))
    def damage(self, which: bool, position: int, bit: int) -> None:
        wire = bytearray(self.wires[id(self.links[which])])
        if wire:
            wire[position % len(wire)] ^= 1 << bit
            self.wires[id(self.links[which])] = bytes(wire)

    @invariant()
    def states_only_go_down(self) -> None:
        for link in self.links:
            assert link.state.value >= self.lowest[id(link)]
            self.lowest[id(link)] = link.state.value

    @invariant()
    def what_arrives_was_sent_and_in_order(self) -> None:
        for link in self.links:
            got = self.got[id(link)]
            assert got == self.sent[id(self.peer(link))][: len(got)]

    def teardown(self) -> None:
        for link in self.links:
            if link.state is LinkState.FAILED:
                assert_failed(link)


TestTwoEnds = TwoEnds.TestCase
