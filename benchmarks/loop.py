"""The client loop: one for every row, on blocking sockets.

What it sends was sealed beforehand, and what it receives is looked at after the clock has stopped;
between two readings of the clock there are a send and a receive.
"""

from __future__ import annotations

import contextlib
import gc
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.plan import BenchmarkError

PATIENCE: Final = 10
"""Seconds without an answer after which a peer has failed."""

_TIMEVAL: Final = struct.Struct("@ll")


@dataclass(frozen=True, slots=True)
class Turn:
    """Bytes to write in one piece, and how many bytes answer them."""

    sock: socket.socket
    data: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Played:
    """What came of some turns, in their order. Times in ns of one clock."""

    began: int
    ended: int
    round_trips: list[int]
    answers: list[bytes]

    @property
    def elapsed(self) -> int:
        """From the first byte sent to the last received."""
        return self.ended - self.began


def connect(host: str, port: int) -> socket.socket:
    """A blocking TCP connection; the kernel ends a wait that takes too long. OSError.

    Not settimeout(): that makes Python poll before each call.
    """
    sock = socket.create_connection((host, port), timeout=PATIENCE)
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL.pack(PATIENCE, 0))
    return sock


def receive(recv: Callable[[int], bytes], size: int) -> bytes:
    """Exactly `size` bytes. BenchmarkError when the peer closes or is silent."""
    try:
        data = recv(size)
        while len(data) < size:
            more = recv(size - len(data))
            if not more:
                raise BenchmarkError(f"the peer closed; {size} bytes were to come")
            data += more
    except BlockingIOError:
        raise BenchmarkError(f"an answer of {size} bytes did not come in time") from None
    except ConnectionError as error:
        raise BenchmarkError(f"the peer closed: {error.strerror}") from error
    return data


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage collection of this process in what is timed, whichever side it is. Nests."""
    if not gc.isenabled():
        yield
        return
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def play(turns: Sequence[Turn], *, window: int = 1, interval_ns: int = 0) -> Played:
    """Plays turns in their order, at most `window` of them unanswered.

    With `interval_ns` a turn begins that much after the one before it began, or as soon as the
    loop is free.
    """
    steps = [(turn.sock.sendall, turn.sock.recv, turn.data, turn.size) for turn in turns]
    clock = time.perf_counter_ns
    flying: deque[tuple[int, Callable[[int], bytes], int]] = deque()
    round_trips: list[int] = []
    answers: list[bytes] = []

    def land() -> None:
        sent, recv, size = flying.popleft()
        answer = receive(recv, size)
        round_trips.append(clock() - sent)
        answers.append(answer)

    with undisturbed():
        began = due = clock()
        for send, recv, data, size in steps:
            if interval_ns:
                time.sleep(max(due - clock(), 0) / 1e9)
                due += interval_ns
            sent = clock()
            send(data)
            flying.append((sent, recv, size))
            if len(flying) == window:
                land()
        while flying:
            land()
        ended = clock()
    return Played(began, ended, round_trips, answers)
