"""How large a load is, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SPARE: Final = 256
"""Sessions more than there are at a time, for those that asyd has not seen the end of yet."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A load as `make soak` has it."""

    sessions: int = 5000
    polled: int = 500
    """Sessions of these that are polled."""

    hertz: float = 10.0
    """How often each of them is, in a second."""

    churn: float = 20.0
    """Connections that come and go, in a second."""

    seconds: float = 600.0
    warm_up: float = 300.0
    """Seconds of these after which memory must not grow any more.

    For so long a node remembers who came in (docs/protocol.md, section 1).
    """

    warm_up_churn: float = 0.0
    """The same in the warm-up, where what a node remembers is to be full sooner; 0: as later."""

    seed: int = 1
    patience: float = 120.0
    """Seconds until a node that lets nobody in counts as broken."""

    answered_within: float = 120.0
    """Seconds that answers may take when all is over; what has not come by then is lost."""

    every: float = 1.0
    """Seconds from one look at memory to the next."""

    @property
    def options(self) -> tuple[str, ...]:
        """Of an asyd that takes such a load from one address."""
        room = str(self.sessions + SPARE)
        return ("--max-sessions", room, "--max-sessions-per-key", room, "--handshake-rate", "0")
