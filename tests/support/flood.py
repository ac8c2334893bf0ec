"""Handshakes that somebody begins from one address, in a process of its own.

with HandshakeFlood(address) as flood:
    flood.start(1000)      # goes on while the test does something else
    flood.done()           # how many were let through to the pre-handshake frame
"""

from __future__ import annotations

import select
import subprocess
import sys
from types import TracebackType
from typing import Final

IN_FLIGHT: Final = 16

PROGRAM: Final = """\
import contextlib, os, select, socket, sys
os.nice(19)
host, port, in_flight = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
RESET = (1).to_bytes(4, "little") + bytes(4)

def flood(count):
    poll, there, started, shown = select.epoll(), {}, 0, 0
    while started < count or there:
        while started < count and len(there) < in_flight:
            started += 1
            peer = socket.socket()
            peer.setblocking(False)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            peer.connect_ex((host, port))
            there[peer.fileno()] = peer
            poll.register(peer, select.EPOLLOUT)
        for file, event in poll.poll(60):
            peer = there[file]
            try:
                if event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                    data = peer.recv(100)
                    if len(data) == 38:
                        shown += 1
                        peer.send(os.urandom(32) + bytes(64))
                        continue
                else:
                    peer.send(b"ASYS")
                    poll.modify(file, select.EPOLLIN)
                    continue
            except OSError:
                pass
            poll.unregister(file)
            there.pop(file).close()
    poll.close()
    return shown

for line in sys.stdin:
    print(flood(int(line)), flush=True)
"""
"""Each attempt shows the magic; where the node answers, it gets a message 1 that is none.

It is nice, as a real one comes from elsewhere and takes no CPU from the node's machine.
"""


class HandshakeFlood:
    """The process. Each `start` is answered by one `done`."""

    def __init__(self, address: tuple[str, int], in_flight: int = IN_FLIGHT) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", PROGRAM, *map(str, (*address, in_flight))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, count: int) -> None:
        """So many more attempts."""
        if self._process.stdin is None:
            raise RuntimeError("no pipe")
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()

    def is_done(self) -> bool:
        """Whether `done` would return at once."""
        if self._process.stdout is None:
            raise RuntimeError("no pipe")
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def done(self) -> int:
        """Waits for the end of what was started; how many saw the node's pre-handshake frame."""
        if self._process.stdout is None:
            raise RuntimeError("no pipe")
        return int(self._process.stdout.readline())

    def __enter__(self) -> HandshakeFlood:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()
