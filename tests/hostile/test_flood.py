"""100,000 connections with a wrong magic, while nobody reads the daemon's stderr."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
from pathlib import Path

from support.daemon import AGENT, Daemon, running
from support.witness import Witness

CONNECTIONS = 100_000
IN_FLIGHT = 64

GROWTH_KB = 4096
"""What the node's memory may differ by between 5,000 strangers and 100,000."""

LINES_A_SECOND = 4
"""A line a second for each kind of event, and there are three or four kinds."""

_RESET = (1).to_bytes(4, "little") + bytes(4)


class Flood:
    """Strangers, many at a time, from this one process."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._poll = select.epoll()
        self._open: dict[int, socket.socket] = {}
        self.closed = 0
        """Connections that the node has closed."""
        self.answered = 0
        """Bytes that it has sent to them."""

    def run(self, count: int) -> None:
        """So many more strangers come, say something wrong and are closed."""
        started = 0
        while started < count or self._open:
            while started < count and len(self._open) < IN_FLIGHT:
                self._start(started)
                started += 1
            for file, event in self._poll.poll(60):
                if event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                    self._finish(file)
                else:
                    self._speak(file)

    def _start(self, number: int) -> None:
        stranger = socket.socket()
        stranger.setblocking(False)
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)  # leaves no TIME_WAIT
        failed = stranger.connect_ex(self._address)
        assert failed in (0, errno.EINPROGRESS), os.strerror(failed)
        self._open[stranger.fileno()] = stranger
        self._poll.register(stranger, select.EPOLLOUT)

    def _speak(self, file: int) -> None:
        try:
            self._open[file].send(b"GET ")
        except OSError:
            self._finish(file)
        else:
            self._poll.modify(file, select.EPOLLIN)

    def _finish(self, file: int) -> None:
        stranger = self._open.pop(file)
        with contextlib.suppress(ConnectionResetError):
            self.answered += len(stranger.recv(100))
        self._poll.unregister(file)
        stranger.close()
        self.closed += 1

    def close(self) -> None:
        """Gives back what it holds."""
        self._poll.close()


def fill(daemon: Daemon) -> None:
    """Fills the pipe that is the daemon's stderr: nobody reads it, and its next line blocks."""
    pipe = os.open(f"/proc/{daemon.pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK)
    try:
        while True:
            os.write(pipe, b"x" * 4095 + b"\n")
    except BlockingIOError:
        pass
    finally:
        os.close(pipe)


def test_100_000_wrong_magics_while_nobody_reads_stderr(tmp_path: Path) -> None:
    with running(tmp_path, agents={AGENT: "agent"}, read_log=False) as daemon:
        fill(daemon)
        flood = Flood(daemon.endpoint)
        with Witness(daemon):
            flood.run(5_000)
            before = daemon.resident_kb()
            flood.run(CONNECTIONS - 5_000)
        grown = daemon.resident_kb() - before
        assert (flood.closed, flood.answered) == (CONNECTIONS, 0)
        assert grown < GROWTH_KB, f"{grown} KB more after {CONNECTIONS} strangers"
        with daemon.connect() as agent:
            assert agent.alive()
        flood.close()


def test_a_flood_is_a_line_a_second(tmp_path: Path) -> None:
    with running(tmp_path, agents={AGENT: "agent"}) as daemon:
        flood = Flood(daemon.endpoint)
        flood.run(3_000)
        flood.close()
        with daemon.connect() as agent:
            assert agent.alive()
        stamps = {line.split()[0] for line in daemon.log}
        strangers = [line for line in daemon.log if "asyd.door" in line]
        assert 1 <= len(strangers) <= LINES_A_SECOND * len(stamps)
        assert sum("more like it" in line for line in strangers) <= len(stamps)
