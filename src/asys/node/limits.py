"""What a node offers at all, and how much it takes on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from asys.isa.capmap import CORE, EVERYTHING, STATEMENT
from asys.node.door import UNCONFIRMED


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a node takes on. Over a limit it refuses at once."""

    sessions: int = 1024
    sessions_per_key: int = 64
    unconfirmed: int = UNCONFIRMED
    """Connections that have not shown who they are; the oldest goes for a newcomer."""

    handshakes: int = 20
    """Handshakes a second from one address, and five times as many at once; 0: no limit."""


class Mode(StrEnum):
    """What a node offers at all."""

    FULL = "full"
    MONITOR = "monitor"
    """What `core` names: nothing that changes anything, and nothing that needs a privilege. And the
    statement of the node's key.
    """

    @property
    def offered(self) -> int:
        """The capability map of it; what an agent is granted beyond that answers 6D00."""
        return CORE | STATEMENT if self is Mode.MONITOR else EVERYTHING
