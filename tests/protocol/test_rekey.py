"""New keys in a running connection: the channel against another implementation, and both ends."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from asys.conformance.vectors import load as load_vectors
from asys.errors import ChannelError, ProtocolError
from asys.protocol.apdu import Frame, FrameParser
from asys.protocol.channel import Channel
from asys.protocol.keys import PrivateKey
from asys.protocol.link import AgentLink, LinkState, NodeLink
from asys.protocol.status import SW
from protocol.channels import HERE, THERE, assert_broken, ends
from protocol.joined import our_agent_their_node, their_agent_our_node
from protocol.links import AGENT, NODE, assert_failed, opened
from protocol.oracle import Oracle, Refused
from protocol.silence import assert_silent

VECTORS: dict[str, Any] = load_vectors("sealed.json")

KEYS = (bytes([11]) * 32, bytes([12]) * 32, bytes([13]) * 32, bytes([14]) * 32)
"""Static and ephemeral key of either end."""

turns = st.lists(
    st.one_of(
        st.just("rekey"),
        st.tuples(
            st.sampled_from(["ours", "theirs"]), st.lists(st.binary(max_size=40), max_size=3)
        ),
    ),
    max_size=12,
)


def next_key(key: bytes) -> bytes:
    """REKEY(k) of the Noise specification, section 4.2: ENCRYPT(k, 2^64 - 1, "", 32 zeros)[:32]."""
    nonce = bytes(4) + (2**64 - 1).to_bytes(8, "little")
    return ChaCha20Poly1305(key).encrypt(nonce, bytes(32), None)[:32]


def rekey(theirs: Oracle) -> None:
    """REKEY of both directions at the other implementation's end."""
    theirs.connection.rekey_outbound_cipher()
    theirs.connection.rekey_inbound_cipher()


def talk(ours: Channel, theirs: Oracle, steps: list[Any]) -> None:
    """Goes through `steps`, both ends at once; each direction has keys and a counter of its own."""
    sent = received = 0
    for step in steps:
        if step == "rekey":
            send_key, receive_key = ours.rekey()
            rekey(theirs)
            assert (send_key, receive_key) == (theirs.receive_key, theirs.send_key)
            continue
        who, messages = step
        for message in messages:
            if who == "ours":
                assert theirs.open(ours.seal([message])) == message
                sent += 1
            else:
                ours.feed(theirs.record(message))
                assert ours.receive() == [message]
                received += 1
    assert repr(ours) == f"<Channel open, {sent} sent, {received} received>"


@given(turns)
def test_the_channel_of_an_agent_against_another_implementation(steps: list[Any]) -> None:
    talk(*our_agent_their_node(*KEYS), steps)


@given(turns)
def test_the_channel_of_a_node_against_another_implementation(steps: list[Any]) -> None:
    talk(*their_agent_our_node(*KEYS), steps)


def test_an_end_that_does_not_follow_is_not_understood() -> None:
    ours, theirs = our_agent_their_node(*KEYS)
    ours.rekey()
    with pytest.raises(Refused):
        theirs.open(ours.seal([b"under the new key"]))
    ours.feed(theirs.record(b"under the old key"))
    with pytest.raises(ChannelError, match="does not authenticate"):
        ours.receive()
    assert_broken(ours)


def test_the_keys_are_those_of_the_specification() -> None:
    channel = Channel(HERE, THERE)
    send, receive = HERE, THERE
    for _ in range(3):
        send, receive = next_key(send), next_key(receive)
        assert channel.rekey() == (send, receive)
    assert len({HERE, THERE, send, receive}) == 4
    chain = [bytes.fromhex(key) for key in VECTORS["rekeyed"]]
    assert [next_key(key) for key in chain[:-1]] == chain[1:]
    pinned = Channel(chain[0], HERE)
    assert [pinned.rekey()[0], pinned.rekey()[0]] == chain[1:]


def test_the_counters_go_on() -> None:
    """A record after the change has the next counter, under the new key."""
    here, _ = ends()
    here.seal([b"0", b"1"])
    send, _ = here.rekey()
    sealed = ChaCha20Poly1305(send).encrypt(bytes(4) + (2).to_bytes(8, "little"), b"2", None)
    assert here.seal([b"2"]) == len(sealed).to_bytes(2, "big") + sealed


@pytest.mark.parametrize("behind", [b"\x00", b"\x00\x12", b"\x00\x12" + bytes(17), b"\xff" * 400])
def test_bytes_behind_break_the_channel_for_good(behind: bytes) -> None:
    here, there = ends()
    there.feed(here.seal([b"REKEY"]) + behind)
    assert there.receive() == [b"REKEY"]
    with pytest.raises(ChannelError, match="bytes follow where the keys change"):
        there.rekey()
    assert_broken(there)
    with pytest.raises(ChannelError, match="the channel is broken"):
        there.rekey()


def test_a_whole_record_behind_that_nobody_has_taken() -> None:
    here, there = ends()
    there.feed(here.seal([b"REKEY", b"under the old key"]))
    assert there.receive(1) == [b"REKEY"]
    with pytest.raises(ChannelError, match="bytes follow"):
        there.rekey()
    assert_broken(there)


def test_a_closed_channel_has_no_new_keys() -> None:
    here, _ = ends()
    here.close()
    with pytest.raises(ChannelError, match="the channel is broken"):
        here.rekey()
    assert_broken(here)


# Both ends of a connection.


def exchange(agent: AgentLink, node: NodeLink) -> None:
    """A plain, a signed and a sealed request and their answers; nothing is refused."""
    frames = [agent.signer.sign(0x20, 0, 0, b"abcd"), agent.signer.seal(0x61, 0, 0, b"sealed")]
    node.receive_data(agent.seal([bytes(6), *frames]))
    plain, signed, sealed = (FrameParser().feed(message)[0] for message in node.messages())
    assert plain.data == b""
    assert node.verifier.verify(signed) is None
    assert node.verifier.verify(sealed) is None
    opened = node.verifier.open(sealed)
    assert isinstance(opened, Frame)
    assert opened.data[4:] == b"sealed"
    agent.receive_data(node.seal([b"one", b"two"]))
    assert agent.messages() == [b"one", b"two"]


def change(agent: AgentLink, node: NodeLink) -> None:
    """REKEY as it travels: request and answer under the old keys, then both ends go on."""
    node.receive_data(agent.seal([b"\x00\x13\x00\x00\x00\x00"]))
    assert node.messages() == [b"\x00\x13\x00\x00\x00\x00"]
    answer = node.seal([b"\x90\x00"])
    node.rekey()
    agent.receive_data(answer)
    assert agent.messages() == [b"\x90\x00"]
    agent.rekey()


def test_both_ends_go_on() -> None:
    agent, node = opened()
    assert agent.keys is not None
    first = agent.keys
    to_node, to_agent = first.agent_to_node, first.node_to_agent
    exchange(agent, node)
    for times in range(1, 4):
        change(agent, node)
        to_node, to_agent = next_key(to_node), next_key(to_agent)
        assert agent.keys is not None
        assert agent.keys == node.keys
        assert (agent.keys.agent_to_node, agent.keys.node_to_agent) == (to_node, to_agent)
        assert agent.keys.handshake_hash == first.handshake_hash
        assert agent.signer.seq == node.verifier.last_seq == 2 * times
        exchange(agent, node)
    assert agent.state is node.state is LinkState.OPEN


def test_frames_of_the_old_keys_are_refused() -> None:
    agent, node = opened()
    old = [agent.signer.sign(0x20, 0, 0, b"abcd"), agent.signer.seal(0x61, 0, 0, b"sealed")]
    change(agent, node)
    node.receive_data(agent.seal(old))
    for message in node.messages():
        assert node.verifier.verify(FrameParser().feed(message)[0]) == SW.DENIED


def test_only_one_end_goes_on() -> None:
    agent, node = opened()
    node.rekey()
    node.receive_data(agent.seal([bytes(6)]))
    with pytest.raises(ChannelError, match="does not authenticate"):
        node.messages()
    assert_failed(node)
    agent.receive_data(opened()[1].seal([b"x"]))
    with pytest.raises(ChannelError):
        agent.messages()
    assert_failed(agent)


def test_bytes_behind_fail_the_link() -> None:
    agent, node = opened()
    node.receive_data(agent.seal([b"\x00\x13\x00\x00\x00\x00"]) + b"\x00")
    assert node.messages() == [b"\x00\x13\x00\x00\x00\x00"]
    with pytest.raises(ChannelError, match="bytes follow"):
        node.rekey()
    assert_failed(node)
    agent.receive_data(b"\x00")
    with pytest.raises(ChannelError, match="bytes follow"):
        agent.rekey()
    assert_failed(agent)


def test_there_are_no_new_keys_before_the_first_ones() -> None:
    agent, node = AgentLink(AGENT), NodeLink(NODE)
    for link in (agent, node):
        with pytest.raises(ProtocolError, match="the link is not open"):
            link.rekey()
        assert link.state is LinkState.MAGIC
        assert link.keys is None
        link.fail()
        with pytest.raises(ProtocolError, match="the link is not open"):
            link.rekey()
        assert_failed(link)


def test_nothing_says_the_new_keys_aloud() -> None:
    agent, node = opened()
    exchange(agent, node)
    assert agent.keys is not None
    secrets = [agent.keys.agent_to_node, agent.keys.node_to_agent]
    change(agent, node)
    assert agent.keys is not None
    secrets += [agent.keys.agent_to_node, agent.keys.node_to_agent]
    assert len(set(secrets)) == 4
    for holder in (agent, node, agent.channel, agent.signer, node.verifier, agent.keys):
        assert_silent(holder, *secrets)
        assert_silent({"holder": [holder]}, *secrets)
        for refused in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="not pickled") as caught:
                refused(holder)
            assert_silent(caught.value, *secrets)
    agent.receive_data(b"\x00")
    with pytest.raises(ChannelError) as failed:
        agent.rekey()
    assert_silent(failed.value, *secrets)


def test_the_private_keys_of_the_ends_stay_what_they_were() -> None:
    agent, node = opened()
    change(agent, node)
    assert node.agent_key == AGENT.public
    assert agent.node_key == NODE.public == PrivateKey(bytes([2]) * 32).public
