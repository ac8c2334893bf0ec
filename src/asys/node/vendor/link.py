"""The connection to a worker, of which nothing is believed."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from asys.vendor.wire import (
    ANSWER,
    FAILED,
    HELLO,
    MAX_TO_NODE,
    Description,
    Messages,
    WireError,
    unpack_answer,
    unpack_hello,
)


class Hears(Protocol):
    """Who hears what the worker says. WireError: it must not say that."""

    def greeted(self, description: Description) -> None:
        """It is ready. The first message, and the only one of its kind."""

    def answered(self, number: int, sw: int, note: str, reply: bytes) -> None:
        """It has done a request."""

    def hung_up(self, why: str) -> None:
        """The connection is over, once; `why` is '' where the worker just ended it."""


class WorkerLink(asyncio.Protocol):
    """One connection, from the worker's HELLO to its end."""

    def __init__(self, hears: Hears) -> None:
        self._hears = hears
        self._messages = Messages(MAX_TO_NODE)
        self._greeted = False
        self._why = ""

    def send(self, data: bytes) -> None:
        """A message for the worker."""
        self._transport.write(data)

    def hang_up(self, why: str) -> None:
        """Ends the connection; what has not been sent is not sent."""
        self._why = self._why or why
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        try:
            while found := self._messages.feed(data):
                for kind, body in found:
                    if self._transport.is_closing():
                        return
                    self._take(kind, body)
                data = b""  # what is bad behind them comes to light
        except WireError as error:
            self.hang_up(f"it does not keep to the wire: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._hears.hung_up(self._why)

    def _take(self, kind: int, body: bytes) -> None:
        if kind == ANSWER and self._greeted:
            self._hears.answered(*unpack_answer(body))
        elif kind == HELLO and not self._greeted:
            description = unpack_hello(body)
            self._greeted = True
            self._hears.greeted(description)
        elif kind == FAILED and not self._greeted:
            self.hang_up(body.decode("utf-8", "replace"))
        else:
            raise WireError(f"a message of type {kind:02X} that nobody waits for")
