"""One connection of a node: handshake, messages to the disk, answers from it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Final, cast

from asys.audit.collector.frames import What
from asys.audit.push import MAX_PIPELINED, PROLOGUE, PushType, Unknown
from asys.errors import LinkError
from asys.node.clock import Handle
from asys.node.door import source
from asys.protocol.link import LinkState, NodeLink

if TYPE_CHECKING:
    from asys.audit.collector.server import Collector

MAGIC_SECONDS: Final = 1.0
HANDSHAKE_SECONDS: Final = 5.0
"""From the connection to the magic; to the first message behind the handshake."""

LINGER_SECONDS: Final = 1.0
"""How long a refused node has to read why."""

IN_WORK: Final = 2 * MAX_PIPELINED
"""Messages of a connection that wait for the disk; behind them nothing is read."""

WRITE_BUFFER: Final = 64 << 10
"""Bytes of answers that a node may leave unread."""

KEEPALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
"""A node that is gone without a word is noticed after two minutes."""


class Connection(asyncio.Protocol):
    """As asys.protocol.link.Gate too: what a stranger costs is asked before it is spent."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._link = NodeLink(collector.key, self, prologue=PROLOGUE)
        self._transport: asyncio.Transport | None = None
        self._peername: object = None
        self._timer: Handle | None = None
        self._held = False
        self.id = 0
        """A number of its own, once it is confirmed."""
        self.label = ""
        """The node's, once its handshake is done."""
        self.peer = "gone"
        self.in_work = 0
        self.waits_since = 0.0
        """Since when the disk owes an answer, in seconds of the clock; while `in_work`."""
        self.closed = False

    @property
    def node_key(self) -> bytes:
        """The node's public key, once it has proven it."""
        return self._link.agent_key

    # -- as asyncio calls them

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the connection in, or refuses it at once when there is no room."""
        self._transport = cast(asyncio.Transport, transport)
        peer = self._peername = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.peer = f"{peer[0]}:{peer[1]}"
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER)
        why = self._collector.admit(self)
        if why:
            self.drop(why)
            return
        self._deadline(MAGIC_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Bytes of the handshake, or of messages."""
        if self.closed or self._transport is None:
            return  # it lingers: what it still sends is not looked at
        was = self._link.state
        try:
            self._link.receive_data(data)
        except LinkError as error:
            self.drop(f"handshake refused: {error}")
            return
        self._transport.write(self._link.data_to_send())
        if self._link.state is not LinkState.OPEN:
            return
        if was is not LinkState.OPEN:
            label = self._collector.label_of(self.node_key)
            if not label:
                self._collector.tell_unknown(self)
                self.finish(Unknown().pack(), "")
                return
            self.label = label
        self._turn()

    def eof_received(self) -> bool:
        """The node has said all; what it has not read it does not want."""
        return False

    def pause_writing(self) -> None:
        """It does not read its answers: nothing more is done for it until it does."""
        self._held = True
        self._turn()

    def resume_writing(self) -> None:
        """It reads again."""
        self._held = False
        self._turn()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever wanted it."""
        self.closed = True
        self._deadline(None)
        self._collector.forget(self, str(exc or "by the node"))
        self._transport = None

    # -- the gate

    def greeted(self) -> str:
        """As Gate.greeted."""
        return self._collector.greeted(self, source(self._peername))

    def knocked(self, ephemeral: bytes) -> str:
        """As Gate.knocked: a message 1 that is repeated gets no further than to its answer."""
        return ""

    # -- messages

    def _turn(self) -> None:
        """Hands on what has come, as far as there is room; else lets the rest wait on the wire."""
        if self.closed or self._transport is None or self._link.state is not LinkState.OPEN:
            return
        try:
            while not self._held and self.in_work < IN_WORK:
                messages = self._link.messages(IN_WORK - self.in_work)
                if not messages:
                    break
                if not self.id and not self._confirm():
                    return
                if not self.in_work:
                    self.waits_since = self._collector.clock.now()
                self.in_work += len(messages)
                for message in messages:
                    self._collector.keeper.say(self.id, What.MESSAGE, message)
        except LinkError as error:
            self.drop(f"it breaks the protocol: {error}")
            return
        if self._held or self.in_work >= IN_WORK:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _confirm(self) -> bool:
        """The first message has authenticated: nobody replays that."""
        why = self._collector.confirm(self)
        if why:
            self.drop(why)
            return False
        self._deadline(None)
        self._keep_alive()
        return True

    def answered(self, answer: bytes) -> None:
        """The disk has dealt with the oldest message; `answer` may be empty."""
        if self.closed or self._transport is None:
            return
        self.in_work -= 1
        self.waits_since = self._collector.clock.now()
        if answer[:1] == bytes((PushType.REFUSED,)):
            self.finish(answer, "")
            return
        if answer:
            self._transport.write(self._link.seal([answer]))
        self._turn()

    # -- the end

    def drop(self, why: str) -> None:
        """Ends it at once, and says why where that is worth a line."""
        if self.closed:
            return
        self.closed = True
        if why:
            self._collector.notice(self, why)
        self._link.fail()
        if self._transport is not None:
            self._transport.abort()

    def finish(self, answer: bytes, why: str) -> None:
        """Says a last word and ends it, once the node could read that."""
        if self.closed or self._transport is None:
            return
        self._transport.write(self._link.seal([answer]))
        self.closed = True
        if why:
            self._collector.notice(self, why)
        self._link.fail()
        # Closing with bytes unread would reset the connection, and take the last word away.
        self._transport.resume_reading()
        with contextlib.suppress(OSError):
            self._transport.write_eof()
        self._deadline(LINGER_SECONDS)

    def _deadline(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = self._collector.clock.call_later(seconds, self._late)

    def _late(self) -> None:
        self._timer = None
        if self.closed:  # it has lingered long enough
            if self._transport is not None:
                self._transport.abort()
        elif self._link.state is LinkState.MAGIC:
            self.drop("no magic in time")
        else:
            self.drop("no handshake in time")

    def shows_magic(self) -> None:
        """The magic has come in time."""
        self._deadline(HANDSHAKE_SECONDS - MAGIC_SECONDS)

    def _keep_alive(self) -> None:
        if self._transport is None:
            return
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE:
            option = getattr(socket, name, None)
            if option is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
