"""The instruction set as data: one declaration per instruction, a module per group.

`REGISTRY` has them all. Adding one: its declaration in the group's module, its behaviour in
`asys.node.handlers`, its vector in the tests.
"""

from __future__ import annotations

from asys.isa import control, core, diagnostics, network, process, security
from asys.isa.capmap import CapabilityMap
from asys.isa.control import (
    ABANDON,
    CONTINUE,
    KEY_STATEMENT,
    REKEY,
    TASK_CANCEL,
    TASK_QUERY,
    Abandoned,
    ChainHandle,
    StatedKey,
    TaskState,
    TaskStatus,
)
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
from asys.isa.diagnostics import (
    LOG_DETAIL,
    LOG_SUMMARY,
    PROC_TREE,
    EntryFlags,
    LogDetail,
    LogEntry,
    LogEvent,
    LogSource,
    LogSummary,
    ProcessTree,
    Severity,
    SummaryFlags,
    TreeProcess,
)
from asys.isa.network import NET_ISOLATE, IsolateAction
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
from asys.isa.untrusted import UntrustedText

REGISTRY = Registry()
for _group in (core, control, process, network, security, diagnostics):
    REGISTRY.add(*_group.INSTRUCTIONS)

__all__ = [
    "ABANDON",
    "AGENT_ADD",
    "AGENT_LIST",
    "AGENT_REMOVE",
    "CONTINUE",
    "KEY_STATEMENT",
    "LOG_DETAIL",
    "LOG_SUMMARY",
    "NET_ISOLATE",
    "PROC_THROTTLE",
    "PROC_TREE",
    "REGISTRY",
    "REKEY",
    "SVC_RESTART",
    "SYS_CAPS",
    "SYS_HELLO",
    "SYS_PROCS",
    "SYS_STATUS",
    "TASK_CANCEL",
    "TASK_QUERY",
    "Abandoned",
    "AgentFlags",
    "AgentHash",
    "Agents",
    "AnyInstruction",
    "Architecture",
    "Capabilities",
    "CapabilityMap",
    "ChainHandle",
    "Empty",
    "EntryFlags",
    "FileSystem",
    "Group",
    "Guide",
    "Hello",
    "Instruction",
    "IsolateAction",
    "Level",
    "ListedAgent",
    "LogDetail",
    "LogEntry",
    "LogEvent",
    "LogSource",
    "LogSummary",
    "Mode",
    "NodeFlags",
    "PressureSource",
    "Process",
    "ProcessFlags",
    "ProcessTree",
    "Processes",
    "Registry",
    "Risk",
    "Severity",
    "StatedKey",
    "Status",
    "SummaryFlags",
    "TaskHandle",
    "TaskState",
    "TaskStatus",
    "ThrottleAction",
    "TreeProcess",
    "UntrustedText",
]
