"""What an admin asks about the node's keys, and how it is told (docs/protocol.md, section 8.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

from asys.node.disk.files import ConfigError
from asys.node.disk.next_key import LONGEST_OVERLAP
from asys.protocol.statement import KeyStatement

ORDERS: Final = frozenset({"keys", "rotate", "finish"})
"""The verbs."""


@dataclass(frozen=True, slots=True)
class AgentKeys:
    """Which of the node's keys an agent has, as far as is known.

    `has` is `next` where it has come with that, `told` where it has the statement, else `old`.
    """

    key: bytes
    label: str
    has: str
    connected: bool


@dataclass(frozen=True, slots=True)
class KeysInfo:
    """`key` is the one that the node shows; without a next one there is no `statement`."""

    key: bytes
    statement: KeyStatement | None
    agents: tuple[AgentKeys, ...]


class KeyControls(Protocol):
    """What an admin can do about a node's keys."""

    def keys(self) -> KeysInfo:
        """The node's keys, and which of them each agent has."""

    async def rotate(self, overlap: int) -> KeyStatement:
        """Makes a next key, valid beside the present one for so many seconds; 0: it takes over at
        once. ConfigError: there is one already, or it cannot be written.
        """

    async def finish(self) -> KeyStatement:
        """Has the next key take over. ConfigError: there is none, or it is not on the disk."""


async def answer_keys(
    controls: KeyControls, verb: str, request: Mapping[str, Any]
) -> dict[str, Any]:
    """The answer to one of these verbs. ConfigError says why there is none."""
    if verb == "keys":
        return told(controls.keys())
    if verb == "rotate":
        overlap = request["overlap"]
        if type(overlap) is not int or not 0 <= overlap <= LONGEST_OVERLAP:
            raise ConfigError(f"overlap is 0 to {LONGEST_OVERLAP} seconds")
        return stated(await controls.rotate(overlap))
    return stated(await controls.finish())


def told(info: KeysInfo) -> dict[str, Any]:
    """The keys as JSON has them."""
    return {
        "key": info.key.hex(),
        "next": None if info.statement is None else stated(info.statement),
        "agents": [{**asdict(one), "key": one.key.hex()} for one in info.agents],
    }


def stated(statement: KeyStatement) -> dict[str, Any]:
    """A statement as JSON has it, with all of its bytes behind `statement`."""
    return {
        "old_key": statement.old_key.hex(),
        "new_key": statement.new_key.hex(),
        "made": statement.made,
        "ends": statement.ends,
        "statement": statement.pack().hex(),
    }
