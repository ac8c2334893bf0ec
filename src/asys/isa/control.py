"""Group 1, Protocol Control: the conversation itself (docs/protocol.md, section 7)."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from asys.isa.definition import Guide, Instruction, Risk
from asys.protocol.codec import Layout, layout, u8, u32


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

INSTRUCTIONS = (TASK_QUERY,)
