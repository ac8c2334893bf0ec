"""Metrics over HTTP/1.1, for Prometheus: GET and HEAD of /metrics, and nothing else.

Whoever may connect may read: there is nothing of agents in it. How often does not matter to agents
either. Answers go out one by one, and of the loop they all together take SHARE at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, cast

import h11

from asys.node.alarm import Alarm
from asys.node.clock import Clock, Handle
from asys.node.health.openmetrics import CONTENT_TYPE
from asys.node.listen import Address, listen

MAX_CONNECTIONS: Final = 8
"""Connections at a time; one more is closed at once."""

MAX_HEAD: Final = 8 << 10
"""Bytes of a request with its headers; a body is not read at all."""

REQUEST_SECONDS: Final = 10.0
"""How long a request may take to arrive, and an answer to be read."""

IDLE_SECONDS: Final = 120.0
"""How long a connection is kept without a request; scrapes are a minute apart at most."""

SHARE: Final = 0.05
"""Of one CPU, for all answers together."""

LONGEST_PAUSE: Final = 1.0
"""Seconds until the next answer at the most, whatever the last one took."""

_PATH: Final = b"/metrics"
_PLAIN: Final = "text/plain; charset=utf-8"
_DATE: Final = "%a, %d %b %Y %H:%M:%S GMT"

_log = logging.getLogger("asyd.metrics")


class MetricsServer:
    """Answers until it is closed. Made by `serve_metrics`."""

    def __init__(
        self,
        render: Callable[[], str],
        clock: Clock,
        *,
        timer: Callable[[], float] = time.thread_time,
    ) -> None:
        """`render` makes the text; `timer` measures what an answer takes, in seconds of CPU: how
        long others held it up is not its fault.
        """
        self.render: Final = render
        self.clock: Final = clock
        self.url = ""
        self._timer = timer
        self._address = Address("", 0)
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._waiting: deque[Connection] = deque()
        self._free_at = clock.now()
        self._next: Handle | None = None

    async def open(self, address: Address) -> None:
        """Begins to listen. ListenError."""
        self._server, self._address = await listen(lambda: Connection(self), address)
        where = self._address
        self.url = str(where) if where.path else f"http://{where}/metrics"

    def close(self) -> None:
        """Ends every connection, and listens no more."""
        if self._address.path:
            with contextlib.suppress(OSError):
                os.unlink(self._address.path)  # while it is ours; then it may be a successor's
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()
        self._waiting.clear()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    # -- for its connections

    def admit(self, connection: Connection) -> bool:
        """Whether there is room for another one."""
        if len(self._connections) >= MAX_CONNECTIONS:
            return False
        self._connections.add(connection)
        return True

    def forget(self, connection: Connection) -> None:
        """It is gone."""
        self._connections.discard(connection)
        with contextlib.suppress(ValueError):
            self._waiting.remove(connection)

    def asked(self, connection: Connection) -> None:
        """It has a whole request; `answer` is called when its turn has come."""
        self._waiting.append(connection)
        self._plan()

    def _plan(self) -> None:
        if self._waiting and self._next is None:
            pause = self._free_at - self.clock.now()
            self._next = self.clock.call_later(max(pause, 0.0), self._turn)

    def _turn(self) -> None:
        began = self._timer()
        try:
            if self._waiting:
                self._waiting.popleft().answer()
        finally:  # not before: who has been answered may have asked again by now
            self._next = None
            pause = min((self._timer() - began) / SHARE, LONGEST_PAUSE)
            self._free_at = self.clock.now() + pause
            self._plan()


async def serve_metrics(render: Callable[[], str], clock: Clock, address: Address) -> MetricsServer:
    """Answers on an address, from the running event loop. ListenError when it cannot be had."""
    server = MetricsServer(render, clock)
    await server.open(address)
    return server


class Connection(asyncio.Protocol):
    """One client: a request, its answer, the next request."""

    def __init__(self, server: MetricsServer) -> None:
        self._server = server
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._alarm = Alarm(server.clock)
        self._due = 0.0
        self._idle = False
        self._unread = False
        """The client has not taken all of the last answer."""
        self._request: h11.Request | None = None
        """What waits for its turn."""

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)
        if self._server.admit(self):
            self._within(REQUEST_SECONDS)
        else:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """As asyncio.Protocol."""
        if self._transport.is_closing():
            return
        if self._idle:
            self._idle = False
            self._within(REQUEST_SECONDS)
        self._http.receive_data(data)
        if self._request is None:
            self._read()

    def pause_writing(self) -> None:
        """As asyncio.Protocol: until the answer is taken there is no other one."""
        self._unread = True

    def resume_writing(self) -> None:
        """As asyncio.Protocol."""
        self._unread = False
        if not self._transport.is_closing():
            self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio.Protocol."""
        self._alarm.stop()
        self._server.forget(self)

    def abort(self) -> None:
        """Ends the connection now."""
        self._transport.abort()

    # -- requests and answers

    def _read(self) -> None:
        """Takes the next request, if it is there."""
        try:
            event = self._http.next_event()
            if not isinstance(event, h11.Request):
                return
            self._request = event
            self._http.next_event()  # its end; what has a body is answered without that
        except h11.RemoteProtocolError as error:
            self._request = None
            self._send(error.error_status_hint, _PLAIN, "This is no request for metrics.\n")
            return
        self._transport.pause_reading()
        self._server.asked(self)

    def answer(self) -> None:
        """The turn of this connection has come."""
        request, self._request = self._request, None
        if request is None or self._transport.is_closing():
            return
        head = request.method == b"HEAD"
        if request.target.partition(b"?")[0] != _PATH:
            self._send(404, _PLAIN, "There is nothing here but /metrics.\n", head=head)
        elif not head and request.method != b"GET":
            self._send(405, _PLAIN, "There is nothing but GET and HEAD.\n")
        else:
            try:
                text = self._server.render()
            except Exception:
                _log.exception("the metrics cannot be told")
                self._send(500, _PLAIN, "The log of asyd says more.\n", head=head)
            else:
                self._send(200, CONTENT_TYPE, text, head=head)

    def _send(self, status: int, kind: str, text: str, *, head: bool = False) -> None:
        """One answer, and the end behind it where the next request cannot be told apart."""
        body = text.encode()
        close = self._http.their_state is not h11.DONE
        headers = [
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Date", time.strftime(_DATE, time.gmtime())),
            *([("Allow", "GET, HEAD")] if status == HTTPStatus.METHOD_NOT_ALLOWED else []),
            *([("Connection", "close")] if close else []),
        ]
        answer = h11.Response(
            status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode()
        )
        parts = [answer, *([] if head else [h11.Data(data=body)]), h11.EndOfMessage()]
        data = b"".join(self._http.send(part) or b"" for part in parts)
        self._within(REQUEST_SECONDS)
        self._transport.write(data)
        if self._http.our_state is not h11.DONE:
            self._transport.close()
            return
        self._http.start_next_cycle()
        if not self._unread:
            self._go_on()

    def _go_on(self) -> None:
        """The answer is with the client: another request may come, or is here already."""
        self._idle = True
        self._within(IDLE_SECONDS)
        self._transport.resume_reading()
        self._read()

    # -- deadlines

    def _within(self, seconds: float) -> None:
        self._due = self._server.clock.now() + seconds
        self._alarm.set(self._due, self._ring)

    def _ring(self) -> None:
        if self._server.clock.now() < self._due:
            self._alarm.set(self._due, self._ring)
        else:
            self._transport.abort()
