"""One session of a load: asks, and checks that each answer is the one to its question."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from random import Random
from time import perf_counter
from typing import Final, cast

from asys.errors import LinkError
from asys.protocol.keys import PrivateKey
from asys.protocol.link import AgentLink, LinkState
from asys.protocol.status import SW
from benchmarks.soak.ledger import Ledger
from benchmarks.soak.questions import GREETING, Answer, Asked, Questions

_AT_ONCE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends RST."""

_PAUSE: Final = 0.005
"""Seconds between the two halves of a write that is cut."""

_ONE_IN_CUT: Final = 20


class Agent:
    """Who a session is of: its key, the node's, and what it may ask."""

    def __init__(self, key: PrivateKey, node_key: bytes, listed: str) -> None:
        self.key: Final = key
        self.node_key: Final = node_key
        self.questions: Final = Questions(listed)


class Session(asyncio.Protocol):
    """A connection that becomes a session. `over` is called once, when it is gone.

    At most one write is unanswered at a time.
    """

    __slots__ = (
        "_agent",
        "_began",
        "_chance",
        "_leaving",
        "_ledger",
        "_link",
        "_loop",
        "_over",
        "_rekeys",
        "_transport",
        "due",
        "opened",
        "ready",
    )

    def __init__(
        self,
        agent: Agent,
        ledger: Ledger,
        chance: Random,
        over: Callable[[Session], None],
    ) -> None:
        self._agent = agent
        self._ledger = ledger
        self._chance = chance
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._link = AgentLink(agent.key)
        self._leaving = ""
        self._rekeys = False
        self._began = 0.0
        self.due: deque[Answer] = deque()
        """What has been asked and not answered."""
        self.opened = False
        self.ready = self._loop.create_future()
        """Whether its first answer has come, once that is known."""

    # -- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Shows the magic."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._link.data_to_send())

    def data_received(self, data: bytes) -> None:
        """Goes on with the handshake, or checks answers."""
        try:
            self._link.receive_data(data)
            if not self.opened:
                self._shake_hands()
                return
            messages = self._link.messages()
        except LinkError as error:
            self._wrong(f"bytes that do not open: {error}")
            return
        for message in messages:
            if not self._take(message):
                return

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever wanted it."""
        ledger = self._ledger
        if self._leaving:
            ledger.abandoned += len(self.due)
        elif not self.opened:
            ledger.slow_starts += 1
        elif self.due or self.ready.done():
            ledger.cut += 1
            ledger.lost += len(self.due)
            ledger.complain(f"the node ended a session, {len(self.due)} answers due: {exc}")
        self.due.clear()
        if not self.ready.done():
            self.ready.set_result(False)
        self._over(self)

    # -- questions and answers

    @property
    def gone(self) -> bool:
        """Whether it is on its way out, or was not let in yet."""
        return bool(self._leaving) or not self.opened or self._transport.is_closing()

    def poll(self) -> None:
        """Asks something; what was asked before must have been answered."""
        self._ask(self._agent.questions.poll(self._chance, self._link.signer))

    def _ask(self, asked: Asked) -> None:
        self._began = perf_counter()
        self._rekeys = asked.rekeys
        self._ledger.asked += len(asked.answers)
        self.due.extend(asked.answers)
        data = self._link.seal(asked.frames)
        if self._chance.randrange(_ONE_IN_CUT):
            self._transport.write(data)
            return
        at = self._chance.randrange(1, len(data))
        self._transport.write(data[:at])
        self._loop.call_later(_PAUSE, self._rest, data[at:])

    def _rest(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def _shake_hands(self) -> None:
        if self._link.state is LinkState.KEY_SHOWN:
            if self._link.node_key != self._agent.node_key:
                self._wrong("another node's key")
                return
            self._link.begin_handshake()
            self._transport.write(self._link.data_to_send())
        elif self._link.state is LinkState.OPEN:
            self.opened = True
            self._ask(self._agent.questions.mixture(self._chance, self._link.signer, GREETING))

    def _take(self, message: bytes) -> bool:
        """Whether a message is what has to come next."""
        ledger = self._ledger
        if not self.ready.done():
            if message in (SW.BLOCKED.wire, SW.DENIED.wire) and not self.due[0].fits(message):
                ledger.refused += 1
                ledger.complain(f"a session was refused with {message.hex()}")
                self.reset("refused")
                return False
            ledger.sessions += 1
            self.ready.set_result(True)
        if not self.due:
            ledger.unasked += 1
            self._wrong(f"an answer to nothing: {message.hex()}")
            return False
        expected = self.due.popleft()
        if not expected.fits(message):
            self.due.appendleft(expected)
            self._wrong(f"{message.hex()} as the answer to {expected.to}")
            return False
        ledger.answered += 1
        if not self.due:
            ledger.took(perf_counter() - self._began)
            if self._rekeys:
                self._rekeys = False
                self._link.rekey()
            if self._leaving:
                self._transport.close()
        return True

    def _wrong(self, text: str) -> None:
        self._ledger.wrong += len(self.due)
        self._ledger.complain(text)
        self.due.clear()
        self.reset("wrong")

    # -- ways to go

    def leave(self) -> None:
        """Ends it when all that was asked has been answered."""
        self._go("in order")
        if not self.due:
            self._transport.close()

    def reset(self, way: str = "reset") -> None:
        """Ends it now, by RST."""
        self._go(way)
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self._transport.abort()

    def reset_with_answers_due(self) -> None:
        """Asks much, and ends it by RST."""
        if not self.due:
            self._ask(self._agent.questions.mixture(self._chance, self._link.signer, 20))
        self.reset("reset, answers due")

    def leave_within_a_record(self) -> None:
        """Ends it amid a record, by FIN or by RST."""
        questions = self._agent.questions
        asked = questions.mixture(self._chance, self._link.signer, 1)
        data = self._link.seal(asked.frames[:1])
        self._transport.write(data[: self._chance.randrange(1, len(data))])
        self._leave_now("within a record")

    def leave_within_a_frame(self) -> None:
        """Ends it when half a frame is in a whole record."""
        asked = self._agent.questions.mixture(self._chance, self._link.signer, 1)
        self._transport.write(self._link.seal([asked.frames[0][:4]]))
        self._leave_now("within a frame")

    def _leave_now(self, way: str) -> None:
        if self._chance.randrange(2):
            self.reset(way)
        else:
            self._go(way)
            self._transport.close()

    def _go(self, way: str) -> None:
        if not self._leaving:
            self._ledger.ways[way] += 1
        self._leaving = way


class Visitor(asyncio.Protocol):
    """A connection that ends within the handshake: with the magic, without an answer, or amid it.

    `over` is called once, when it is gone.
    """

    def __init__(
        self, agent: Agent, ledger: Ledger, chance: Random, over: Callable[[Visitor], None]
    ) -> None:
        self._link = AgentLink(agent.key)
        self._ledger = ledger
        self._chance = chance
        self._over = over

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Says nothing, or a part of the magic, or all of it."""
        self._transport = cast("asyncio.Transport", transport)
        magic = self._link.data_to_send()
        said = self._chance.randrange(len(magic) + 5)
        if said:
            self._transport.write(magic[:said])
        if said < len(magic):
            self._leave("visit: no magic")

    def data_received(self, data: bytes) -> None:
        """Goes on to message 1, or to a part of it."""
        try:
            self._link.receive_data(data)
            if self._link.state is not LinkState.KEY_SHOWN:
                return
            self._link.begin_handshake()
        except LinkError as error:
            self._ledger.wrong += 1
            self._ledger.complain(f"a visitor's handshake: {error}")
            self._leave("visit: wrong")
            return
        message_1 = self._link.data_to_send()
        self._transport.write(message_1[: self._chance.randrange(2 * len(message_1))])
        self._leave("visit: within the handshake")

    def _leave(self, way: str) -> None:
        self._ledger.ways[way] += 1
        if self._chance.randrange(2):
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone."""
        self._over(self)
