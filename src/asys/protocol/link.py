"""A connection as a state machine: magic, handshake, open (docs/protocol.md, section 1).

Bytes from the network go in by `receive_data`, bytes for it come out of `data_to_send`. Neither end
touches a socket or a clock. Any error moves the link to FAILED, for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import Protocol

from asys.errors import HandshakeError, LinkError, ProtocolError
from asys.protocol.channel import Channel
from asys.protocol.keys import PrivateKey, Secret
from asys.protocol.limits import (
    KEY_SIZE,
    MAGIC,
    MESSAGE_1_SIZE,
    MESSAGE_2_SIZE,
    PRE_HANDSHAKE_SIZE,
    VERSION,
)
from asys.protocol.noise import Initiator, SessionKeys, answer_message_1
from asys.protocol.signing import Signer, Verifier


class LinkState(Enum):
    """Where a link is. A link only ever moves down this list."""

    MAGIC = auto()
    """Node: waits for the agent's magic. Agent: waits for the pre-handshake frame."""

    KEY_SHOWN = auto()
    """Agent: the node has shown its key; `begin_handshake` goes on, once it is trusted."""

    HANDSHAKE = auto()
    """Waits for the peer's handshake message."""

    OPEN = auto()
    """Messages flow."""

    FAILED = auto()
    """Nothing more goes in or out."""


class _Link(Secret):
    """What both ends share: the state, the bytes before the channel and the bytes to send."""

    __slots__ = ("_buffer", "_outgoing", "channel", "keys", "state")

    channel: Channel
    keys: SessionKeys | None

    def __init__(self) -> None:
        self.state = LinkState.MAGIC
        self.keys = None
        self._buffer = b""
        self._outgoing = b""

    def data_to_send(self) -> bytes:
        """Bytes for the network since the last call; write them in one piece."""
        outgoing = self._outgoing
        self._outgoing = b""
        return outgoing

    def receive_data(self, data: bytes) -> None:
        """Takes bytes from the network. Once the link is OPEN, `messages` has what they hold.

        HandshakeError or ProtocolError when the peer broke the protocol; the link is FAILED then.
        """
        if self.state is LinkState.OPEN:
            self.channel.feed(data)
            return
        if self.state is LinkState.FAILED:
            raise ProtocolError("the link has failed")
        self._buffer += data
        try:
            self._advance()
        except LinkError:
            self.fail()
            raise

    def messages(self, limit: int = 0xFFFF) -> list[bytes]:
        """Up to `limit` messages that have arrived whole. ChannelError: the link is FAILED.

        ProtocolError when the link is not open.
        """
        if self.state is not LinkState.OPEN:
            raise ProtocolError("the link is not open")
        try:
            return self.channel.receive(limit)
        except LinkError:
            self.fail()
            raise

    def seal(self, messages: Iterable[bytes]) -> bytes:
        """The bytes that carry `messages`, for the network. ChannelError: the link is FAILED.

        ProtocolError when the link is not open.
        """
        if self.state is not LinkState.OPEN:
            raise ProtocolError("the link is not open")
        try:
            return self.channel.seal(messages)
        except LinkError:
            self.fail()
            raise

    def fail(self) -> None:
        """Ends the link for good; what is buffered in either direction is dropped."""
        if self.state is LinkState.OPEN:
            self.channel.close()
        self.state = LinkState.FAILED
        self._buffer = b""
        self._outgoing = b""
        self.keys = None

    def _advance(self) -> None:
        raise NotImplementedError

    def _take(self, size: int) -> bytes | None:
        """The next `size` bytes of the handshake, once they are there."""
        if len(self._buffer) < size:
            return None
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def _open(self, channel: Channel, keys: SessionKeys) -> None:
        self.channel = channel
        self.keys = keys
        self.state = LinkState.OPEN
        self.channel.feed(self._buffer)
        self._buffer = b""

    def _rekeyed(self) -> tuple[bytes, bytes]:
        """The channel's new keys, to send and to receive. ProtocolError: the link is not open."""
        if self.state is not LinkState.OPEN:
            raise ProtocolError("the link is not open")
        try:
            return self.channel.rekey()
        except LinkError:
            self.fail()
            raise

    def _keep(self, agent_to_node: bytes, node_to_agent: bytes) -> None:
        if self.keys is not None:
            self.keys = replace(self.keys, agent_to_node=agent_to_node, node_to_agent=node_to_agent)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state.name}>"


class Gate(Protocol):
    """What a node asks before it spends work on a stranger. A reason refuses, "" lets go on."""

    def greeted(self) -> str:
        """The magic was right; the pre-handshake frame is next."""

    def knocked(self, ephemeral: bytes) -> str:
        """Message 1 is there, with this ephemeral key; the elliptic-curve work is next."""


class NodeLink(_Link):
    """The node's end. `agent_key` and `ephemeral`, the agent's, are set once it has proven it, and
    `node_key`, that of the node's public keys for which it did.
    """

    __slots__ = (
        "_gate",
        "_more",
        "_prologue",
        "_static",
        "agent_key",
        "ephemeral",
        "node_key",
        "verifier",
    )

    verifier: Verifier

    def __init__(
        self,
        static: PrivateKey,
        gate: Gate | None = None,
        *,
        more: Sequence[PrivateKey] = (),
        prologue: bytes = b"",
    ) -> None:
        """Shows the key `static`, and takes message 1 for any of `more` as well, which come first.

        The handshake fails with a peer whose `prologue` is another one.
        """
        super().__init__()
        self._static = static
        self._more = more
        self.node_key = b""
        self._gate = gate
        self._prologue = prologue
        self.agent_key = b""
        self.ephemeral = b""

    def fail(self) -> None:
        """As AgentLink.fail; whoever stood at the gate is let go."""
        super().fail()
        self._gate = None

    def rekey(self) -> None:
        """Goes on with new keys; what was sealed before went out under the old ones.

        ChannelError, and the link is FAILED, when bytes are buffered behind the request for it.
        """
        to_agent, to_node = self._rekeyed()
        self.verifier.rekey(to_node)
        self._keep(to_node, to_agent)

    def _advance(self) -> None:
        if self.state is LinkState.MAGIC:
            if not MAGIC.startswith(self._buffer[: len(MAGIC)]):
                raise HandshakeError("the peer does not speak ASys")
            if self._take(len(MAGIC)) is None:
                return
            if self._gate is not None:
                _let(self._gate.greeted())
            self._outgoing += MAGIC + VERSION.to_bytes(2, "big") + self._static.public
            self.state = LinkState.HANDSHAKE
        message_1 = self._take(MESSAGE_1_SIZE)
        if message_1 is None:
            return
        ephemeral = message_1[:KEY_SIZE]
        gate, self._gate = self._gate, None
        if gate is not None:
            _let(gate.knocked(ephemeral))
        responder, used = answer_message_1(
            (*self._more, self._static), message_1, prologue=self._prologue
        )
        self.agent_key = responder.agent_key
        self.node_key = used.public
        self.ephemeral = ephemeral
        message_2, keys = responder.write_message_2()
        self._outgoing += message_2
        self.verifier = Verifier(keys.agent_to_node)
        self._open(Channel(keys.node_to_agent, keys.agent_to_node), keys)


def _let(refusal: str) -> None:
    if refusal:
        raise HandshakeError(refusal)


class AgentLink(_Link):
    """The agent's end: KEY_SHOWN stops it until the caller has decided which key must be proven.

    `shown_key` is what the node has shown. `node_key` is the same until `begin_handshake`, and then
    the key that the handshake is about.
    """

    __slots__ = (
        "_ephemeral",
        "_initiator",
        "_prologue",
        "_static",
        "node_key",
        "node_version",
        "shown_key",
        "signer",
    )

    signer: Signer
    _initiator: Initiator

    def __init__(
        self,
        static: PrivateKey,
        *,
        ephemeral: PrivateKey | None = None,
        prologue: bytes = b"",
    ) -> None:
        """The handshake fails with a peer whose `prologue` is another one.

        `ephemeral` is for test vectors only.
        """
        super().__init__()
        self._static = static
        self._ephemeral = ephemeral
        self._prologue = prologue
        self._outgoing = MAGIC
        self.node_key = self.shown_key = b""
        self.node_version = 0

    def begin_handshake(self, node_key: bytes | None = None) -> None:
        """Goes on with the node: it must prove `node_key`, or else the key that it has shown.

        HandshakeError when the key is not one; ProtocolError out of turn.
        """
        if self.state is not LinkState.KEY_SHOWN:
            raise ProtocolError("the node has not shown its key, or the handshake has begun")
        if node_key is not None:
            self.node_key = node_key
        self._initiator = Initiator(
            self._static, self.node_key, ephemeral=self._ephemeral, prologue=self._prologue
        )
        try:
            self._outgoing += self._initiator.write_message_1()
        except HandshakeError:
            self.fail()
            raise
        self.state = LinkState.HANDSHAKE

    def rekey(self) -> None:
        """Goes on with new keys, once the node has answered REKEY.

        ChannelError, and the link is FAILED, when bytes are buffered behind that answer.
        """
        to_node, to_agent = self._rekeyed()
        self.signer.rekey(to_node)
        self._keep(to_node, to_agent)

    def _advance(self) -> None:
        if self.state is LinkState.MAGIC:
            self._read_pre_handshake()
        elif self.state is LinkState.KEY_SHOWN and self._buffer:
            raise HandshakeError("the node spoke out of turn")
        elif self.state is LinkState.HANDSHAKE:
            self._read_message_2()

    def _read_pre_handshake(self) -> None:
        if not MAGIC.startswith(self._buffer[: len(MAGIC)]):
            raise HandshakeError("the peer is not an ASys node: wrong magic")
        frame = self._take(PRE_HANDSHAKE_SIZE)
        if frame is None:
            return
        version = int.from_bytes(frame[4:6], "big")
        if version >> 8 != VERSION >> 8:
            raise HandshakeError(
                f"the node speaks protocol version {version >> 8}.{version & 0xFF}, "
                f"this agent {VERSION >> 8}.{VERSION & 0xFF}"
            )
        if self._buffer:
            raise HandshakeError("the node spoke out of turn")
        self.node_version = version
        self.node_key = self.shown_key = frame[-KEY_SIZE:]
        self.state = LinkState.KEY_SHOWN

    def _read_message_2(self) -> None:
        message_2 = self._take(MESSAGE_2_SIZE)
        if message_2 is None:
            return
        keys = self._initiator.read_message_2(message_2)
        del self._initiator
        self.signer = Signer(keys.agent_to_node)
        self._open(Channel(keys.agent_to_node, keys.node_to_agent), keys)
