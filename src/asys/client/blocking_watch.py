"""`for reading in node.watch(1):` without asyncio."""

from __future__ import annotations

import time
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING

from asys.client.vitals import Gap, Ticks, Vitals
from asys.errors import AsysError

if TYPE_CHECKING:
    from asys.client.blocking import Node


class Watch:
    """As asys.client.watch.Watch, without asyncio."""

    def __init__(
        self,
        node: Node,
        interval: float,
        *,
        now: Callable[[], float] = perf_counter,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Not for users of the SDK: `Node.watch` makes these. ArgumentError: the interval."""
        self._node = node
        self._now = now
        self._sleep = sleep
        self._ticks = Ticks(interval, now())

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> Vitals | Gap:
        ticks = self._ticks
        while True:
            left = ticks.left(self._now())
            if left > 0:
                self._sleep(left)
            ticks.begin(self._now())
            try:
                return ticks.read(self._node.sys_status())
            except AsysError as error:
                gap = ticks.failed(error, closed=self._node.closed)
                if gap is not None:
                    return gap
