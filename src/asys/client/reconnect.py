"""When a lost connection is made again, and when it never is; without I/O.

Time is an argument, in seconds of any clock that only goes forward.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from asys.client.backoff import check_seconds, delays
from asys.errors import (
    AgentRejected,
    ArgumentError,
    AsysError,
    BadKeyStatement,
    Blocked,
    HostKeyChanged,
    LinkError,
    NodeError,
    UnknownHost,
)

SILENCE: Final = 15.0
"""Seconds without a byte from a node that owes an answer, after which its connection is dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnect:
    """How a lost connection is made again. All times in seconds.

    The delay before an attempt begins with `first`, doubles up to `most`, and is cut at random by
    up to a half. `within`: when no attempt has succeeded for so long, the node object is closed for
    good; None: never for that reason. A connection counts as lost when it ends, and when the node
    owes an answer and not a byte has come for `silence` (or for as long as that call may take, if
    that is more): packets may get lost without a word.

    What was not sent, and what only reads, is sent over the new connection. A signed instruction
    that was sent and not answered is OutcomeUnknown, as ever: over a new connection the node cannot
    tell a repetition from a new order. `resend=True` has those sent again that are idempotent and
    done when they are answered (docs/protocol.md, 3 and 4), which may then run twice, and behind
    what was called meanwhile.

    With the session go its task handles and the PIDs that it was shown: SessionEnded.

    Never followed: a refusal of this agent (6982), an instruction that does not exist (6A81), a
    node with another key, and one whose key states the next one wrongly.
    """

    first: float = 0.2
    most: float = 15.0
    within: float | None = 600.0
    silence: float = SILENCE
    resend: bool = False
    random: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        for name in ("first", "most", "silence"):
            check_seconds(name, getattr(self, name))
        if self.within is not None:
            check_seconds("within", self.within)
        if not isinstance(self.resend, bool):
            raise ArgumentError(f"resend must be True or False, not {self.resend!r}")


def is_final(error: AsysError) -> bool:
    """No attempt to connect can succeed where this one failed; or none should be made."""
    if isinstance(error, AgentRejected | BadKeyStatement | HostKeyChanged | UnknownHost):
        return True
    return not isinstance(error, LinkError | Blocked | NodeError)


class Outage:
    """The attempts that follow one loss. Before each, wait until `due`."""

    def __init__(self, policy: Reconnect, now: float) -> None:
        self._within = policy.within
        self._delays = delays(policy.first, policy.most, policy.random)
        self.began = now
        self.attempts = 0
        """Attempts that have failed."""
        self.due = now + next(self._delays)
        """When the next attempt is to be made."""
        self._settled = now + policy.most
        self._most = policy.most

    def over(self, now: float) -> None:
        """There is a connection."""
        self._settled = now + self._most

    def anew(self, now: float) -> bool:
        """That connection is lost too: goes on with the delays where it did not last.

        False: it did, so this is another outage.
        """
        self.began = now
        self.due = now + next(self._delays)
        return now < self._settled

    def failed(self, error: AsysError, now: float) -> bool:
        """An attempt has failed. True: it was the last."""
        self.attempts += 1
        self.due = now + next(self._delays)
        over = self._within is not None and self.due - self.began > self._within
        return over or is_final(error)
