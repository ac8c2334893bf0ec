"""What one agent holds on this node, compiled for its sessions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asys.node.agents import Agent
    from asys.node.dispatch import Entry
    from asys.node.platform.base import MachineFacts


@dataclass(slots=True)
class Grant:
    """An agent with its table of 256 entries.

    `lit` is the map that SYS_CAPS shows: granted, and possible on this node. The reply is kept
    with the facts that it was made from.
    """

    agent: Agent
    table: list[Entry]
    lit: int
    caps_reply: bytes = b""
    caps_facts: MachineFacts | None = field(default=None, repr=False)
