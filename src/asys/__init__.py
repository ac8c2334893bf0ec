"""ASys, the Agentic System Interface.

async with asys.connect("node.example.org") as node:
    print((await node.sys_status()).cpu_percent)

`asys.sync` has the same without asyncio, `asys.isa` the instruction set. Names are imported when
they are first used, so that `import asys` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

__version__ = "0.1.0"

if TYPE_CHECKING:
    from asys import errors, isa, sync
    from asys.client.aio import Connecting, Node, connect
    from asys.client.aio_task import Task
    from asys.client.deadline import deadline
    from asys.client.exchange import Exchange
    from asys.client.identity import Identity
    from asys.client.known_hosts import KnownHosts
    from asys.client.observe import Called, LogCalls, Observer
    from asys.client.reconnect import Reconnect
    from asys.client.retry import Retry
    from asys.client.telemetry import Telemetry
    from asys.client.vitals import Gap, Vitals
    from asys.errors import (
        AgentRejected,
        AlreadyReceived,
        ArgumentError,
        AsysError,
        BadKeyStatement,
        Blocked,
        ChannelError,
        ClassNotSupported,
        ConnectFailed,
        ConnectionLost,
        DeadlineExceeded,
        Denied,
        HandshakeError,
        HostKeyChanged,
        IdentityError,
        InvalidPayload,
        InventoryError,
        LinkError,
        NodeBusy,
        NodeError,
        NodeIOError,
        NodeNoSpace,
        NodeOutOfMemory,
        NodeTimedOut,
        NodeUnknownError,
        NoSuchInstruction,
        NotSupported,
        OutcomeUnknown,
        ProtocolError,
        SessionEnded,
        SessionLimit,
        StatusError,
        StillSuspended,
        UnknownHost,
        WrongLength,
    )
    from asys.fleet import Fleet
    from asys.isa import (
        Abandoned,
        AgentFlags,
        AgentHash,
        Agents,
        Architecture,
        Capabilities,
        CapabilityMap,
        EntryFlags,
        FileSystem,
        Hello,
        IsolateAction,
        ListedAgent,
        LogDetail,
        LogEntry,
        LogEvent,
        LogSource,
        LogSummary,
        NodeFlags,
        PressureSource,
        Process,
        Processes,
        ProcessFlags,
        ProcessTree,
        Severity,
        Status,
        SummaryFlags,
        TaskState,
        TaskStatus,
        ThrottleAction,
        TreeProcess,
        UntrustedText,
    )
    from asys.protocol.limits import DEFAULT_PORT
    from asys.protocol.status import SW

_SUBMODULES: Final = ("errors", "isa", "sync")

_HOMES: Final = (
    "asys.errors",
    "asys.protocol.limits",
    "asys.protocol.status",
    "asys.isa",
    "asys.client.exchange",
    "asys.client.identity",
    "asys.client.known_hosts",
    "asys.client.deadline",
    "asys.client.observe",
    "asys.client.reconnect",
    "asys.client.retry",
    "asys.client.telemetry",
    "asys.client.vitals",
    "asys.client.aio",
    "asys.client.aio_task",
    "asys.fleet",
)
"""Where the public names live, what is quickly imported first."""

__all__ = [
    "DEFAULT_PORT",
    "SW",
    "Abandoned",
    "AgentFlags",
    "AgentHash",
    "AgentRejected",
    "Agents",
    "AlreadyReceived",
    "Architecture",
    "ArgumentError",
    "AsysError",
    "BadKeyStatement",
    "Blocked",
    "Called",
    "Capabilities",
    "CapabilityMap",
    "ChannelError",
    "ClassNotSupported",
    "ConnectFailed",
    "Connecting",
    "ConnectionLost",
    "DeadlineExceeded",
    "Denied",
    "EntryFlags",
    "Exchange",
    "FileSystem",
    "Fleet",
    "Gap",
    "HandshakeError",
    "Hello",
    "HostKeyChanged",
    "Identity",
    "IdentityError",
    "InvalidPayload",
    "InventoryError",
    "IsolateAction",
    "KnownHosts",
    "LinkError",
    "ListedAgent",
    "LogCalls",
    "LogDetail",
    "LogEntry",
    "LogEvent",
    "LogSource",
    "LogSummary",
    "NoSuchInstruction",
    "Node",
    "NodeBusy",
    "NodeError",
    "NodeFlags",
    "NodeIOError",
    "NodeNoSpace",
    "NodeOutOfMemory",
    "NodeTimedOut",
    "NodeUnknownError",
    "NotSupported",
    "Observer",
    "OutcomeUnknown",
    "PressureSource",
    "Process",
    "ProcessFlags",
    "ProcessTree",
    "Processes",
    "ProtocolError",
    "Reconnect",
    "Retry",
    "SessionEnded",
    "SessionLimit",
    "Severity",
    "Status",
    "StatusError",
    "StillSuspended",
    "SummaryFlags",
    "Task",
    "TaskState",
    "TaskStatus",
    "Telemetry",
    "ThrottleAction",
    "TreeProcess",
    "UnknownHost",
    "UntrustedText",
    "Vitals",
    "WrongLength",
    "__version__",
    "connect",
    "deadline",
    "errors",
    "isa",
    "sync",
]


def __getattr__(name: str) -> object:
    """Imports a public name when it is first used."""
    if name in __all__:
        if name in _SUBMODULES:
            return import_module(f"asys.{name}")
        for home in _HOMES:
            module = import_module(home)
            if hasattr(module, name):
                globals()[name] = value = getattr(module, name)
                return value
    raise AttributeError(f"module 'asys' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
