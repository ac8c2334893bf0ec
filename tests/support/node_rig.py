"""A real node and real sessions without sockets: time and the network move when a test says so.

    rig = Rig()
    agent = rig.connect()
    assert agent.ask(HELLO) ...

Callbacks of the clock that are due run whenever the network moves. What must wait for the node's
event loop (coroutines) runs in `await rig.settle()`. All agents have the same address, so
handshakes are not counted where `limits` does not say so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from asys.node.agents.authority import Store
from asys.node.agents.book import AgentBook, parse_agents
from asys.node.agents.directory import Delegate
from asys.node.clock import Clock
from asys.node.held.isolations import Isolations
from asys.node.platform import choose_platform
from asys.node.platform.base import Logs, Platform, ServiceManager
from asys.node.server import Limits, Mode, Node
from asys.node.session import Session
from asys.node.vendor.vendors import Vendors
from asys.protocol.keys import PrivateKey
from asys.protocol.link import AgentLink, LinkState
from support.clock import ManualClock
from support.frames import HELLO, OK, Frames

NODE: Final = PrivateKey.generate()
AGENT: Final = PrivateKey.generate()
OTHER: Final = PrivateKey.generate()

PEER: Final = ("192.0.2.1", 4711)
"""Where an agent comes from that does not say otherwise."""

SETTLE_TURNS: Final = 50
"""Rounds of the event loop after which everything that waits for nothing else has run."""


class MemoryTransport(asyncio.Transport):
    """A connection in memory: the node's end of it.

    It keeps to asyncio's contract: nothing is delivered while reading is paused, the protocol is
    told when its peer does not read, and of the end exactly once.
    """

    def __init__(self, protocol: Session, peer: object = PEER) -> None:
        super().__init__({"peername": peer})
        self.protocol = protocol
        self.taking = True
        """Whether the peer reads what it is sent."""
        self.incoming: list[bytes] = []
        self.unread = b""
        """What the peer has not read."""
        self.taken = b""
        """What it has."""
        self.reading = True
        self.closing = False
        self.aborted = False
        self.eof_sent = False
        self.over = False
        self.writes = 0
        self._eof_received = False
        self._eof_told = False
        self._high = 0
        self._held = False

    # -- the peer's side

    def send(self, data: bytes) -> None:
        """Bytes from the peer; they wait in the kernel while the node does not read."""
        self.incoming.append(data)
        self.deliver()

    def send_eof(self) -> None:
        """The peer sends nothing more."""
        self._eof_received = True
        self.deliver()

    def deliver(self) -> None:
        """Gives the node what it is willing to read."""
        while self.reading and not self.closing and self.incoming:
            self.protocol.data_received(self.incoming.pop(0))
        if (
            self.reading
            and not self.closing
            and self._eof_received
            and not self.incoming
            and not self._eof_told
        ):
            self._eof_told = True
            if not self.protocol.eof_received():
                self.close()

    def take(self) -> None:
        """The peer reads everything."""
        self.taken += self.unread
        self.unread = b""
        if self._held:
            self._held = False
            self.protocol.resume_writing()
        self._end_if_flushed()

    def lose(self, error: Exception | None = None) -> None:
        """The connection is gone."""
        if not self.over:
            self.over = self.closing = True
            self.protocol.connection_lost(error)

    # -- the node's side

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """As Transport.write."""
        if self.eof_sent:
            raise RuntimeError("write after write_eof")
        if not data or self.over:
            return
        self.writes += 1
        self.unread += bytes(data)
        if self.taking:
            self.taken += self.unread
            self.unread = b""
        elif len(self.unread) > self._high and not self._held:
            self._held = True
            self.protocol.pause_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As Transport.set_write_buffer_limits."""
        self._high = high or 0

    def pause_reading(self) -> None:
        """As Transport.pause_reading."""
        self.reading = False

    def resume_reading(self) -> None:
        """As Transport.resume_reading; what has arrived meanwhile is delivered in `deliver`."""
        self.reading = True

    def can_write_eof(self) -> bool:
        """As Transport.can_write_eof."""
        return True

    def write_eof(self) -> None:
        """As Transport.write_eof."""
        self.eof_sent = True

    def is_closing(self) -> bool:
        """As Transport.is_closing."""
        return self.closing

    def close(self) -> None:
        """As Transport.close: after what is still to be sent."""
        self.closing = True
        self._end_if_flushed()

    def abort(self) -> None:
        """As Transport.abort: the end comes in the next round, as with a real one."""
        self.closing = self.aborted = True
        self.unread = b""

    def settle(self) -> None:
        """What an event loop would do next for this connection."""
        if self.aborted:
            self.lose()
        else:
            self._end_if_flushed()
            self.deliver()

    def _end_if_flushed(self) -> None:
        if self.closing and not self.unread:
            self.lose()


class RigAgent(Frames):
    """An agent at the other end of a MemoryTransport."""

    def __init__(self, rig: Rig, session: Session, transport: MemoryTransport) -> None:
        super().__init__()
        self.rig = rig
        self.session = session
        self.transport = transport
        self._read = 0

    def write(self, data: bytes) -> None:
        """Bytes as they are, in one segment."""
        self.transport.send(data)

    def read(self) -> bytes:
        """What the node has sent since the last call."""
        data = self.transport.taken[self._read :]
        self._read = len(self.transport.taken)
        return data

    def magic(self) -> None:
        """Says who speaks."""
        self.link = AgentLink(AGENT)
        self.write(self.link.data_to_send())

    def handshake(self, key: PrivateKey) -> None:
        """To an open session."""
        self.link = AgentLink(key)
        self.write(self.link.data_to_send())
        self.link.receive_data(self.read())
        self.link.begin_handshake()
        self.write(self.link.data_to_send())
        self.link.receive_data(self.read())
        assert self.link.state is LinkState.OPEN

    def responses(self) -> list[bytes]:
        """All responses that have arrived and were not taken before."""
        self.link.receive_data(self.read())
        return self.link.messages()

    def ask(self, *messages: bytes) -> list[bytes]:
        """Sends requests, each its own message, and gives the responses that come at once."""
        self.send(*messages)
        self.rig.run()
        return self.responses()


class Rig:
    """A node, its clock, and the connections to it."""

    def __init__(
        self,
        agents: dict[PrivateKey, str] | None = None,
        *,
        platform: Platform | None = None,
        services: ServiceManager | None = None,
        logs: Logs | None = None,
        limits: Limits | None = None,
        mode: Mode = Mode.FULL,
        delegates: tuple[Delegate, ...] = (),
        store: Store | None = None,
        dark: bool = False,
        vendors: Callable[[Clock], Vendors] | None = None,
        isolations: Callable[[ManualClock], Isolations] | None = None,
    ) -> None:
        self.clock: Final = ManualClock()
        self.transports: list[MemoryTransport] = []
        self.node: Final = Node(
            key=NODE,
            book=book(agents if agents is not None else {AGENT: "agent caps=all"}),
            platform=platform or choose_platform(),
            clock=self.clock,
            services=services,
            logs=logs,
            limits=limits or Limits(handshakes=0),
            mode=mode,
            delegates=delegates,
            store=store,
            dark=dark,
            vendors=vendors(self.clock) if vendors is not None else None,
            isolations=isolations(self.clock) if isolations is not None else None,
        )

    def dial(self, peer: object = PEER) -> RigAgent:
        """A connection on which nothing has been sent."""
        session = Session(self.node)
        transport = MemoryTransport(session, peer)
        self.transports.append(transport)
        session.connection_made(transport)
        return RigAgent(self, session, transport)

    def connect(self, key: PrivateKey = AGENT, peer: object = PEER) -> RigAgent:
        """An agent behind the handshake, which has sent nothing since: a session not confirmed."""
        agent = self.dial(peer)
        agent.handshake(key)
        return agent

    def session(self, key: PrivateKey = AGENT, peer: object = PEER) -> RigAgent:
        """An agent whose session is confirmed: SYS_HELLO has been answered."""
        agent = self.connect(key, peer)
        [hello] = agent.ask(HELLO)
        assert hello.endswith(OK)
        return agent

    def run(self) -> None:
        """What is due now happens."""
        for _ in range(2):
            for transport in self.transports:
                transport.settle()
            self.clock.run_ready()

    def advance(self, seconds: float) -> None:
        """Time passes; what falls due happens."""
        self.clock.advance(seconds)
        self.run()

    async def settle(self) -> None:
        """Everything happens that waits for nothing but its turn."""
        for _ in range(SETTLE_TURNS):
            self.run()
            await asyncio.sleep(0)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Lets time pass, 10 ms at a time, until something is so."""
        for _ in range(2000):
            await self.settle()
            if condition():
                return
            self.clock.advance(0.01)
        raise AssertionError("it did not happen within 20 s of the node's time")

    async def close(self) -> None:
        """Ends the node; every connection must be gone then."""
        await self.node.close()
        await self.settle()
        assert all(transport.over for transport in self.transports)


def book(agents: dict[PrivateKey, str]) -> AgentBook:
    """`authorized_agents` with these lines."""
    lines = "".join(f"{key.public.hex()} {rest}\n" for key, rest in agents.items())
    found = parse_agents(lines)
    assert not found.faults
    return found
