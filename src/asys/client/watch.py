"""`async for reading in node.watch(1):` - the node's vitals, for as long as it has any."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import TYPE_CHECKING

from asys.client.vitals import Gap, Ticks, Vitals
from asys.errors import AsysError

if TYPE_CHECKING:
    from asys.client.aio import Node


class Watch:
    """An asynchronous iterator of Vitals, and of a Gap where readings begin to be missing.

    One reading is under way at most, and it is taken when it is asked for: one who is slow gets
    fewer readings, never old ones. A reading takes the node's timeout at most. It goes on after
    what may pass (no answer, 6400, 6Fxx, and a lost connection where the node reconnects) and
    raises what does not.
    """

    def __init__(
        self,
        node: Node,
        interval: float,
        *,
        now: Callable[[], float] = perf_counter,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Not for users of the SDK: `Node.watch` makes these. ArgumentError: the interval."""
        self._node = node
        self._now = now
        self._sleep = sleep
        self._ticks = Ticks(interval, now())

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Vitals | Gap:
        ticks = self._ticks
        while True:
            left = ticks.left(self._now())
            if left > 0:
                await self._sleep(left)
            ticks.begin(self._now())
            try:
                return ticks.read(await self._node.sys_status())
            except AsysError as error:
                gap = ticks.failed(error, closed=self._node.closed)
                if gap is not None:
                    return gap
