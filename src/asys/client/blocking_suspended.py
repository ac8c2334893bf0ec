"""`with node.suspended(pid)` without asyncio: a process that stands still while a block runs."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from asys.errors import AsysError, InvalidPayload, LinkError, OutcomeUnknown, StillSuspended
from asys.isa import ThrottleAction

if TYPE_CHECKING:
    from asys.client.blocking import Node


class Suspended:
    """As asys.client.suspended.Suspended, without asyncio.

    An interruption while the process is being continued, as by a second KeyboardInterrupt, leaves
    it as it is: then it may be stopped for good.
    """

    __slots__ = ("_node", "_pid")

    def __init__(self, node: Node, pid: int) -> None:
        """Not for users of the SDK: `Node.suspended` makes these."""
        self._node = node
        self._pid = pid

    def __enter__(self) -> None:
        try:
            self._node.proc_throttle(self._pid, ThrottleAction.STOP)
        except BaseException as error:
            if isinstance(error, OutcomeUnknown) or not isinstance(error, Exception):
                self._resume()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._resume()

    def _resume(self) -> None:
        """Continues it. StillSuspended."""
        try:
            self._continue()
        except InvalidPayload:
            pass  # it has ended
        except AsysError as failure:
            raise StillSuspended(self._pid, str(failure)) from failure

    def _continue(self) -> None:
        try:
            self._node.proc_throttle(self._pid, ThrottleAction.CONTINUE)
        except (LinkError, OutcomeUnknown):
            with self._node._another() as fresh:
                fresh.proc_throttle(self._pid, ThrottleAction.CONTINUE)
