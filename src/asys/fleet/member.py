"""One node of a fleet: its connection, which is kept, and made anew when it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any, Final

from asys.client.aio import Node
from asys.client.renewal import DEFAULT_SECONDS
from asys.errors import ConnectionLost, DeadlineExceeded, LinkError, OutcomeUnknown
from asys.fleet.inventory import NodeEntry
from asys.fleet.rows import end
from asys.isa import AnyInstruction, Level

CLOSE_SECONDS: Final = 1.0
"""Seconds for what is still to be sent when a connection is closed."""

LEAST: Final = 0.001
"""Seconds; so much time a call has when its deadline is as good as over."""

Connect = Callable[[NodeEntry, float], Awaitable[Node]]
"""Makes a connection within so many seconds. Raises what `asys.connect` raises."""


class Session:
    """A connection, and how many calls are under way on it. `number` is never given again."""

    __slots__ = ("born", "node", "number", "retired", "users")

    def __init__(self, node: Node, number: int) -> None:
        self.node: Final = node
        self.number: Final = number
        self.born: Final = perf_counter()
        self.users = 0
        self.retired = False

    @property
    def usable(self) -> bool:
        """It may take another call."""
        return not self.node.closed and perf_counter() - self.born < DEFAULT_SECONDS


class Member:
    """Asks one node. A connection that has left a call unanswered takes no other: a node that
    stands still and a network that swallows everything look the same from here.
    """

    def __init__(self, entry: NodeEntry, connect: Connect) -> None:
        self.entry: Final = entry
        self.doubtful = False
        """It did not answer the last time."""
        self._connect: Final = connect
        self._session: Session | None = None
        self._connecting: asyncio.Task[Session] | None = None
        self._numbers = 0
        self._open: set[Session] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    async def ask(
        self,
        instruction: AnyInstruction,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        seconds: float,
        shown_in: int = 0,
    ) -> tuple[Any, int]:
        """The reply, and the number of the connection that it came by, within `seconds`.

        Other than 0, `shown_in` is the number of the only connection that will do; ConnectionLost
        when that has ended. What is not signed is asked a second time where the connection had
        ended since it was last used; what is signed never is. Raises what a call and `connect`
        raise.
        """
        deadline = perf_counter() + seconds
        kept = self._kept()
        if shown_in and (kept is None or kept.number != shown_in):
            raise ConnectionLost(
                f"{self.entry.name}: the connection has ended in which the PID was shown; look "
                "again, for it may be another process by now"
            )
        try:
            if kept is not None:
                try:
                    return await self._call(kept, instruction, args, kwargs, deadline), kept.number
                except ConnectionLost:
                    if instruction.level is not Level.PLAIN or not instruction.idempotent:
                        raise
            session = await self._new(deadline)
            answer = await self._call(session, instruction, args, kwargs, deadline)
        except (LinkError, OutcomeUnknown):
            self.doubtful = True
            raise
        return answer, session.number

    async def close(self) -> None:
        """Ends the connection; calls under way fail."""
        self._closed = True
        if self._connecting is not None:
            await end((self._connecting,))
        self._session = None
        for session in tuple(self._open):
            self._close(session)
        if self._closing:
            await asyncio.wait(self._closing)

    # Inside

    def _kept(self) -> Session | None:
        """The connection that there is, if it will do."""
        session = self._session
        if session is not None and not session.usable:
            self._retire(session)
            self._session = session = None
        return session

    async def _new(self, deadline: float) -> Session:
        """A connection that has just been made; whoever wants one meanwhile gets the same."""
        if self._closed:
            raise ConnectionLost("the fleet is closed")
        left = max(deadline - perf_counter(), LEAST)
        connecting = self._connecting
        if connecting is None:
            connecting = self._connecting = asyncio.create_task(self._make(left))
            connecting.add_done_callback(self._made)
        _, late = await asyncio.wait((connecting,), timeout=left)
        if late:
            raise DeadlineExceeded(f"{self.entry.address} did not let this agent in, in time")
        if connecting.cancelled():
            raise ConnectionLost("the fleet is closed")
        return connecting.result()

    async def _make(self, seconds: float) -> Session:
        node = await self._connect(self.entry, seconds)
        self._numbers += 1
        session = Session(node, self._numbers)
        self._open.add(session)
        return session

    def _made(self, connecting: asyncio.Task[Session]) -> None:
        self._connecting = None
        if not connecting.cancelled() and connecting.exception() is None:
            self._session = connecting.result()

    async def _call(
        self,
        session: Session,
        instruction: AnyInstruction,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        deadline: float,
    ) -> Any:
        node = session.node
        session.users += 1
        try:
            # Nobody comes in between: a call reads its time before it waits for the first time.
            node.timeout = max(deadline - perf_counter(), LEAST)
            answer = await node.call(instruction, *args, **kwargs)
        except (DeadlineExceeded, OutcomeUnknown):
            self._retire(session)
            raise
        finally:
            session.users -= 1
            self._end(session)
        self.doubtful = False
        return answer

    def _retire(self, session: Session) -> None:
        """It takes no more calls; it is closed once those under way have ended."""
        session.retired = True
        if self._session is session:
            self._session = None
        self._end(session)

    def _end(self, session: Session) -> None:
        if session.retired and not session.users and session in self._open:
            self._close(session)

    def _close(self, session: Session) -> None:
        self._open.remove(session)
        session.node.timeout = CLOSE_SECONDS
        closing = asyncio.create_task(session.node.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
