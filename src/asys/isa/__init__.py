"""The instruction set as data: one declaration per instruction, a module per group.

`REGISTRY` has them all. Adding one: its declaration in the group's module, its behaviour in
`asys.node.handlers`, its vector in the tests.
"""

from __future__ import annotations

from asys.isa import control, core, process, security
from asys.isa.capmap import CapabilityMap
from asys.isa.control import ABANDON, REKEY, TASK_QUERY, Abandoned, TaskState, TaskStatus
from asys.isa.core import (
    SYS_CAPS,
    SYS_HELLO,
    SYS_PROCS,
    SYS_STATUS,
    Architecture,
    Capabilities,
    FileSystem,
    Hello,
    NodeFlags,
    PressureSource,
    Process,
    Processes,
    ProcessFlags,
    Status,
)
from asys.isa.definition import (
    AnyInstruction,
    Empty,
    Group,
    Guide,
    Instruction,
    Level,
    Mode,
    Registry,
    Risk,
    TaskHandle,
)
from asys.isa.process import PROC_THROTTLE, SVC_RESTART, ThrottleAction
from asys.isa.security import (
    AGENT_ADD,
    AGENT_LIST,
    AGENT_REMOVE,
    AgentFlags,
    AgentHash,
    Agents,
    ListedAgent,
)

REGISTRY = Registry()
for _group in (core, control, process, security):
    REGISTRY.add(*_group.INSTRUCTIONS)

__all__ = [
    "ABANDON",
    "AGENT_ADD",
    "AGENT_LIST",
    "AGENT_REMOVE",
    "PROC_THROTTLE",
    "REGISTRY",
    "REKEY",
    "SVC_RESTART",
    "SYS_CAPS",
    "SYS_HELLO",
    "SYS_PROCS",
    "SYS_STATUS",
    "TASK_QUERY",
    "Abandoned",
    "AgentFlags",
    "AgentHash",
    "Agents",
    "AnyInstruction",
    "Architecture",
    "Capabilities",
    "CapabilityMap",
    "Empty",
    "FileSystem",
    "Group",
    "Guide",
    "Hello",
    "Instruction",
    "Level",
    "ListedAgent",
    "Mode",
    "NodeFlags",
    "PressureSource",
    "Process",
    "ProcessFlags",
    "Processes",
    "Registry",
    "Risk",
    "Status",
    "TaskHandle",
    "TaskState",
    "TaskStatus",
    "ThrottleAction",
]
