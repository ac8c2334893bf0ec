"""Which peers there are, how each is used, and what it needs.

A peer's module is imported only when what it needs is there.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Final

from benchmarks.peers.peer import Peer, Rig

REFERENCE: Final = "asys"
"""The one that all others are compared with."""

_CLIENT: Final = "apt-get install openssh-client"
_PROCPS: Final = {one: "apt-get install procps" for one in ("ps", "free", "uptime", "vmstat")}
_SSH: Final[Mapping[str, str]] = {
    "ssh": _CLIENT,
    "ssh-keygen": _CLIENT,
    "sshd": "apt-get install openssh-server",
    **_PROCPS,
}
_PSUTIL: Final = "pip install psutil"
_SERVICE: Final = {"psutil": _PSUTIL, "uvicorn": "pip install uvicorn"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One way to ask a node. `modules` and `commands` name what installs each of them."""

    name: str
    """As on the command line."""

    label: str
    how: str
    """What is kept and who answers, in a line."""

    place: str
    """Module in this package, and class."""

    modules: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    """Packages of Python whose versions tell what was measured."""

    def missing(self) -> str:
        """What to install before this can be measured, or ''."""
        wanted = [remedy for module, remedy in self.modules.items() if not _importable(module)]
        wanted += [remedy for one, remedy in self.commands.items() if found(one) is None]
        return "; ".join(dict.fromkeys(wanted))

    def peer(self, rig: Rig) -> Peer:
        """The peer itself. ImportError: see `missing`."""
        module, _, name = self.place.partition(":")
        made: Peer = getattr(import_module(f"benchmarks.peers.{module}"), name)(rig)
        return made


PEERS: Final = (
    Entry(
        REFERENCE,
        "ASys",
        "one session of `asys.sync` with an asyd that keeps its audit; the text of the tools",
        "asys_node:AsysNode",
    ),
    Entry(
        "ssh",
        "OpenSSH, one-shot",
        "`ssh node COMMAND`: a connection and a shell for each question",
        "openssh:OneShot",
        commands=_SSH,
    ),
    Entry(
        "ssh-mux",
        "OpenSSH, multiplexed",
        "the same with ControlMaster: a kept connection, a process here and a shell there",
        "openssh:Multiplexed",
        commands=_SSH,
    ),
    Entry(
        "asyncssh",
        "asyncssh",
        "asyncssh at both ends, one kept connection: a channel and a shell for each question",
        "async_ssh:AsyncSsh",
        modules={"asyncssh": "pip install asyncssh"},
        commands=_PROCPS,
    ),
    Entry(
        "ansible",
        "Ansible, ad hoc",
        "`ansible node -m shell`, with ControlMaster and pipelining, the interpreter named",
        "ansible:Ansible",
        packages=("ansible-core",),
        commands={**_SSH, "ansible": "pip install ansible-core"},
    ),
    Entry(
        "mcp",
        "MCP server, psutil",
        "the `mcp` package at both ends, streamable HTTP on uvicorn; one kept session, mutual TLS",
        "mcp_server:McpServer",
        packages=("mcp", "uvicorn", "psutil"),
        modules={"mcp": "pip install 'mcp>=2.2,<3'", **_SERVICE},
    ),
    Entry(
        "http",
        "HTTP+JSON, psutil",
        "Starlette on uvicorn, httpx; one kept connection, HTTP/1.1, mutual TLS",
        "http_json:HttpJson",
        packages=("starlette", "httpx", "uvicorn", "psutil"),
        modules={one: f"pip install {one}" for one in ("httpx", "starlette")} | _SERVICE,
    ),
    Entry(
        "grpc",
        "gRPC, psutil",
        "grpcio at both ends, one channel, mutual TLS; the reply is shown as JSON",
        "grpc_calls:GrpcCalls",
        packages=("grpcio", "protobuf", "psutil"),
        modules={
            "grpc": "pip install grpcio",
            "google.protobuf": "pip install protobuf",
            "psutil": _PSUTIL,
        },
    ),
)
NAMES: Final = tuple(one.name for one in PEERS)


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False


def found(command: str) -> str | None:
    """Where a command is: beside this Python, on the PATH, or where daemons are."""
    beside = str(Path(sys.executable).parent)
    places = (beside, None, "/usr/sbin:/sbin:/usr/local/sbin")
    return next((where for one in places if (where := which(command, path=one))), None)
