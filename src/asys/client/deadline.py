"""`with asys.deadline(2):` - one limit of time for all calls in a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter
from typing import Final

from asys.client.options import check_timeout
from asys.client.pending import FOREVER
from asys.errors import DeadlineExceeded

_END: Final[ContextVar[float]] = ContextVar("asys_deadline", default=FOREVER)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """A block whose calls have `seconds` together, in place of each node's `timeout`.

    For asyncio and for blocking code, and with `with` in both. It counts retries and waiting for a
    new connection too. In a block within a block the earlier end holds. Tasks that are created in
    the block keep its end. A call that runs into it leaves the connection usable, and raises what a
    timeout raises: DeadlineExceeded, or OutcomeUnknown for a signed instruction that was sent,
    which `asyncio.timeout` could not tell. ArgumentError unless `seconds` is positive and finite.
    """
    end = perf_counter() + check_timeout(seconds)
    before = _END.set(min(end, _END.get()))
    try:
        yield
    finally:
        _END.reset(before)


def patience_of(said: float | None, usual: float, now: float) -> float:
    """Seconds that a call may take: those `said`, else those of the block, else the `usual` ones.

    DeadlineExceeded when the block's time is over: nothing has been sent.
    """
    end = _END.get()
    if end == FOREVER:
        return said or usual
    left = end - now
    if left <= 0:
        raise DeadlineExceeded("the deadline of the block has passed; this call was not made")
    return left if said is None else min(said, left)
