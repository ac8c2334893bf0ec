"""A node that reconnects, tries again, keeps its session alive and is observed; on asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from time import perf_counter
from typing import Any

from asys import isa
from asys.client.aio import Node
from asys.client.aio_dial import establish
from asys.client.aio_wire import Wire
from asys.client.deadline import patience_of
from asys.client.reconnect import Outage, Reconnect, is_final
from asys.client.steady import Attempts, Policy, ShownPids, again, tell_of
from asys.errors import AsysError, ConnectionLost, DeadlineExceeded, LinkError, StatusError
from asys.protocol.codec import Layout

Sleep = Callable[[float], Awaitable[object]]


class SteadyNode(Node):
    """A Node with a Policy. A call's `timeout` holds for all that is done for it: attempts, waiting
    between them, waiting for a new connection.
    """

    def __init__(
        self, wire: Wire, timeout: float, policy: Policy, *, sleep: Sleep = asyncio.sleep
    ) -> None:
        """Not for users of the SDK: `connect` makes nodes."""
        super().__init__(wire, timeout)
        self._policy = policy
        self._sleep = sleep
        self._shown = ShownPids()
        self._reviving: asyncio.Task[None] | None = None
        self._outage: Outage | None = None
        self._last: AsysError | None = None  # why the last attempt to connect failed
        self._over: AsysError | None = None  # why there will be no other connection
        self._keeping: asyncio.Task[None] | None = None
        policy.begin(wire.caller)
        if policy.keepalive is not None:
            # Neither a deadline nor a span of whoever connects is that of the keep-alive.
            self._keeping = wire.loop.create_task(
                _keep_alive(weakref.ref(self), policy.keepalive, sleep), context=Context()
            )

    @property
    def closed(self) -> bool:
        """There will be no other connection; every call says why."""
        if self._policy.reconnect is None:
            return super().closed
        return self._over is not None

    async def refresh_capabilities(self) -> isa.CapabilityMap | None:
        """As Node.refresh_capabilities."""
        now = perf_counter()
        await self._connected(now + patience_of(None, self._timeout, now))
        return await super().refresh_capabilities()

    async def close(self) -> None:
        """As Node.close."""
        if self._over is None:
            self._over = ConnectionLost(f"this agent closed it: {self._caller.address}")
        running = [task for task in (self._keeping, self._reviving) if task is not None]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        await super().close()

    async def _call(
        self,
        instruction: isa.AnyInstruction,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        note: Callable[[Any], None] | None = None,
        patience: float | None = None,
        attempts: Attempts | None = None,
    ) -> Layout:
        begun = perf_counter()
        end = begun + patience_of(patience, self._timeout, begun)
        call = attempts or Attempts(self._policy, self._shown, instruction, self._caller)
        try:
            reply = await self._answer(call, args, kwargs, note, end)
        except BaseException as error:
            call.end(error, None, perf_counter() - begun)
            raise
        call.end(None, reply, perf_counter() - begun)
        return reply

    async def _answer(
        self,
        call: Attempts,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        note: Callable[[Any], None] | None,
        end: float,
    ) -> Layout:
        while True:
            try:
                if self._caller.error is not None and self._policy.reconnect is not None:
                    if self._over is None:
                        call.before()
                    await self._connected(end)
            except AsysError as error:
                final = call.final(error)
                raise final from final.__cause__
            try:
                return await super()._call(
                    call.instruction,
                    args,
                    kwargs,
                    note=note,
                    patience=max(end - perf_counter(), 0.001),
                    attempts=call,
                )
            except AsysError as error:
                delay = call.after(error)
                if delay is None or perf_counter() + delay >= end:
                    final = call.final(error)
                    raise final from final.__cause__
            if delay:
                await self._sleep(delay)

    # Connections

    async def _connected(self, end: float) -> None:
        """Returns when there is a connection.

        DeadlineExceeded: not before `end`; it is still being made. Or what says that none will be.
        """
        policy = self._policy.reconnect
        if self._over is not None:
            raise again(self._over)
        if self._caller.error is None or policy is None:
            return
        if self._reviving is None:
            self._reviving = self._wire.loop.create_task(self._revive(policy), context=Context())
        reviving = self._reviving
        _, late = await asyncio.wait((reviving,), timeout=max(end - perf_counter(), 0))
        if late:
            raise DeadlineExceeded(
                f"{self._caller.address}: no new connection in time; it is still being made"
            ) from self._last
        if not reviving.cancelled():
            reviving.result()
        if self._over is not None:
            raise again(self._over)

    async def _revive(self, policy: Reconnect) -> None:
        """Makes a new connection, or finds that there will be none."""
        try:
            # One may be in the making already, because the keys were old.
            if self._renewing is not None:
                await asyncio.wait((self._renewing,))
            if self._caller.error is not None:
                await self._renew_lost(policy)
        finally:
            self._reviving = None

    async def _renew_lost(self, policy: Reconnect) -> None:
        old, now = self._wire, perf_counter()
        self._last = old.caller.error
        outage = self._outage
        if outage is None or not outage.anew(now):
            outage = self._outage = Outage(policy, now)
        tell_of(old.caller, logging.WARNING, "lost", "the connection is lost", self._last)
        await old.abort()
        while True:
            await self._sleep(max(outage.due - perf_counter(), 0))
            fresh = Wire(old.caller.successor(), old.loop)
            try:
                await establish(fresh, self._timeout)
            except (LinkError, StatusError) as error:
                self._last = error
                if outage.failed(error, perf_counter()):
                    self._give_up(error)
                    return
                tell_of(old.caller, logging.INFO, "attempt", "no new connection yet", error)
            else:
                fresh.caller.take_over(old.caller)
                self._tasks.lose()
                self._wire = fresh
                outage.over(perf_counter())
                tell_of(fresh.caller, logging.INFO, "reconnected", "there is a new connection")
                return

    def _give_up(self, error: AsysError) -> None:
        self._over = error
        why = "it would be refused again" if is_final(error) else "for too long"
        tell_of(self._caller, logging.ERROR, "gave-up", f"no new connection, {why}", error)

    async def _greet(self) -> None:
        """Says something to the node, over a new connection where the old one is lost."""
        await self._connected(perf_counter() + self._timeout)
        await self._wire.send(self._caller.keep_alive(perf_counter()), self._timeout)


async def _keep_alive(node: weakref.ref[SteadyNode], every: float, sleep: Sleep) -> None:
    """Says something whenever nothing was said for `every` seconds, until the node is closed.

    Between times it does not hold the node object.
    """
    left = every
    while True:
        await sleep(left)
        steady = node()
        if steady is None or steady.closed:
            return
        left = steady._caller.spoke + every - perf_counter()
        if left <= 0 or steady._caller.error is not None:
            left = every
            with contextlib.suppress(LinkError, StatusError):  # whoever calls next is told
                await steady._greet()
        del steady
