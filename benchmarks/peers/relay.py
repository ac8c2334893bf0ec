"""A relay on loopback that counts what passes: the bytes of TCP streams, both ways.

What TCP and IP add, headers and acknowledgements, is not counted. Nothing is timed through it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Final, NamedTuple

from benchmarks.plan import BenchmarkError

HOST: Final = "127.0.0.1"
CHUNK: Final = 1 << 16

QUIET: Final = 0.1
"""Seconds without a byte after which what was asked for has passed."""

MOST_SECONDS: Final = 10.0


class Passed(NamedTuple):
    """Bytes from the client to the node, and back."""

    to_node: int
    from_node: int


class Relay:
    """Hands every connection to `port` on to `target`, a port on loopback; ends with its block."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._passed = Passed(0, 0)
        self._sockets: set[socket.socket] = set()
        self._pumps: list[threading.Thread] = []
        self._listener = socket.create_server((HOST, 0), backlog=64)
        self.port: Final[int] = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, name="relay")
        self._accepting.start()

    @property
    def passed(self) -> Passed:
        """So far, over all connections."""
        with self._lock:
            return self._passed

    def settled(self) -> Passed:
        """The same, once nothing has passed for a while. BenchmarkError: it does not end."""
        end = time.monotonic() + MOST_SECONDS
        before = self.passed
        while time.monotonic() < end:
            time.sleep(QUIET)
            now = self.passed
            if now == before:
                return now
            before = now
        raise BenchmarkError("bytes go on passing, though nobody asks for anything")

    def close(self) -> None:
        """Ends it with all its connections."""
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._accepting.join()
        self._listener.close()
        with self._lock:
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        for pump in self._pumps:
            pump.join()

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                node = socket.create_connection((HOST, self._target))
            except OSError:
                client.close()
                continue
            for one in (client, node):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets |= {client, node}
            self._pumps.append(threading.Thread(target=self._connection, args=(client, node)))
            self._pumps[-1].start()

    def _connection(self, client: socket.socket, node: socket.socket) -> None:
        """Both ways of one connection, until both have ended."""
        with client, node:
            back = threading.Thread(target=self._pump, args=(node, client, Passed(0, 1)))
            back.start()
            self._pump(client, node, Passed(1, 0))
            back.join()
            with self._lock:
                self._sockets -= {client, node}

    def _pump(self, source: socket.socket, sink: socket.socket, way: Passed) -> None:
        """One way of a connection, until its source has no more to say; then the sink is told."""
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                size = len(data)
                with self._lock:
                    before = self._passed
                    self._passed = Passed(
                        before.to_node + way.to_node * size, before.from_node + way.from_node * size
                    )
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
