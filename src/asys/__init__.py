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
    from asys.client.aio import Connecting, Node, Task, connect
    from asys.client.exchange import Exchange
    from asys.client.identity import Identity
    from asys.client.known_hosts import KnownHosts
    from asys.errors import (
        AgentRejected,
        AlreadyReceived,
        ArgumentError,
        AsysError,
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
        SessionLimit,
        StatusError,
        UnknownHost,
        WrongLength,
    )
    from asys.isa import (
        Abandoned,
        AgentFlags,
        AgentHash,
        Agents,
        Architecture,
        Capabilities,
        CapabilityMap,
        FileSystem,
        Hello,
        ListedAgent,
        NodeFlags,
        PressureSource,
        Process,
        Processes,
        ProcessFlags,
        Status,
        TaskState,
        TaskStatus,
        ThrottleAction,
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
    "asys.client.aio",
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
    "Blocked",
    "Capabilities",
    "CapabilityMap",
    "ChannelError",
    "ClassNotSupported",
    "ConnectFailed",
    "Connecting",
    "ConnectionLost",
    "DeadlineExceeded",
    "Denied",
    "Exchange",
    "FileSystem",
    "HandshakeError",
    "Hello",
    "HostKeyChanged",
    "Identity",
    "IdentityError",
    "InvalidPayload",
    "KnownHosts",
    "LinkError",
    "ListedAgent",
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
    "OutcomeUnknown",
    "PressureSource",
    "Process",
    "ProcessFlags",
    "Processes",
    "ProtocolError",
    "SessionLimit",
    "Status",
    "StatusError",
    "Task",
    "TaskState",
    "TaskStatus",
    "ThrottleAction",
    "UnknownHost",
    "WrongLength",
    "__version__",
    "connect",
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
