"""Reads the logs for asyd, in a process of its own: a journal of gigabytes on a slow disk, or a
damaged one, must hold up or end nobody else.

worker.py SOCKET PLACE

SOCKET is a descriptor of a SOCK_SEQPACKET socket, PLACE what to read (log_place.py). Each question
has one answer. It ends when the other end of the socket is closed. It starts as a file and without
site-packages, because that is quick and finds this very version of `asys`.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asys.node.platform.logs.logbook import Source

NICE: Final = 5
"""Whoever reads logs gets less of the CPU than asyd."""

MEMORY: Final = 192 << 20
"""Bytes of memory of its own; what it maps of journals is not among them."""


def main(arguments: list[str]) -> None:
    """Answers questions until nobody asks any more."""
    from asys.node.platform import oom

    os.nice(NICE)
    oom.be_expendable()
    limit_memory(MEMORY)
    serve(socket.socket(fileno=int(arguments[0])), arguments[1])


def serve(connection: socket.socket, place: str) -> None:
    """Answers questions until the other end is closed."""
    from asys.node.platform.logs.wire import ANSWER_BYTES, WORKS

    with connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * ANSWER_BYTES)
        reader = Reader(place)
        connection.send(WORKS)
        while question := connection.recv(ANSWER_BYTES):
            connection.send(reader.answer(question))


def limit_memory(most: int) -> None:
    """Lowers what this process may have of its own."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


class Reader:
    """Answers questions from one place. What cannot be opened is tried again with each question."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._source: Source | None = None
        with contextlib.suppress(OSError):  # whoever asks is told
            self._source = self._open()

    def answer(self, question: bytes) -> bytes:
        """The answer to a question, whatever goes wrong."""
        from asys.node.platform.base import PlatformError
        from asys.node.platform.logs import wire as log_wire

        try:
            if self._source is None:
                self._source = self._open()
            return log_wire.answer(self._source, question)
        except PlatformError as error:
            return log_wire.failure(error.sw, str(error))
        except (OSError, MemoryError) as error:
            return log_wire.failure_of(error)

    def _open(self) -> Source:
        from asys.node.platform import machine
        from asys.node.platform.logs.place import LogPlace

        boot_id = bytes.fromhex(machine.boot_id().replace("-", ""))
        if self._place == LogPlace.JOURNAL.value:
            from asys.node.platform.logs.journal import JournalSource

            return JournalSource(boot_id)
        from asys.node.platform.logs.kmsg import KmsgSource

        return KmsgSource(boot_id)


if __name__ == "__main__":
    if not __spec__:
        sys.path.append(str(Path(__file__).resolve().parents[4]))
    main(sys.argv[1:])
