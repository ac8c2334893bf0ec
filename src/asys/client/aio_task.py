"""A task on asyncio: asked, waited for, cancelled."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, cast

from asys import isa
from asys.client.options import check_timeout
from asys.client.tasks import DEFAULT_WAIT, TaskMemory, intervals
from asys.isa import TaskStatus

if TYPE_CHECKING:
    from asys.client.aio import Node


class Task(TaskMemory):
    """An asynchronous instruction at work on the node; valid as long as its connection."""

    __slots__ = ("_node",)

    def __init__(self, node: Node, handle: int) -> None:
        super().__init__(handle)
        self._node = node

    async def query(self) -> TaskStatus:
        """Where the task stands. Once it has ended, the answer is remembered and nobody asked.

        Raises what any call raises.
        """
        return await self._query(self._node.timeout)

    # The same signature as in asys.sync; it sleeps in between, so asyncio.timeout is no substitute:
    # that would throw away the answer to a question that is under way.
    async def wait(self, timeout: float = DEFAULT_WAIT) -> TaskStatus:  # noqa: ASYNC109
        """How the task ended: it asks until it has, ever more rarely.

        `timeout` in seconds; DeadlineExceeded when the task is still pending then. The task goes
        on, and may be waited for again.
        """
        end = perf_counter() + check_timeout(timeout)
        for interval in intervals():
            left = max(end - perf_counter(), 0.001)
            status = await self._query(min(left, self._node.timeout))
            left = end - perf_counter()
            if status is not TaskStatus.PENDING:
                break
            if left <= 0:
                raise self.still_pending(timeout)
            await asyncio.sleep(min(interval, left))
        return status

    async def cancel(self) -> TaskStatus:
        """Takes the task back where the node has not begun it; gives where it stands then.

        CANCELLED only when the service manager says so; PENDING where it goes on. Once the task has
        ended, the answer is remembered and nobody asked. Raises what any call raises.
        """
        if self.final is not None:
            return self.final
        self.check()
        answer = await self._node._call(isa.TASK_CANCEL, (self.handle,), {}, note=self.note)
        return self.final or cast("isa.TaskState", answer).status

    async def _query(self, patience: float) -> TaskStatus:
        if self.final is None:
            self.check()
            answer = await self._node._call(
                isa.TASK_QUERY, (self.handle,), {}, note=self.note, patience=patience
            )
            return self.final or cast("isa.TaskState", answer).status
        return self.final
