"""What round trips are compared with: an echo on blocking sockets, in a process of its own.

A connection begins with three numbers, u16 each: so many bytes are then answered with so many, and
so many connections make a ring. One thread serves a ring, a request of each connection in the order
in which they were made: no selector, and no more threads than a node has for its sessions.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from itertools import cycle
from types import TracebackType
from typing import Final

from benchmarks.loop import Turn, connect, receive
from benchmarks.plan import BenchmarkError

_START: Final = struct.Struct(">HHH")


def _serve(ring: Sequence[socket.socket], request: int, answer: int) -> None:
    reply = bytes(answer)
    try:
        for recv, send in cycle([(one.recv, one.sendall) for one in ring]):
            data = recv(request)
            while len(data) < request:
                more = recv(request - len(data))
                if not more:
                    return
                data += more
            send(reply)
    except ConnectionError:
        return
    finally:
        for one in ring:
            one.close()


def _accept(listener: socket.socket) -> None:
    ring: list[socket.socket] = []
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request, answer, count = _START.unpack(connection.recv(_START.size, socket.MSG_WAITALL))
        ring.append(connection)
        if len(ring) == count:
            threading.Thread(target=_serve, args=(ring, request, answer), daemon=True).start()
            ring = []
        connection.sendall(b"\0")


def main() -> None:
    """Serves until its stdin ends: it cannot outlive whoever started it."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    threading.Thread(target=_accept, args=(listener,), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()


class EchoLine:
    """A connection with the echo, for requests and answers of given sizes."""

    def __init__(self, port: int, request: int, answer: int, ring: int) -> None:
        self.sock = connect("127.0.0.1", port)
        self._data = bytes(request)
        self._answer = answer
        self.sock.sendall(_START.pack(request, answer, ring))
        receive(self.sock.recv, 1)

    def turn(self) -> Turn:
        """One request and its answer."""
        return Turn(self.sock, self._data, self._answer)

    def __enter__(self) -> EchoLine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.sock.close()


class Echo:
    """The echo as a process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.echo"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        said = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not said:
            self.close()
            raise BenchmarkError("the echo did not start")
        self._port = int(said)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def line(self, request: int, answer: int) -> EchoLine:
        """A new connection with it."""
        return EchoLine(self._port, request, answer, 1)

    def ring(self, request: int, answer: int, count: int) -> list[EchoLine]:
        """Connections that one thread serves, each in its turn."""
        return [EchoLine(self._port, request, answer, count) for _ in range(count)]

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()


if __name__ == "__main__":
    main()
