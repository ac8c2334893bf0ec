"""The handshake against an independent implementation, and what would be caught by that."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.conformance.vectors import load as load_vectors
from asys.errors import HandshakeError
from asys.protocol import noise
from asys.protocol.channel import Channel
from asys.protocol.keys import PrivateKey
from asys.protocol.noise import Initiator, Responder, SessionKeys
from protocol.joined import Disagreement, our_agent_their_node, their_agent_our_node
from protocol.oracle import Oracle, Refused

keys = st.binary(min_size=32, max_size=32)
prologues = st.binary(max_size=200)
messages = st.lists(st.binary(max_size=300), max_size=6)

VECTOR: dict[str, str] = load_vectors("noise-ik.json")


def talk(ours: Channel, theirs: Oracle, sent: list[bytes], received: list[bytes]) -> None:
    """Messages in both directions, in turn and several at once."""
    for message in sent:
        assert theirs.open(ours.seal([message])) == message
    ours.feed(b"".join(theirs.record(message) for message in received))
    assert ours.receive() == received
    assert theirs.open(ours.seal([b"last"])) == b"last"


@given(keys, keys, keys, keys, prologues, messages, messages)
def test_our_agent_and_their_node(
    agent: bytes,
    agent_ephemeral: bytes,
    node: bytes,
    node_ephemeral: bytes,
    prologue: bytes,
    sent: list[bytes],
    received: list[bytes],
) -> None:
    ends = our_agent_their_node(agent, agent_ephemeral, node, node_ephemeral, prologue)
    talk(*ends, sent, received)


@given(keys, keys, keys, keys, prologues, messages, messages)
def test_their_agent_and_our_node(
    agent: bytes,
    agent_ephemeral: bytes,
    node: bytes,
    node_ephemeral: bytes,
    prologue: bytes,
    sent: list[bytes],
    received: list[bytes],
) -> None:
    ends = their_agent_our_node(agent, agent_ephemeral, node, node_ephemeral, prologue)
    talk(*ends, sent, received)


# What a test that plays both sides with one implementation cannot see.


class SwappedInitiator(Initiator):
    """Takes es for se in message 2; works with SwappedResponder."""

    def read_message_2(self, message: bytes) -> SessionKeys:
        symmetric = self._symmetric
        symmetric.mix_hash(message[:32])
        symmetric.mix_key(self._ephemeral.exchange(message[:32]))
        symmetric.mix_key(self._ephemeral.exchange(self._remote))
        symmetric.decrypt_and_hash(message[32:])
        return symmetric.split()


class SwappedResponder(Responder):
    """Takes es for se in message 2; works with SwappedInitiator."""

    def write_message_2(self) -> tuple[bytes, SessionKeys]:
        symmetric = self._symmetric
        ephemeral = self._ephemeral or PrivateKey.generate()
        symmetric.mix_hash(ephemeral.public)
        symmetric.mix_key(ephemeral.exchange(self._remote_ephemeral))
        symmetric.mix_key(self._static.exchange(self._remote_ephemeral))
        message = ephemeral.public + symmetric.encrypt_and_hash(b"")
        return message, symmetric.split()


def ours_alone(
    initiator: type[Initiator] = Initiator, responder: type[Responder] = Responder
) -> None:
    """Our two ends with each other: keys, hash and messages agree."""
    agent, node = PrivateKey.generate(), PrivateKey.generate()
    one, other = initiator(agent, node.public), responder(node)
    assert other.read_message_1(one.write_message_1()) == agent.public
    message_2, there = other.write_message_2()
    here = one.read_message_2(message_2)
    assert here == there
    channel = Channel(there.node_to_agent, there.agent_to_node)
    channel.feed(Channel(here.agent_to_node, here.node_to_agent).seal([b"hello"]))
    assert channel.receive() == [b"hello"]


ROLES = pytest.mark.parametrize("roles", [our_agent_their_node, their_agent_our_node])
Roles = Callable[..., tuple[Channel, Oracle]]
FOUR_KEYS = tuple(bytes([number]) * 32 for number in range(1, 5))


def test_our_two_ends_agree() -> None:
    ours_alone()


@pytest.mark.parametrize(
    ("roles", "swapped"),
    [
        (our_agent_their_node, {"initiator": SwappedInitiator}),
        (their_agent_our_node, {"responder": SwappedResponder}),
    ],
)
def test_a_swapped_se_is_caught(roles: Roles, swapped: dict[str, Any]) -> None:
    ours_alone(SwappedInitiator, SwappedResponder)
    with pytest.raises((HandshakeError, Refused)):
        roles(*FOUR_KEYS, **swapped)


@ROLES
def test_a_swapped_split_is_caught(roles: Roles, monkeypatch: pytest.MonkeyPatch) -> None:
    split = noise._SymmetricState.split

    def swapped(state: noise._SymmetricState) -> SessionKeys:
        session = split(state)
        return SessionKeys(session.node_to_agent, session.agent_to_node, session.handshake_hash)

    monkeypatch.setattr(noise._SymmetricState, "split", swapped)
    ours_alone()
    with pytest.raises(Disagreement, match="transport keys"):
        roles(*FOUR_KEYS)


@ROLES
def test_keyed_blake2b_is_caught(roles: Roles, monkeypatch: pytest.MonkeyPatch) -> None:
    def keyed(key: bytes, data: bytes) -> bytes:
        return blake2b(data, key=key).digest()

    monkeypatch.setattr(noise, "_hmac", keyed)
    ours_alone()
    with pytest.raises((HandshakeError, Refused)):
        roles(*FOUR_KEYS)


@ROLES
def test_a_prologue_that_is_not_mixed_is_caught(
    roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = noise._SymmetricState.__init__

    def without(state: noise._SymmetricState, prologue: bytes) -> None:
        start(state, prologue)
        state.hash = state._chaining_key

    monkeypatch.setattr(noise._SymmetricState, "__init__", without)
    ours_alone()
    with pytest.raises((HandshakeError, Refused)):
        roles(*FOUR_KEYS)


# A vector with both ephemeral keys, so that message 2 is pinned too.


def _vector(name: str) -> bytes:
    return bytes.fromhex(VECTOR[name])


def test_the_vector_is_what_the_oracle_computes() -> None:
    agent = Oracle.agent(
        _vector("agent_static_private"),
        PrivateKey(_vector("node_static_private")).public,
        ephemeral=_vector("agent_ephemeral_private"),
    )
    node = Oracle.node(_vector("node_static_private"), ephemeral=_vector("node_ephemeral_private"))
    message_1 = agent.write()
    node.read(message_1)
    message_2 = node.write()
    agent.read(message_2)
    assert message_1 == _vector("message_1")
    assert message_2 == _vector("message_2")
    assert agent.handshake_hash == _vector("handshake_hash")
    assert agent.send_key == _vector("agent_to_node_key")
    assert agent.receive_key == _vector("node_to_agent_key")
    assert agent.record(b"ping") == _vector("agent_record_ping")
    assert agent.record(b"") == _vector("agent_record_empty")
    assert node.record(b"pong") == _vector("node_record_pong")


def test_the_vector_is_what_both_our_ends_compute() -> None:
    node_static = PrivateKey(_vector("node_static_private"))
    initiator = Initiator(
        PrivateKey(_vector("agent_static_private")),
        node_static.public,
        ephemeral=PrivateKey(_vector("agent_ephemeral_private")),
    )
    responder = Responder(node_static, ephemeral=PrivateKey(_vector("node_ephemeral_private")))
    assert initiator.write_message_1() == _vector("message_1")
    responder.read_message_1(_vector("message_1"))
    message_2, there = responder.write_message_2()
    assert message_2 == _vector("message_2")
    here = initiator.read_message_2(message_2)
    assert here == there
    assert here.handshake_hash == _vector("handshake_hash")
    assert here.agent_to_node == _vector("agent_to_node_key")
    assert here.node_to_agent == _vector("node_to_agent_key")
    agent = Channel(here.agent_to_node, here.node_to_agent)
    assert agent.seal([b"ping"]) == _vector("agent_record_ping")
    assert agent.seal([b""]) == _vector("agent_record_empty")
    node = Channel(there.node_to_agent, there.agent_to_node)
    assert node.seal([b"pong"]) == _vector("node_record_pong")


# What the two classes refuse.


def _message_1() -> tuple[PrivateKey, bytes]:
    node = PrivateKey.generate()
    return node, Initiator(PrivateKey.generate(), node.public).write_message_1()


@pytest.mark.parametrize("size", [0, 1, 95, 97, 200])
def test_message_1_of_the_wrong_length(size: int) -> None:
    node, message = _message_1()
    with pytest.raises(HandshakeError, match=f"has {size} bytes, not 96"):
        Responder(node).read_message_1((message + message + message)[:size])


@pytest.mark.parametrize("size", [0, 47, 49, 96])
def test_message_2_of_the_wrong_length(size: int) -> None:
    initiator = Initiator(PrivateKey.generate(), PrivateKey.generate().public)
    initiator.write_message_1()
    with pytest.raises(HandshakeError, match=f"has {size} bytes, not 48"):
        initiator.read_message_2(bytes(size))


@pytest.mark.parametrize("position", range(96))
def test_every_byte_of_message_1_counts(position: int) -> None:
    node, message = _message_1()
    broken = bytearray(message)
    broken[position] ^= 1
    responder = Responder(node)
    with pytest.raises(HandshakeError):
        responder.read_message_1(bytes(broken))
    assert responder.agent_key == b""


@pytest.mark.parametrize("position", range(48))
def test_every_byte_of_message_2_counts(position: int) -> None:
    node = PrivateKey.generate()
    initiator = Initiator(PrivateKey.generate(), node.public)
    responder = Responder(node)
    responder.read_message_1(initiator.write_message_1())
    broken = bytearray(responder.write_message_2()[0])
    broken[position] ^= 1
    with pytest.raises(HandshakeError):
        initiator.read_message_2(bytes(broken))


def test_the_wrong_node_cannot_read_message_1() -> None:
    _, message = _message_1()
    with pytest.raises(HandshakeError, match="does not authenticate"):
        Responder(PrivateKey.generate()).read_message_1(message)


def test_an_agent_that_lies_about_its_key_is_refused() -> None:
    """The agent's static key is proven by ss, not merely claimed by its encrypted copy."""

    class Liar:
        public = PrivateKey.generate().public

        def exchange(self, public: bytes) -> bytes:
            return PrivateKey(bytes(range(32))).exchange(public)

    node = PrivateKey.generate()
    liar = Initiator(cast(PrivateKey, Liar()), node.public)
    with pytest.raises(HandshakeError, match="does not authenticate"):
        Responder(node).read_message_1(liar.write_message_1())


@given(st.binary(max_size=200))
def test_any_bytes_as_message_1(data: bytes) -> None:
    with pytest.raises(HandshakeError):
        Responder(PrivateKey(bytes(32))).read_message_1(data)


@given(st.binary(max_size=100) | st.binary(min_size=48, max_size=48))
def test_any_bytes_as_message_2(data: bytes) -> None:
    initiator = Initiator(PrivateKey(bytes(32)), PrivateKey(bytes(range(32))).public)
    initiator.write_message_1()
    with pytest.raises(HandshakeError):
        initiator.read_message_2(data)


def test_hkdf_is_hmac_with_a_block_of_128_bytes() -> None:
    """HMAC spelt out, over plain BLAKE2b."""
    key, secret = bytes(range(64)), b"secret"

    def spelt(key: bytes, data: bytes) -> bytes:
        padded = key.ljust(128, b"\0")
        inner = blake2b(bytes(byte ^ 0x36 for byte in padded) + data).digest()
        return blake2b(bytes(byte ^ 0x5C for byte in padded) + inner).digest()

    temporary = spelt(key, secret)
    first = spelt(temporary, b"\x01")
    assert noise._hkdf(key, secret) == (first, spelt(temporary, first + b"\x02"))
    assert spelt(key, secret) == hmac.digest(key, secret, "blake2b")
