"""What asyd holds on a machine until somebody lets it go: processes that it has throttled, and
processes that it has cut off the network. An admin sees all of it, and may let go any of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

KINDS: Final = ("throttled", "isolations")
"""What there is to hold, as commands and the admin socket call it."""

EVERYTHING: Final = 0
"""In place of a PID: all that is held of one kind."""


@dataclass(frozen=True, slots=True)
class HeldInfo:
    """One process that asyd holds, as an admin sees it."""

    pid: int
    name: str
    """What the process is or was called; not to be trusted."""
    how: str
    """By what means it is held."""
    agent: str
    """Who had it held: the agent's label, or the first digits of its key."""
    since: int
    """Unix time in seconds."""
    until: int
    """When asyd lets it go by itself, in Unix seconds; 0: never, as things are now."""


class Held(Protocol):
    """What asyd holds of one kind."""

    def listed(self) -> list[HeldInfo]:
        """All that is held now. PlatformError where that cannot be told."""

    async def release(self, pid: int) -> int:
        """Lets go the process with this PID, or `EVERYTHING`; how many there were. PlatformError.

        One that cannot be let go does not keep the others: the error comes when all were tried.
        """
