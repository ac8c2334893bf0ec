"""The handshake at both ends, with somebody in between who alters what he likes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from unittest import mock

from asys.errors import HandshakeError, LinkError, ProtocolError
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import MESSAGE_1_SIZE, MESSAGE_2_SIZE, PRE_HANDSHAKE_SIZE
from asys.protocol.link import AgentLink, LinkState, NodeLink
from fuzz.choices import Choices, Script

COVERS = ("asys.protocol.link", "asys.protocol.noise")

NODE: Final = PrivateKey(bytes(range(1, 33)))
AGENT: Final = PrivateKey(bytes(range(2, 34)))
_EPHEMERAL: Final = PrivateKey(bytes(range(3, 35)))

_MAGIC, _PRE, _FIRST, _SECOND = range(4)


def one(data: bytes) -> None:
    """A handshake opens both ends with the same keys, or an end that was lied to fails for good."""
    with mock.patch("asys.protocol.noise.PrivateKey.generate", _no_chance):
        _attempt(Choices(data))


def _no_chance() -> PrivateKey:
    """In place of a key of chance, so that an input does the same each time."""
    return PrivateKey(bytes(range(4, 36)))


def _attempt(choices: Choices) -> None:
    if choices.below(4) == 3:
        _alone(choices)
        return
    node = NodeLink(NODE)
    agent = AgentLink(AGENT, ephemeral=_EPHEMERAL)
    stage = choices.below(5)  # the message that is altered; 4: none

    hello = agent.data_to_send()
    shown = _pass(choices, node, hello, altered=stage == _MAGIC)
    if shown is None:
        return
    assert len(shown) == PRE_HANDSHAKE_SIZE
    first = _to_agent(choices, agent, shown, altered=stage == _PRE)
    if first is None:
        return
    assert len(first) == MESSAGE_1_SIZE
    trusted = agent.node_key == NODE.public
    second = _pass(choices, node, first, altered=stage == _FIRST, must_fail=not trusted)
    if second is None:
        return
    assert trusted
    assert node.agent_key == AGENT.public
    assert len(second) == MESSAGE_2_SIZE
    if _pass(choices, agent, second, altered=stage == _SECOND) is None:
        return
    assert node.state is agent.state is LinkState.OPEN
    assert node.keys == agent.keys
    _talk(choices, node, agent)


def _talk(choices: Choices, node: NodeLink, agent: AgentLink) -> None:
    """An open link carries what is said, until a byte of it is altered."""
    said = [choices.blob() for _ in range(choices.below(3))]
    wire = agent.seal(said)
    node.receive_data(wire)
    assert node.messages() == said
    if choices.flag():
        frame = agent.signer.sign(0x20, 0, 0, choices.blob())
        node.receive_data(agent.seal([frame]))
        assert node.messages() == [frame]
    if choices.flag():
        node.rekey()
        agent.rekey()
    wire = node.seal(said)
    agent.receive_data(wire)
    assert agent.messages() == said
    rest = choices.rest()
    node.receive_data(rest)
    try:
        assert node.messages() == []
    except LinkError:
        _is_failed(node)


def _alone(choices: Choices) -> None:
    """Bytes from somebody who has no key at all: nobody's link opens."""
    link = AgentLink(AGENT) if choices.flag() else NodeLink(NODE)
    before = link.state
    try:
        for piece in choices.pieces():
            link.receive_data(piece)
            if link.state is LinkState.KEY_SHOWN and isinstance(link, AgentLink):
                link.begin_handshake()
            assert link.state.value >= before.value
            before = link.state
    except LinkError:
        _is_failed(link)
    assert link.state is not LinkState.OPEN


def _pass(
    choices: Choices,
    link: NodeLink | AgentLink,
    message: bytes,
    *,
    altered: bool,
    must_fail: bool = False,
) -> bytes | None:
    """Delivers a message, altered or not. What the link answers; None: there is no going on."""
    there = _altered(choices, message) if altered else message
    try:
        for piece in choices.pieces(there):
            link.receive_data(piece)
    except LinkError:
        assert there != message or must_fail
        _is_failed(link)
        return None
    if there != message:  # it waits for the rest, or has more than it expects yet
        more = there.startswith(message)
        assert more or len(there) < len(message)
        assert more or link.state is not LinkState.OPEN
        return None
    assert not must_fail
    return link.data_to_send()


def _to_agent(choices: Choices, agent: AgentLink, shown: bytes, *, altered: bool) -> bytes | None:
    """The node's key comes to the agent, who trusts whatever it is shown."""
    there = _altered(choices, shown) if altered else shown
    try:
        for piece in choices.pieces(there):
            agent.receive_data(piece)
        if agent.state is not LinkState.KEY_SHOWN:
            assert len(there) < len(shown)
            return None
        agent.begin_handshake()
    except LinkError as error:
        assert isinstance(error, HandshakeError)
        assert there != shown
        _is_failed(agent)
        return None
    assert there[:5] == shown[:5]  # the minor version may be another one
    assert agent.node_key == there[6:]
    return agent.data_to_send()


def _altered(choices: Choices, message: bytes) -> bytes:
    what = choices.below(4)
    at = choices.below(len(message))
    if what == 0:
        return message[:at] + bytes((message[at] ^ (choices.byte() or 1),)) + message[at + 1 :]
    if what == 1:
        return message[:at]
    if what == 2:
        return message + choices.rest()
    return message[:at] + choices.take(32) + message[at + 32 :]


def _is_failed(link: NodeLink | AgentLink) -> None:
    assert link.state is LinkState.FAILED
    assert link.keys is None
    assert link.data_to_send() == b""
    for call in (lambda: link.receive_data(b"x"), link.messages, lambda: link.seal([b""])):
        try:
            call()
        except ProtocolError:
            continue
        raise AssertionError("a failed link works")


def seeds() -> Iterator[bytes]:
    """A whole handshake, each of its messages altered in each way, and strangers."""
    yield bytes(Script().byte(0, 4, 2, 1, 1, 0, 0, 0, 2).blob(b"a").blob(b"").byte(1).blob(b"p"))
    for stage in range(4):
        for what in range(4):
            cuts = Script().byte(0, stage).raw(bytes(stage)).byte(what, 5, 1)
            yield bytes(cuts.raw(b"x" * 40))
    yield bytes(Script().byte(3, 0, 1, 4).raw(b"ASYS" + bytes(96)))
    yield bytes(Script().byte(3, 1, 1, 38).raw(b"ASYS\1\0" + NODE.public + bytes(48)))
    yield bytes(Script().byte(3, 0, 0).raw(b"GET / HTTP/1.1"))
