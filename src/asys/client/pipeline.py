"""The requests of one connection in their order, without I/O: those that are still to leave, and
those that the node owes an answer (docs/protocol.md, section 1.4).
"""

from __future__ import annotations

from collections import deque
from typing import Final

from asys.client.pending import Pending
from asys.isa import REKEY

MAX_BATCH: Final = 65536
"""Bytes of requests after which a write ends; a node that does not read is noticed in between."""


class Pipeline:
    """Requests from the moment they are made until they are answered, oldest first.

    Nothing leaves between REKEY and its answer (section 7.6); requests made meanwhile wait.
    """

    __slots__ = ("_rekeys", "rekeying", "sent", "unsent")

    def __init__(self) -> None:
        self.sent: Final[deque[Pending]] = deque()
        """Those that have left and have no answer."""
        self.unsent: list[Pending] = []
        """Those that are still to leave."""
        self.rekeying: Pending | None = None
        """The REKEY that has left and has no answer."""
        self._rekeys = 0  # REKEYs among the unsent

    def __len__(self) -> int:
        return len(self.sent) + len(self.unsent)

    def append(self, pending: Pending) -> None:
        """Lets a request leave when its turn comes."""
        if pending.instruction is REKEY:
            self._rekeys += 1
        self.unsent.append(pending)

    def withdraw(self, pending: Pending) -> bool:
        """Keeps a request back. False: it has left."""
        if pending not in self.unsent:
            return False
        self.unsent.remove(pending)
        if pending.instruction is REKEY:
            self._rekeys -= 1
        return True

    def batch(self) -> list[Pending]:
        """The requests whose turn it is, which count as sent from now on; a little more than
        MAX_BATCH at most, and none while a REKEY has no answer.
        """
        if self.rekeying is not None:
            return []
        batch = self.unsent
        if len(batch) > 1:
            batch = _first_of(batch, MAX_BATCH)
        if self._rekeys:
            batch = self._up_to_rekey(batch)
        self.unsent = self.unsent[len(batch) :]
        self.sent.extend(batch)
        return batch

    def answered(self) -> None:
        """The oldest of those sent has its answer."""
        if self.sent.popleft() is self.rekeying:
            self.rekeying = None

    def clear(self) -> tuple[list[Pending], list[Pending]]:
        """The connection has ended; gives those that had left, and those that never will."""
        sent, unsent = list(self.sent), self.unsent
        self.sent.clear()
        self.unsent = []
        self.rekeying = None
        self._rekeys = 0
        return sent, unsent

    def _up_to_rekey(self, batch: list[Pending]) -> list[Pending]:
        """The requests of a batch that leave now: a REKEY is the last, for a while."""
        for index, pending in enumerate(batch):
            if pending.instruction is REKEY:
                self._rekeys -= 1
                self.rekeying = pending
                return batch[: index + 1]
        return batch


def _first_of(requests: list[Pending], size: int) -> list[Pending]:
    """The requests at the front that reach `size` bytes together, or all."""
    total = 0
    for count, pending in enumerate(requests, start=1):
        total += len(pending.frame)
        if total >= size:
            return requests[:count]
    return requests
