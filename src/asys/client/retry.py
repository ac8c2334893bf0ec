"""Which status words are worth another attempt (docs/protocol.md, section 5), without I/O."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from asys.client.backoff import check_seconds, check_times, delays
from asys.errors import Blocked, NodeBusy, StatusError
from asys.isa import AnyInstruction


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often a call is made again for what the node answered, within the time of the call.

    `blocked`: times after 6400, which says that nothing was done. `busy`: times after 6F05, and for
    idempotent instructions only. Every other status word ends the call. The delay begins with
    `first` seconds, doubles up to `most`, and is cut at random by up to a half. Each attempt of a
    signed instruction has a Seq of its own: the one before has its answer.
    """

    blocked: int = 6
    busy: int = 2
    first: float = 0.1
    most: float = 5.0
    random: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        for name in ("blocked", "busy"):
            check_times(name, getattr(self, name))
        for name in ("first", "most"):
            check_seconds(name, getattr(self, name))


class Retrying:
    """What is left of the attempts of one call."""

    def __init__(self, policy: Retry | None, instruction: AnyInstruction) -> None:
        """None: no attempt but the first."""
        policy = policy or _NEVER
        self._blocked = policy.blocked
        self._busy = policy.busy if instruction.idempotent else 0
        self._delays = delays(policy.first, policy.most, policy.random)

    def after(self, error: StatusError) -> float | None:
        """Seconds until the next attempt; None: there is none."""
        if isinstance(error, Blocked) and self._blocked:
            self._blocked -= 1
            return next(self._delays)
        if isinstance(error, NodeBusy) and self._busy:
            self._busy -= 1
            return next(self._delays)
        return None


_NEVER = Retry(blocked=0, busy=0)
