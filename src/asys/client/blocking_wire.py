"""One connection over a blocking socket, for threads that take turns."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

from asys.client.caller import Caller
from asys.client.dial import dial
from asys.client.exchange import Exchange
from asys.client.options import Options
from asys.client.pending import Pending
from asys.errors import (
    ConnectionLost,
    DeadlineExceeded,
    HostKeyChanged,
    LinkError,
    NoSuchInstruction,
    NotSupported,
    StatusError,
)
from asys.isa import AnyInstruction

Trace = Callable[[Exchange], None]

RECEIVE_SIZE: Final = 65536
"""Bytes taken from the socket at a time."""


class _Answer:
    """Where the caller puts what a thread waits for."""

    __slots__ = ("_done", "error", "result")

    def __init__(self) -> None:
        self._done = False
        self.error: BaseException | None = None
        self.result: Any = None

    def done(self) -> bool:
        return self._done

    def set_result(self, result: Any, /) -> None:
        self._done = True
        self.result = result

    def set_exception(self, exception: BaseException, /) -> None:
        self._done = True
        self.error = exception


class Wire:
    """Carries bytes between a caller and a socket, for one thread at a time: the one that has
    acquired it.
    """

    def __init__(self, caller: Caller, sock: socket.socket) -> None:
        """Takes over a connected socket."""
        self.caller = caller
        self._exchanges: list[Exchange] = []
        self._trace: Trace | None = None
        self._socket = sock
        self._lock = threading.Lock()
        self._closing = False
        self._fresh: Wire | None = None

    @classmethod
    def to(cls, options: Options, sock: socket.socket, trace: Trace | None) -> Wire:
        """A connection at its very beginning."""
        told: list[Exchange] = []
        caller = Caller(
            options.identity.key,
            options.address,
            options.trusted,
            trace=None if trace is None else told.append,
            renewal=options.renewal,
            superseded=options.superseded,
            carry=options.carry,
        )
        wire = cls(caller, sock)
        wire._exchanges, wire._trace = told, trace
        return wire

    def acquire(self, deadline: float) -> None:
        """Waits for its turn. DeadlineExceeded: it did not come, and nothing was sent."""
        if not self._lock.acquire(timeout=max(deadline - perf_counter(), 0)):
            raise DeadlineExceeded(
                f"{self.caller.address}: other calls held the connection until the deadline"
            )

    def release(self) -> None:
        """Lets the next thread have its turn; then tells the trace what happened in this one."""
        exchanges = self._exchanges[:]
        self._exchanges.clear()
        self._lock.release()
        if self._trace is not None:
            for exchange in exchanges:
                self._trace(exchange)

    def exchange(self, pending: Pending, deadline: float) -> Any:
        """Sends what there is to send and waits for one answer until `deadline`.

        Whatever interrupts it but the answer or the deadline ends the connection, for then nobody
        knows how many bytes went through.
        """
        answer = _Answer()
        pending.waiter = answer
        pending.deadline = deadline
        try:
            self._send(deadline)
            while not answer.done():
                self._receive(deadline)
        except BaseException:
            self.caller.fail(ConnectionLost(f"{self.caller.address}: a call was interrupted"))
            raise
        finally:
            if self.caller.error is not None:
                self._socket.close()
        if answer.error is not None:
            raise answer.error
        return answer.result

    def open(self, deadline: float) -> None:
        """Takes the connection to where the node has accepted this agent, or ends it."""
        self.acquire(deadline)
        try:
            self.exchange(self.caller.opening, deadline)
        except (NoSuchInstruction, NotSupported):
            pass  # the node takes this agent, and grants it no SYS_CAPS
        except BaseException:
            self.release()
            self.close()
            raise
        self.release()

    def renew(self, instruction: AnyInstruction, now: float, deadline: float) -> float:
        """Puts a new connection in the place of one that has outlived itself; gives the time then.

        For the thread whose turn it is. The old connection goes on where no new one can be made;
        only HostKeyChanged is raised.
        """
        if not self.caller.outlived(instruction, now):
            return now
        patience = now + (deadline - now) / 2  # the rest is for the call itself
        try:
            self.reconnect(patience)
        except HostKeyChanged:
            self.caller.stay(perf_counter())
            raise
        except (LinkError, StatusError):
            self.caller.stay(perf_counter())
        return perf_counter()

    def reconnect(self, deadline: float) -> None:
        """Puts a new connection in the place of this one, for the thread whose turn it is.

        LinkError, StatusError: this one stays as it is.
        """
        fresh = Wire(self.caller.successor(), dial(self.caller.address, deadline))
        self._fresh = fresh
        try:
            if self._closing:
                fresh.shut()
            fresh.open(deadline)
        finally:
            self._fresh = None
        fresh.caller.take_over(self.caller)
        before, self._socket = self._socket, fresh._socket
        self.caller = fresh.caller
        before.close()

    def close(self) -> None:
        """Ends the connection; a call under way in another thread fails at once."""
        self._closing = True
        self.shut()
        fresh = self._fresh
        if fresh is not None:
            fresh.shut()
        with self._lock:
            self._ended()
            self._socket.close()

    def shut(self) -> None:
        """Wakes whoever waits for bytes: there will be none."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _send(self, deadline: float) -> None:
        try:
            while data := self.caller.data_to_send():
                self._socket.settimeout(max(deadline - perf_counter(), 0.001))
                self._socket.sendall(data)
        except TimeoutError:
            # How much went out is not known, so nothing can follow it.
            self.caller.fail(DeadlineExceeded(f"{self.caller.address} did not read in time"))
        except OSError as error:
            self._ended(error)

    def _receive(self, deadline: float) -> None:
        until = min(deadline, self.caller.next_deadline())
        remaining = until - perf_counter()
        if remaining <= 0:
            self.caller.expire(until)
            return
        self._socket.settimeout(remaining)
        try:
            data = self._socket.recv(RECEIVE_SIZE)
        except TimeoutError:
            return
        except OSError as error:
            self._ended(error)
            return
        if not data:
            self._ended()
            return
        self.caller.receive_data(data, perf_counter())
        self._send(deadline)

    def _ended(self, reason: OSError | None = None) -> None:
        if self._closing:
            self.caller.fail(ConnectionLost(f"this agent closed it: {self.caller.address}"))
        else:
            self.caller.lost(reason)
