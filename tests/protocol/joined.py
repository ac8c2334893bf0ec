"""One end of ours and one of another implementation, open, with all that they share compared."""

from __future__ import annotations

from asys.protocol.channel import Channel
from asys.protocol.keys import PrivateKey
from asys.protocol.noise import Initiator, Responder, SessionKeys
from protocol.oracle import Oracle


class Disagreement(AssertionError):
    """The two ends do not hold the same."""


def _same(ours: SessionKeys, theirs: Oracle, *, agent: bool) -> None:
    sending, receiving = theirs.send_key, theirs.receive_key
    expected = (receiving, sending) if agent else (sending, receiving)
    if (ours.agent_to_node, ours.node_to_agent) != expected:
        raise Disagreement("transport keys")
    if ours.handshake_hash != theirs.handshake_hash:
        raise Disagreement("handshake hash")


def our_agent_their_node(
    agent: bytes,
    agent_ephemeral: bytes,
    node: bytes,
    node_ephemeral: bytes,
    prologue: bytes = b"",
    initiator: type[Initiator] = Initiator,
) -> tuple[Channel, Oracle]:
    """Both ends, open, with all that they share compared."""
    static = PrivateKey(agent)
    ours = initiator(
        static,
        PrivateKey(node).public,
        ephemeral=PrivateKey(agent_ephemeral),
        prologue=prologue,
    )
    theirs = Oracle.node(node, ephemeral=node_ephemeral, prologue=prologue)
    theirs.read(ours.write_message_1())
    assert theirs.remote_static == static.public
    session = ours.read_message_2(theirs.write())
    _same(session, theirs, agent=True)
    return Channel(session.agent_to_node, session.node_to_agent), theirs


def their_agent_our_node(
    agent: bytes,
    agent_ephemeral: bytes,
    node: bytes,
    node_ephemeral: bytes,
    prologue: bytes = b"",
    responder: type[Responder] = Responder,
) -> tuple[Channel, Oracle]:
    """The other way round."""
    static = PrivateKey(node)
    ours = responder(static, ephemeral=PrivateKey(node_ephemeral), prologue=prologue)
    theirs = Oracle.agent(agent, static.public, ephemeral=agent_ephemeral, prologue=prologue)
    assert ours.read_message_1(theirs.write()) == PrivateKey(agent).public
    message_2, session = ours.write_message_2()
    theirs.read(message_2)
    _same(session, theirs, agent=False)
    return Channel(session.node_to_agent, session.agent_to_node), theirs
