"""Group 1, Protocol Control: the conversation itself (docs/protocol.md, section 7)."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from asys.isa.definition import Empty, Guide, Instruction, Risk
from asys.protocol.codec import Layout, layout, u8, u16, u32


class TaskStatus(IntEnum):
    """What became of an asynchronous instruction."""

    PENDING = 0
    SUCCESS = 1
    FAILED = 2
    TIMEOUT = 3
    CANCELLED = 4
    NOT_FOUND = 0xFF


@layout
class TaskQuery(Layout):
    """The task that is asked for. 4 bytes."""

    handle: Annotated[int, u32("task handle from an asynchronous instruction")]


@layout
class TaskState(Layout):
    """TASK_QUERY: where a task stands. 1 byte."""

    status: Annotated[
        TaskStatus,
        u8(
            "0 pending, 1 success, 2 failed, 3 timeout, 4 cancelled, FF not found",
            enum=TaskStatus,
            unknown=TaskStatus.NOT_FOUND,
        ),
    ]


TASK_QUERY = Instruction(
    0x11,
    "TASK_QUERY",
    request=TaskQuery,
    reply=TaskState,
    ignores_extra=True,
    guide=Guide(
        description="Whether the task of an asynchronous instruction is pending, done or failed.",
        when="After an instruction that answered with a task handle, until it is not pending.",
        when_not="In another session than the one that started the task: handles do not travel. "
        "Nor after a final answer: that frees the handle.",
        side_effects="A final answer frees the handle.",
        reversible="Nothing to reverse.",
        risk=Risk.NONE,
    ),
)


@layout
class Abandoned(Layout):
    """ABANDON: how many sessions went. 2 bytes."""

    closed: Annotated[int, u16("other sessions of this agent that were closed")]


REKEY = Instruction(
    0x13,
    "REKEY",
    request=Empty,
    reply=Empty,
    idempotent=False,
    guide=Guide(
        description="New keys for this connection, made from the old ones, which are erased.",
        when="Never by hand: the SDK does it on a connection that has lasted long.",
        when_not="To recover from a stolen key: who has the old keys can make the new ones. Only a "
        "new connection gives fresh secrets.",
        side_effects="Every later message of this connection has the new keys.",
        reversible="No: the old keys are gone.",
        risk=Risk.NONE,
    ),
)

ABANDON = Instruction(
    0x14,
    "ABANDON",
    request=Empty,
    reply=Abandoned,
    guide=Guide(
        description="Closes every other session of this agent's own key on the node.",
        when="After a crash or a move, when sessions of an earlier life of this agent are in the "
        "way, or when its key may be in use elsewhere.",
        when_not="While other parts of the same agent work on this node: they lose their sessions "
        "and the handles of their tasks.",
        side_effects="The other sessions end at once; what they started goes on, its outcome is "
        "not told any more.",
        reversible="No, but the others may connect again.",
        risk=Risk.LOW,
    ),
)

INSTRUCTIONS = (TASK_QUERY, REKEY, ABANDON)
