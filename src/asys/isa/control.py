"""Group 1, Protocol Control: the conversation itself (docs/protocol.md, section 7)."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from asys.isa.definition import Empty, Guide, Instruction, Risk
from asys.protocol.codec import Layout, layout, raw, rest, u8, u16, u32
from asys.protocol.limits import MAX_FRAGMENT


class TaskStatus(IntEnum):
    """What became of an asynchronous instruction."""

    PENDING = 0
    SUCCESS = 1
    FAILED = 2
    TIMEOUT = 3
    CANCELLED = 4
    NOT_FOUND = 0xFF


@layout
class Fragment(Layout):
    """A fragment behind the first. 4 to 65,494 bytes; signed at most 65,490, sealed 65,474."""

    handle: Annotated[int, u32("chain handle from the first fragment")]
    fragment: Annotated[bytes, rest("the next part of the payload", most=MAX_FRAGMENT)]


@layout
class ChainHandle(Layout):
    """What the first fragment of a chain is answered. 4 bytes."""

    handle: Annotated[int, u32("chain handle, valid in this session only")]


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
    since="0.1.0",
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


CONTINUE = Instruction(
    0x10,
    "CONTINUE",
    since="0.1.0",
    request=Fragment,
    reply=Empty,
    idempotent=False,
    carrier=True,
    guide=Guide(
        description="The next part of a payload that is too long for one frame.",
        when="Never by hand: the SDK cuts what is too long for one frame.",
        when_not="For an instruction that is not chainable: it takes no fragments.",
        side_effects="With the last part, those of the instruction that the payload is for.",
        reversible="Up to the last part nothing has been done; a chain that does not go on ends by "
        "itself.",
        risk=Risk.NONE,
    ),
)


@layout
class CancelledTask(Layout):
    """The task that is to be cancelled. 4 bytes."""

    handle: Annotated[int, u32("task handle from an asynchronous instruction")]


TASK_CANCEL = Instruction(
    0x12,
    "TASK_CANCEL",
    since="0.1.0",
    request=CancelledTask,
    reply=TaskState,
    guide=Guide(
        description="Takes a restart that has not begun out of the service manager's queue, and "
        "says where its task stands then.",
        when="A restart is pending behind other jobs and is not wanted any more.",
        when_not="To stop a service, or a restart that has begun: it goes on, and the answer is "
        "pending. Nor in another session than the one that started the task.",
        side_effects="The restart does not happen, also for others that have asked for the same "
        "one. A final answer frees the handle.",
        reversible="Ask for the restart again.",
        risk=Risk.LOW,
    ),
)

REKEY = Instruction(
    0x13,
    "REKEY",
    since="0.1.0",
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
    since="0.1.0",
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


@layout
class StatedKey(Layout):
    """KEY_STATEMENT: the node's next key, and the old one's signature for it. 136 bytes."""

    old_key: Annotated[bytes, raw("static public key that states", 32)]
    new_key: Annotated[bytes, raw("static public key that takes its place", 32)]
    made: Annotated[int, u32("when it was stated, by the node's clock: Unix time in seconds")]
    ends: Annotated[int, u32("when the old key ends, by the node's clock: Unix time in seconds")]
    signature: Annotated[bytes, raw("XEdDSA of the old key over all of that", 64)]


KEY_STATEMENT = Instruction(
    0x15,
    "KEY_STATEMENT",
    since="0.1.0",
    request=Empty,
    reply=StatedKey,
    guide=Guide(
        description="The node's next key, as its present one states it.",
        when="Never by hand: the SDK asks when the node has a next key, checks the answer and puts "
        "the new key in the place of the old one.",
        when_not="To find out a node's key: only who has the old one on record can use the answer.",
        side_effects="None on the node, but that its admin sees who has asked.",
        reversible="Nothing to reverse.",
        risk=Risk.NONE,
    ),
)

INSTRUCTIONS = (CONTINUE, TASK_QUERY, TASK_CANCEL, REKEY, ABANDON, KEY_STATEMENT)
