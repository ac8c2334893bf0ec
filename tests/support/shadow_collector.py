"""A collector in threads, which does what a test says: it may lie, be silent, refuse, forget.

    with Collector() as collector: ...

What it is told is checked with the chain alone; `files` writes it down, for `asys audit verify`.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

from asys.audit.chain import GENESIS, HEAD_SIZE, HEADER_SIZE, header, step
from asys.audit.entries import Checkpoint, parse
from asys.audit.push import (
    PROLOGUE,
    Ack,
    FromCollector,
    Open,
    Put,
    Reason,
    Refused,
    Stands,
    Unknown,
    parse_from_node,
)
from asys.audit.segments import AUDIT, KINDS, segment_name
from asys.client.address import Address
from asys.errors import AsysError
from asys.node.audit.shadow.words import Destination
from asys.protocol.keys import PrivateKey
from asys.protocol.link import LinkState, NodeLink

PATIENCE: Final = 60.0


class Kept:
    """One generation of one chain."""

    def __init__(self) -> None:
        self.segments: dict[int, bytearray] = {}
        self.segment = 0
        self.count = 0
        self.h = GENESIS
        self.part = b""

    @property
    def offset(self) -> int:
        """Bytes of the newest segment."""
        return len(self.segments[self.segment]) if self.segment else 0

    def put(self, put: Put) -> bool | None:
        """Takes it; None for a piece of an entry, False: it does not go on from here."""
        data = put.data
        if self.part:
            if (put.segment, put.offset) != (self.segment, self.offset + len(self.part)):
                return False
            data = self.part + data
        elif put.offset == 0:
            if self.segment and put.segment != self.segment + 1:
                return False
            first = data[HEADER_SIZE:]
            if not self.segment and put.segment > 1:
                entry = parse(first[0], first[HEAD_SIZE : HEAD_SIZE + 144])
                assert isinstance(entry, Checkpoint)
                self.count, self.h = entry.entries, entry.h
            if data[:HEADER_SIZE] != header(put.segment, self.h):
                return False
            self.segment = put.segment
            self.segments[put.segment] = bytearray(data[:HEADER_SIZE])
            data = first
        elif (put.segment, put.offset) != (self.segment, self.offset):
            return False
        return self._entries(data)

    def _entries(self, data: bytes) -> bool | None:
        at = 0
        while at < len(data):
            end = at + HEAD_SIZE + int.from_bytes(data[at + 1 : at + 3], "big")
            if end > len(data):
                assert at == 0
                self.part = data
                return None
            entry = parse(data[at], data[at + HEAD_SIZE : end])
            if isinstance(entry, Checkpoint) and (entry.entries, entry.h) != (self.count, self.h):
                return False
            self.h = step(self.h, data[at:end])
            self.count += 1
            self.segments[self.segment] += data[at:end]
            at = end
        self.part = b""
        return True

    def stands(self, kind: str) -> Stands:
        """As STANDS says it."""
        if not self.segment:
            return Stands(kind, 0, 0, 0, bytes(32))
        return Stands(kind, self.segment, self.offset, self.count, self.h)


class Collector:
    """Listens on loopback while its block is entered."""

    def __init__(self, *, knows: bool = True) -> None:
        self.key: Final = PrivateKey.generate()
        self.knows = knows
        self.kept: dict[str, list[Kept]] = {kind: [Kept()] for kind in KINDS}
        self.connections = 0
        self.anew = 0
        self.nodes: set[bytes] = set()
        self.failure: BaseException | None = None
        self.alter: Callable[[FromCollector], FromCollector | None] = lambda answer: answer
        """What becomes of an answer; None: it is kept back."""
        self.refusal: Reason | None = None
        """Why every PUT is refused."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: Final = self._listener.getsockname()[1]
        self._socks: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.RLock()
        self._accepting = threading.Thread()

    @property
    def destination(self) -> Destination:
        """For a node that trusts it."""
        return Destination(Address("127.0.0.1", self.port), self.key.public)

    def now(self, kind: str = AUDIT) -> Kept:
        """The present generation."""
        return self.kept[kind][-1]

    def hang_up(self) -> None:
        """Ends all connections; new ones are taken."""
        with self._lock:
            for sock in self._socks:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def listen(self, listening: bool) -> None:
        """Whether anybody can connect at all; none of those who were stay."""
        self._stop()
        if listening:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self._accepting = self._start(self._accept)
        self.hang_up()

    def files(self, directory: Path) -> Path:
        """Writes down what it has of both chains."""
        directory.mkdir()
        for kind in KINDS:
            for number, data in self.now(kind).segments.items():
                (directory / segment_name(kind, number)).write_bytes(data)
        return directory

    def __enter__(self) -> Collector:
        self._accepting = self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
        self.hang_up()
        for thread in self._threads:
            thread.join(PATIENCE)
        if error is None and self.failure is not None:
            raise self.failure

    def _stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(PATIENCE)
        self._listener.close()

    def _start(self, work: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, name="collector", daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        listener = self._listener
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._socks.add(sock)
            self.connections += 1
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        link = NodeLink(self.key, prologue=PROLOGUE)
        try:
            with sock:
                while data := sock.recv(1 << 16):
                    link.receive_data(data)
                    sock.sendall(link.data_to_send())
                    if link.state is not LinkState.OPEN:
                        continue
                    self.nodes.add(link.agent_key)
                    if not self.knows:
                        sock.sendall(link.seal([Unknown().pack()]))
                        return
                    for message in link.messages():
                        with self._lock:
                            answer = self._answer(parse_from_node(message))
                        if answer is not None and (said := self.alter(answer)) is not None:
                            sock.sendall(link.seal([said.pack()]))
                        if isinstance(answer, Refused):
                            return
        except (OSError, AsysError):
            return
        except BaseException as failure:
            self.failure = failure
        finally:
            with self._lock:
                self._socks.discard(sock)

    def _answer(self, message: Open | Put) -> FromCollector | None:
        kept = self.now(message.kind)
        if isinstance(message, Open):
            kept.part = b""
            if message.anew:
                self.anew += 1
                kept = Kept()
                self.kept[message.kind].append(kept)
            return kept.stands(message.kind)
        if self.refusal is not None:
            return Refused(message.kind, self.refusal)
        taken = kept.put(message)
        if taken is False:
            return Refused(message.kind, Reason.NOT_CONTINUED)
        if taken is None:
            return None
        return Ack(message.kind, kept.count, kept.h)
