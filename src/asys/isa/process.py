"""Group 2, Process Control: signed (docs/protocol.md, section 7)."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Literal

from asys.isa.definition import Empty, Guide, Instruction, Level, Mode, Risk, TaskHandle
from asys.protocol.codec import Layout, layout, p1, text, u32


class ThrottleAction(IntEnum):
    """What PROC_THROTTLE does to a process."""

    STOP = 0
    CONTINUE = 1


@layout
class Throttle(Layout):
    """Which process, and what to do to it. 4 bytes; the action travels as P1."""

    pid: Annotated[int, u32("process id", least=1)]
    action: Annotated[
        ThrottleAction | Literal["stop", "continue"],
        p1("0 stop, 1 continue", enum=ThrottleAction),
    ]


@layout
class Restart(Layout):
    """Which service. 1 to 64 bytes."""

    name: Annotated[
        str,
        text(
            "service name without .service",
            least=1,
            most=64,
            pattern="[a-z0-9_.-]+",
            refuse=r"\.service$",
        ),
    ]


PROC_THROTTLE = Instruction(
    0x20,
    "PROC_THROTTLE",
    since="0.1.0",
    request=Throttle,
    reply=Empty,
    level=Level.SIGNED,
    guide=Guide(
        description="Suspends a process, or lets a suspended one go on. It stays in memory and "
        "keeps its files and connections; it just does not run.",
        when="A process takes CPU that others need, and it must not be killed: suspend it, look "
        "again, decide.",
        when_not="To end a process, to free memory, or for a service that others wait on: its "
        "clients hang while it is suspended.",
        side_effects="The process does nothing while it is suspended; its peers may time out.",
        reversible="Fully: action continue.",
        risk=Risk.MEDIUM,
    ),
)

SVC_RESTART = Instruction(
    0x22,
    "SVC_RESTART",
    since="0.1.0",
    request=Restart,
    reply=TaskHandle,
    level=Level.SIGNED,
    mode=Mode.ASYNC,
    guide=Guide(
        description="Restarts a service through the node's service manager. The answer is a task "
        "handle; TASK_QUERY tells how it ended.",
        when="A service hangs, leaks or failed, and a fresh start is the accepted remedy.",
        when_not="Over and over: service managers refuse a service that restarts too often. Not "
        "for a single process outside the service manager.",
        side_effects="The service's connections are cut and what it held in memory is lost.",
        reversible="No: the old process is gone.",
        risk=Risk.HIGH,
    ),
)

INSTRUCTIONS = (PROC_THROTTLE, SVC_RESTART)
