"""What came of one question to one node, and many of these as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from asys.errors import ArgumentError, AsysError, OutcomeUnknown, StatusError
from asys.fleet.targets import Target

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no value. `kind` is the name of an exception of `asys.errors`, whose message
    is `message`; `sw` is the node's status word where it answered with one.

    `outcome_unknown`: a signed instruction was sent, and whether it ran is not known.
    """

    kind: str
    message: str
    sw: int | None
    outcome_unknown: bool
    error: AsysError = field(repr=False, compare=False)

    @classmethod
    def of(cls, error: AsysError) -> Failure:
        """From what was raised."""
        sw = error.sw if isinstance(error, StatusError) else None
        return cls(type(error).__name__, str(error), sw, isinstance(error, OutcomeUnknown), error)

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


@dataclass(frozen=True, slots=True)
class Row(Generic[T]):
    """One node's answer: `value`, or `failure` in its place.

    `elapsed` in seconds, from the node's turn on, connecting included. `target` is the process that
    it is about, where it is about one.
    """

    node: str
    value: T | None
    failure: Failure | None
    elapsed: float
    target: Target | None = None
    connection: int = field(default=0, repr=False)

    @property
    def ok(self) -> bool:
        """There is a value."""
        return self.failure is None

    def result(self) -> T:
        """The value; raises what stands behind the failure."""
        if self.failure is not None:
            raise self.failure.error
        return cast("T", self.value)


Ask = Callable[[], Coroutine[Any, Any, Row[T]]]
"""Asks one node; what goes wrong with it is in the row."""


class Rows(Generic[T]):
    """Rows as they come: `async for row in rows`. `await rows` gives all of them, as a list.

    Nothing is sent before that, and it can be done once. Whoever leaves the loop early, or is
    cancelled, takes back what was not answered yet: what was not sent will not be, and of a signed
    instruction that was the outcome is not known. `total` rows come in all.
    """

    __slots__ = ("_asks", "total")

    def __init__(self, asks: Sequence[Ask[T]]) -> None:
        """Not for users: the methods of a Fleet make these."""
        self._asks: Sequence[Ask[T]] | None = asks
        self.total = len(asks)

    def __aiter__(self) -> AsyncGenerator[Row[T], None]:
        """The rows, in the order in which they come. ArgumentError: they have been read."""
        asks, self._asks = self._asks, None
        if asks is None:
            raise ArgumentError("these rows have been asked for already; call the method again")
        return _as_they_come(asks)

    def __await__(self) -> Generator[Any, None, list[Row[T]]]:
        return self.collect().__await__()

    async def collect(self) -> list[Row[T]]:
        """All rows, in the order in which they came."""
        async with aclosing(aiter(self)) as rows:
            return [row async for row in rows]


async def _as_they_come(asks: Sequence[Ask[T]]) -> AsyncGenerator[Row[T], None]:
    ready: asyncio.Queue[asyncio.Task[Row[T]]] = asyncio.Queue()
    tasks = [asyncio.create_task(ask()) for ask in asks]
    for task in tasks:
        task.add_done_callback(ready.put_nowait)
    try:
        for _ in tasks:
            yield (await ready.get()).result()
    finally:
        await end(tasks)


async def end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancels tasks and waits until they have ended; what they raise is of no interest any more."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()
