"""`asys-mcp` as an MCP host has it: in a process of its own, with the files of an agent.

desk = Desk(tmp_path, asyd)
async with desk.stdio("--allow-changes", says=yes) as client: ...
with desk.http() as served: ...
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, ElicitResult, TextContent

import asys
from asys.protocol.keys import PrivateKey
from support.daemon import PATIENCE, Daemon

MODULE: Final = ("-m", "asys.integrations.mcp.command")
TOKEN: Final = "0123456789abcdef" * 4

_SERVING: Final = re.compile(r"serving (http://\S+)")

Says = Callable[[Any, Any], Awaitable[ElicitResult]]


async def yes(context: Any, params: Any) -> ElicitResult:
    """A person who says yes to everything."""
    return ElicitResult(action="accept", content={"confirm": True})


async def no(context: Any, params: Any) -> ElicitResult:
    """One who declines."""
    return ElicitResult(action="decline")


async def gone(context: Any, params: Any) -> ElicitResult:
    """One who closes the window."""
    return ElicitResult(action="cancel")


async def unticked(context: Any, params: Any) -> ElicitResult:
    """One who sends the form as it is."""
    return ElicitResult(action="accept", content={"confirm": False})


class Served:
    """An `asys-mcp` that serves HTTP at `url`."""

    def __init__(self, url: str) -> None:
        self.url: Final = url

    @asynccontextmanager
    async def client(self, token: str = TOKEN, **options: Any) -> AsyncIterator[Client]:
        """The official client, with a token."""
        headers = {"authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(headers=headers, timeout=PATIENCE) as http:
            transport = streamable_http_client(self.url, http_client=http)
            async with Client(transport, **_named(options)) as client:
                yield client


class Desk:
    """An agent's key, the nodes that it knows, and what it starts `asys-mcp` with."""

    def __init__(self, directory: Path, *nodes: Daemon, key: PrivateKey) -> None:
        self.directory: Final = directory
        self.identity: Final = directory / "agent"
        self.known_hosts: Final = directory / "known_hosts"
        self.log: Final = directory / "asys-mcp.log"
        self.nodes: Final = ["{}:{}".format(*one.endpoint) for one in nodes]
        self.identity.mkdir(mode=0o700)
        (self.identity / "id_curve25519").write_bytes(key.raw())
        (self.identity / "id_curve25519").chmod(0o600)
        for one in nodes:
            asys.KnownHosts(self.known_hosts).add(*one.endpoint, one.key)

    def command(self, *options: str) -> list[str]:
        """The command line behind the interpreter."""
        files = ["--identity", str(self.identity), "--known-hosts", str(self.known_hosts)]
        return [*MODULE, *self.nodes, *files, *options]

    @asynccontextmanager
    async def stdio(
        self, *options: str, says: Says | None = None, **more: Any
    ) -> AsyncIterator[Client]:
        """The official client, which starts the server and talks to it over stdin and stdout."""
        server = StdioServerParameters(
            command=sys.executable, args=self.command(*options), env=dict(os.environ)
        )
        with self.log.open("a") as log:
            transport = stdio_client(server, errlog=log)
            async with Client(transport, **_named({"says": says, **more})) as client:
                yield client

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        """The server with nobody on stdin, until it ends."""
        return subprocess.run(
            [sys.executable, *self.command(*options)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def token_file(self, token: str = TOKEN) -> Path:
        """A file with a token."""
        path = self.directory / "token"
        path.write_text(token + "\n")
        path.chmod(0o600)
        return path

    @contextmanager
    def http(self, *options: str, bind: str = "127.0.0.1:0") -> Iterator[Served]:
        """A server over HTTP; it must end well by SIGTERM."""
        command = self.command("--http", bind, "--token-file", str(self.token_file()), *options)
        process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        try:
            assert process.stderr is not None
            said = [process.stderr.readline()]
            while not (found := _SERVING.search(said[-1])):
                assert said[-1], said
                said.append(process.stderr.readline())
            yield Served(found[1])
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0, process.stderr.read()
        finally:
            process.kill()
            process.communicate()


def _named(options: dict[str, Any]) -> dict[str, Any]:
    says = options.pop("says", None)
    return {"elicitation_callback": says, "read_timeout_seconds": PATIENCE, **options}


def said(result: CallToolResult) -> str:
    """The text of a result."""
    assert all(isinstance(one, TextContent) for one in result.content)
    return "\n".join(one.text for one in result.content if isinstance(one, TextContent))


def state(pid: int) -> str:
    """What the kernel says a process does: R, S, T, ..."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat[stat.rindex(")") + 2]
