"""`async with node.suspended(pid)`: a process that stands still while a block runs."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING

from asys.errors import AsysError, InvalidPayload, LinkError, OutcomeUnknown, StillSuspended
from asys.isa import ThrottleAction

if TYPE_CHECKING:
    from asys.client.aio import Node


class Suspended:
    """Stops a process on entry and lets it go on at the end of the block, however that comes.

    On entry it raises what `proc_throttle` raises. Where it is not known whether the process was
    stopped, as after a cancellation, it is continued before that is raised.

    On exit StillSuspended when it could not be continued, also in place of what the block raised,
    which is then its context. Where the connection has ended meanwhile, which a node does with one
    that says nothing for 60 s, another one is made to continue the process; the node object stays
    closed. A process that has ended in the block is no error. Being cancelled does not keep it from
    continuing: that takes the node's timeout, twice at the most.
    """

    __slots__ = ("_node", "_pid")

    def __init__(self, node: Node, pid: int) -> None:
        """Not for users of the SDK: `Node.suspended` makes these."""
        self._node = node
        self._pid = pid

    async def __aenter__(self) -> None:
        try:
            await self._node.proc_throttle(self._pid, ThrottleAction.STOP)
        except (OutcomeUnknown, asyncio.CancelledError):
            await self._resume()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._resume()

    async def _resume(self) -> None:
        """Continues it, also while this is cancelled. StillSuspended."""
        work = asyncio.create_task(self._continue())
        cancelled: asyncio.CancelledError | None = None
        while not work.done():
            try:
                await asyncio.wait((work,))
            except asyncio.CancelledError as error:
                cancelled = error
        failure = work.exception()
        if isinstance(failure, AsysError):
            raise StillSuspended(self._pid, str(failure)) from failure
        if failure is not None:
            raise failure
        if cancelled is not None:
            raise cancelled

    async def _continue(self) -> None:
        try:
            try:
                await self._node.proc_throttle(self._pid, ThrottleAction.CONTINUE)
            except (LinkError, OutcomeUnknown):
                async with await self._node._another() as fresh:
                    await fresh.proc_throttle(self._pid, ThrottleAction.CONTINUE)
        except InvalidPayload:
            pass  # it has ended
