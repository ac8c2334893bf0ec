"""Group 6, Security & Auth: encrypted and signed (docs/protocol.md, section 7)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntFlag
from typing import Annotated, Final

from asys.isa.capmap import CapabilityMap, capability_map
from asys.isa.definition import Empty, Guide, Instruction, Level, Risk
from asys.protocol.codec import Layout, layout, p1, padded, raw, rows, text, u8, u16, u32

PAGE_SIZE: Final = 32
"""Agents on one page of AGENT_LIST."""


class AgentFlags(IntFlag):
    """What is special about an agent in AGENT_LIST."""

    CONNECTED = 1
    ADMIN = 2


@layout
class NewAgent(Layout):
    """The agent to add, and what of one's own to hand on to it. 69 to 100 bytes."""

    key: Annotated[bytes, raw("static public key of the agent", 32)]
    caps: Annotated[
        CapabilityMap | str | Iterable[str | int],
        capability_map("capability map, at most what the caller has"),
    ]
    ttl_s: Annotated[int, u32("time after which it ends by itself; 0: never", unit="s")] = 0
    label: Annotated[
        str,
        text(
            "a name for it, or nothing", least=0, most=31, pattern="[A-Za-z0-9._-]*", counted=True
        ),
    ] = ""


@layout
class AgentHash(Layout):
    """AGENT_ADD: what AGENT_LIST and audit records call the agent. 4 bytes."""

    key_hash: Annotated[bytes, raw("first 4 bytes of the BLAKE2b of its key", 4)]


@layout
class AgentKey(Layout):
    """Which agent. 32 bytes."""

    key: Annotated[bytes, raw("static public key of the agent", 32)]


@layout
class AgentPage(Layout):
    """Which agents to list; it travels as P1."""

    page: Annotated[int, p1("page of 32 agents, in order of registration")] = 0


@layout
class ListedAgent(Layout):
    """One agent in AGENT_LIST. 108 bytes."""

    key: Annotated[bytes, raw("static public key", 32)]
    parent_hash: Annotated[bytes, raw("key hash of who added it; zero: the node's admin", 4)]
    caps: Annotated[CapabilityMap, capability_map("what exists for it now")]
    expires: Annotated[int, u32("when it ends, Unix time; 0: never", unit="s")]
    flags: Annotated[AgentFlags, u8("1 connected, 2 admin", enum=AgentFlags, reserved=3)]
    label: Annotated[str, padded("its name, filled up with zero bytes", 32)]


@layout
class Agents(Layout):
    """AGENT_LIST: one page of agents. 4 bytes and 108 for each."""

    total: Annotated[int, u16("agents on all pages")]
    count: Annotated[int, u8("agents on this page")]
    page: Annotated[int, u8("this page")]
    agents: Annotated[
        tuple[ListedAgent, ...], rows("in order of registration", ListedAgent, PAGE_SIZE)
    ]


AGENT_ADD = Instruction(
    0x60,
    "AGENT_ADD",
    since="0.1.0",
    request=NewAgent,
    reply=AgentHash,
    level=Level.ENC_SIGN,
    guide=Guide(
        description="Lets another agent in, with a part of what this agent holds, for a time.",
        when="A task goes to another agent that needs its own connection: hand on just what the "
        "task needs, and no longer than it takes.",
        when_not="To give somebody more than this agent has: that is refused. Nor to replace an "
        "agent of another parent.",
        side_effects="The other agent can connect and act; what it may do is never more than what "
        "this agent may do at that moment. Adding it again replaces map, label and time.",
        reversible="AGENT_REMOVE; what the other agent has done stays done.",
        risk=Risk.HIGH,
    ),
)

AGENT_REMOVE = Instruction(
    0x61,
    "AGENT_REMOVE",
    since="0.1.0",
    request=AgentKey,
    reply=Empty,
    level=Level.ENC_SIGN,
    guide=Guide(
        description="Shuts out an agent that was added below this one, and all that it added.",
        when="The task is done, or the agent misbehaves.",
        when_not="For agents that the node's admin has listed: only the admin removes those.",
        side_effects="Its sessions are closed before the answer; tasks under way go on.",
        reversible="Adding it again; what it had added is gone.",
        risk=Risk.MEDIUM,
    ),
)

AGENT_LIST = Instruction(
    0x62,
    "AGENT_LIST",
    since="0.1.0",
    request=AgentPage,
    reply=Agents,
    level=Level.ENC_SIGN,
    guide=Guide(
        description="The agents that were added below this one, with what each may do now; for "
        "an admin all agents of the node.",
        when="To see who still has access, and to clean up.",
        when_not="To find out what this agent itself may do: SYS_CAPS tells that.",
        side_effects="None.",
        reversible="Nothing to reverse.",
        risk=Risk.LOW,
    ),
)

INSTRUCTIONS = (AGENT_ADD, AGENT_REMOVE, AGENT_LIST)
