"""A node that reconnects, tries again, keeps its session alive and is observed; for threads."""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

from asys import isa
from asys.client.blocking import Node
from asys.client.blocking_wire import Wire
from asys.client.deadline import patience_of
from asys.client.reconnect import Outage, Reconnect, is_final
from asys.client.steady import Attempts, Policy, ShownPids, again, tell_of
from asys.errors import AsysError, ConnectionLost, DeadlineExceeded, LinkError, StatusError


class SteadyNode(Node):
    """A Node with a Policy. A call's `timeout` holds for all that is done for it.

    The thread that calls makes the new connection while others wait for their turn. Where its time
    is over before, the next one goes on with it, no sooner than the delays allow.
    """

    def __init__(self, wire: Wire, timeout: float, policy: Policy) -> None:
        """Not for users of the SDK: `connect` makes nodes."""
        super().__init__(wire, timeout)
        self._policy = policy
        self._shown = ShownPids()
        self._outage: Outage | None = None  # the one that is, or was last
        self._lost = False  # it is
        self._last: AsysError | None = None
        self._over: AsysError | None = None
        self._ending = threading.Event()
        self._sleep: Callable[[float], object] = self._ending.wait
        policy.begin(wire.caller)
        if policy.keepalive is not None:
            threading.Thread(
                target=_keep_alive,
                args=(weakref.ref(self), policy.keepalive, self._ending),
                name="asys-keepalive",
                daemon=True,
            ).start()

    @property
    def closed(self) -> bool:
        """There will be no other connection; every call says why."""
        if self._policy.reconnect is None:
            return super().closed
        return self._over is not None

    def refresh_capabilities(self) -> isa.CapabilityMap | None:
        """As Node.refresh_capabilities."""
        now = perf_counter()
        self._connected(now + patience_of(None, self._timeout, now))
        return super().refresh_capabilities()

    def close(self) -> None:
        """As Node.close."""
        if self._over is None:
            self._over = ConnectionLost(f"this agent closed it: {self._caller.address}")
        self._ending.set()
        super().close()

    def _call(
        self,
        instruction: isa.AnyInstruction,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        note: Callable[[Any], None] | None = None,
        patience: float | None = None,
        attempts: Attempts | None = None,
    ) -> Any:
        begun = perf_counter()
        end = begun + patience_of(patience, self._timeout, begun)
        call = attempts or Attempts(self._policy, self._shown, instruction, self._caller)
        try:
            reply = self._answer(call, args, kwargs, note, end)
        except BaseException as error:
            call.end(error, None, perf_counter() - begun)
            raise
        call.end(None, reply, perf_counter() - begun)
        return reply

    def _answer(
        self,
        call: Attempts,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        note: Callable[[Any], None] | None,
        end: float,
    ) -> Any:
        while True:
            try:
                if self._caller.error is not None and self._policy.reconnect is not None:
                    if self._over is None:
                        call.before()
                    self._connected(end)
            except AsysError as error:
                final = call.final(error)
                raise final from final.__cause__
            try:
                return super()._call(
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
                self._sleep(delay)

    # Connections

    def _connected(self, end: float) -> None:
        """Returns when there is a connection.

        DeadlineExceeded: not before `end`. Or what says that there will be none.
        """
        policy = self._policy.reconnect
        if policy is not None and self._caller.error is not None and self._over is None:
            self._wire.acquire(end)
            try:
                while self._caller.error is not None and self._over is None:
                    self._attempt(policy, end)
            finally:
                self._wire.release()
        if self._over is not None:
            raise again(self._over)

    def _attempt(self, policy: Reconnect, end: float) -> None:
        """The next attempt to connect, when it is due. DeadlineExceeded: not before `end`."""
        now = perf_counter()
        outage = self._outage
        if outage is None or not self._lost:
            self._lost = True
            if outage is None or not outage.anew(now):
                outage = self._outage = Outage(policy, now)
            self._last = self._caller.error
            tell_of(self._caller, logging.WARNING, "lost", "the connection is lost", self._last)
        due = min(outage.due, end)
        if due > now:
            self._sleep(due - now)
        if self._ending.is_set():
            return
        if outage.due >= end:
            raise DeadlineExceeded(
                f"{self._caller.address}: no new connection in time; the next call goes on with it"
            ) from self._last
        try:
            self._wire.reconnect(end)
        except (LinkError, StatusError) as error:
            self._last = error
            if not outage.failed(error, perf_counter()):
                tell_of(self._caller, logging.INFO, "attempt", "no new connection yet", error)
            elif self._over is None:
                self._over = error
                why = "it would be refused again" if is_final(error) else "for too long"
                tell_of(self._caller, logging.ERROR, "gave-up", f"no new connection, {why}", error)
            return
        self._lost = False
        outage.over(perf_counter())
        self._tasks.lose()
        tell_of(self._caller, logging.INFO, "reconnected", "there is a new connection")

    def _greet(self) -> None:
        """Says something to the node, over a new connection where the old one is lost."""
        end = perf_counter() + self._timeout
        self._connected(end)
        self._wire.acquire(end)
        try:
            self._wire.exchange(self._caller.keep_alive(perf_counter()), end)
        finally:
            self._wire.release()


def _keep_alive(node: weakref.ref[SteadyNode], every: float, ending: threading.Event) -> None:
    """Says something whenever nothing was said for `every` seconds, until the node is closed.

    Between times it does not hold the node object.
    """
    left = every
    while not ending.wait(left):
        steady = node()
        if steady is None or steady.closed:
            return
        left = steady._caller.spoke + every - perf_counter()
        if left <= 0 or steady._caller.error is not None:
            left = every
            with contextlib.suppress(LinkError, StatusError):  # whoever calls next is told
                steady._greet()
        del steady
