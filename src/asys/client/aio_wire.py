"""One connection on asyncio: bytes between a caller and a transport, and the time of each call."""

from __future__ import annotations

import asyncio
import socket
from time import perf_counter
from typing import Any, Final, cast

from asys.client.caller import Caller
from asys.client.pending import FOREVER, Pending
from asys.errors import ConnectionLost


class Wire(asyncio.Protocol):
    """Carries bytes between a caller and a transport; keeps the time of every call."""

    def __init__(self, caller: Caller, loop: asyncio.AbstractEventLoop) -> None:
        self.caller: Final = caller
        self.loop: Final = loop
        self.closed: Final[asyncio.Future[None]] = loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = FOREVER

    @property
    def owed(self) -> str:
        """What the node has not done yet, for a message about its silence."""
        return "accept a connection" if self._transport is None else self.caller.stage

    def send(self, pending: Pending, timeout: float) -> asyncio.Future[Any]:
        """Lets a new request go; the future ends with its answer, `timeout` seconds at most.

        The first in an idle connection is written at once; those behind it, once the loop has let
        everybody who is ready add theirs, in one write.
        """
        waiter: asyncio.Future[Any] = self.loop.create_future()
        pending.waiter = waiter
        deadline = pending.started + timeout
        pending.deadline = deadline
        due = min(timeout, self.caller.silence.limit)
        if pending.started + due < self._timer_at:
            self._arm(pending.started + due, due)
        if self.caller.in_flight == 1:
            self._flush()
        elif not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._flush_batch)
        return waiter

    async def close(self, patience: float) -> None:
        """Ends the connection; waits `patience` seconds for what is still to be sent."""
        self.caller.fail(ConnectionLost(f"this agent closed it: {self.caller.address}"))
        if self._transport is None:
            return
        self._transport.close()
        try:
            await asyncio.wait((self.closed,), timeout=patience)
        finally:
            await self.abort()

    async def abort(self) -> None:
        """Ends the connection without waiting for what is still to be sent."""
        if self._transport is not None:
            self._transport.abort()
            await asyncio.wait((self.closed,))

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._flush()

    def data_received(self, data: bytes) -> None:
        self.caller.receive_data(data, perf_counter())
        self._after()

    def eof_received(self) -> None:
        self.caller.lost()
        self._after()

    def connection_lost(self, exc: Exception | None) -> None:
        self.caller.lost(exc if isinstance(exc, OSError) else None)
        if self._timer is not None:
            self._timer.cancel()
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

    # Inside

    def _flush(self) -> None:
        # A node that does not read keeps requests here, where their deadlines run.
        while not self._paused and self._transport is not None and self.caller.error is None:
            data = self.caller.data_to_send()
            if not data:
                return
            self._transport.write(data)

    def _flush_batch(self) -> None:
        self._scheduled = False
        self._flush()

    def _after(self) -> None:
        """What follows once the caller has been told something."""
        if self.caller.error is None:
            self._flush()
        elif self._transport is not None:
            self._transport.abort()

    def _arm(self, deadline: float, delay: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self.loop.call_later(max(delay, 0.001), self._expire)

    def _expire(self) -> None:
        """One timer for all calls: it looks who is late and sleeps until the next may be."""
        self._timer = None
        self._timer_at = FOREVER
        now = perf_counter()
        self.caller.expire(now)
        deadline = self.caller.next_deadline()
        if deadline < FOREVER:
            self._arm(deadline, deadline - now)
        self._after()
