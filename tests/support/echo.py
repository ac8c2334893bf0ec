"""A server that sends back what it gets: what a round trip costs on this machine at this moment."""

from __future__ import annotations

import socket
import subprocess
import sys
from types import TracebackType
from typing import Final

PROGRAM: Final = """\
import asyncio
try:
    from uvloop import new_event_loop
except ImportError:
    new_event_loop = None

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)

async def main():
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""


class Echo:
    """The server, in a process of its own, and a connection to it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True
        )
        if self._process.stdout is None:
            raise RuntimeError("no pipe")
        port = int(self._process.stdout.readline())
        self._socket = socket.create_connection(("127.0.0.1", port), 60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, data: bytes) -> bytes:
        """One round trip; so few bytes come in one piece."""
        self._socket.sendall(data)
        return self._socket.recv(1024)

    def __enter__(self) -> Echo:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()
        self._process.kill()
        self._process.communicate()
