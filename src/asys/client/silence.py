"""When a node that owes an answer has been silent for too long, without I/O."""

from __future__ import annotations

from collections.abc import Sequence

from asys.client.pending import FOREVER, Pending


class Silence:
    """How long a node has said nothing. `limit` in seconds; without one it may do so for ever."""

    __slots__ = ("heard", "limit")

    def __init__(self) -> None:
        self.limit = FOREVER
        self.heard = 0.0
        """When bytes came last."""

    def until(self, owed: Sequence[Pending]) -> float:
        """When the silence has lasted too long, given the requests that were sent, oldest first.

        A request that may take longer than the limit gives the node that time.
        """
        if self.limit == FOREVER or not owed:
            return FOREVER
        first = owed[0]
        patience = first.deadline - first.started
        limit = self.limit if patience == FOREVER else max(self.limit, patience)
        return max(self.heard, first.started) + limit
