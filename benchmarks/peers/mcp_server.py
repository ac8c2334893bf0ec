"""An MCP server with psutil, over streamable HTTP: the official package at both ends."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import MCPServer
from mcp_types import TextContent

from benchmarks.peers.certificates import Certificates
from benchmarks.peers.held import held
from benchmarks.peers.jobs import Job
from benchmarks.peers.peer import HOST, KEPT_SECONDS, Ask, Peer
from benchmarks.peers.readings import Readings
from benchmarks.peers.serving import serve
from benchmarks.plan import BenchmarkError


class McpServer(Peer):
    """Two tools, as somebody writes them in an afternoon."""

    @contextlib.contextmanager
    def serve(self) -> Iterator[int]:
        """The server."""
        self._certificates = Certificates.make(self.rig.directory)
        command = [sys.executable, "-m", "benchmarks.peers.mcp_server", str(self.rig.directory)]
        with self.rig.serving(command) as port:
            yield port

    @contextlib.contextmanager
    def connect(self, port: int) -> Iterator[Ask]:
        """A session."""

        @contextlib.asynccontextmanager
        async def session() -> AsyncIterator[Client]:
            context = self._certificates.client_context()
            kept = httpx2.Limits(keepalive_expiry=KEPT_SECONDS)
            async with httpx2.AsyncClient(verify=context, limits=kept) as http:
                transport = streamable_http_client(f"https://{HOST}:{port}/mcp", http_client=http)
                async with Client(transport) as client:
                    yield client

        with held(session) as (runner, client):

            async def call(job: Job) -> str:
                result = await client.call_tool(job)
                texts = [one.text for one in result.content if isinstance(one, TextContent)]
                if result.is_error or not texts:
                    raise BenchmarkError(f"the tool failed: {' '.join(texts)}")
                return "\n".join(texts)

            yield lambda job: runner.run(call(job))


def server() -> MCPServer[Any]:
    """The tools."""
    readings = Readings()
    made: MCPServer[Any] = MCPServer("node", log_level="WARNING")

    @made.tool(name=Job.VITALS)
    async def vitals() -> dict[str, Any]:
        """Load, CPU, memory, disk, I/O wait and network of this machine."""
        return readings.vitals()

    @made.tool(name=Job.TOP)
    async def top() -> list[dict[str, Any]]:
        """The five processes that use most CPU."""
        return readings.top()

    return made


if __name__ == "__main__":
    serve(server().streamable_http_app(), Certificates(Path(sys.argv[1])))
