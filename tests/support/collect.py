"""A real collector in a process of its own, and a node that pushes to it as a test wants it.

with collecting(tmp_path) as collector:
    with collector.node("web") as node: ...
"""

from __future__ import annotations

import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final

from asys.audit import push
from asys.audit.segments import SegmentReader, find_segments
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import MESSAGE_2_SIZE, PRE_HANDSHAKE_SIZE
from asys.protocol.link import AgentLink, LinkState

PATIENCE: Final = 60.0
"""Seconds until a collector that does not do what it should counts as broken."""

COMMAND: Final = "import sys; from asys.cli.agent import main; sys.exit(main())"

NODE: Final = PrivateKey.generate()
"""The node of tests that do not care which."""

_READY: Final = re.compile(r"READY (\S+):(\d+) ([0-9a-f]{64})\n")


class Ended(Exception):
    """The collector has closed the connection."""


class Node:
    """A connection of a node. Every wait ends after PATIENCE."""

    def __init__(
        self, endpoint: tuple[str, int], key: PrivateKey, prologue: bytes = push.PROLOGUE
    ) -> None:
        self.socket = socket.create_connection(endpoint, PATIENCE)
        self.link = AgentLink(key, prologue=prologue)
        self._answers: list[bytes] = []
        try:
            self.socket.sendall(self.link.data_to_send())
            self.link.receive_data(self._exactly(PRE_HANDSHAKE_SIZE))
            self.link.begin_handshake()
            self.socket.sendall(self.link.data_to_send())
            self.link.receive_data(self._exactly(MESSAGE_2_SIZE))
        except BaseException:
            self.close()
            raise
        assert self.link.state is LinkState.OPEN

    def __enter__(self) -> Node:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hangs up."""
        self.socket.close()

    def send(self, *messages: push.FromNode | bytes) -> None:
        """Sends messages, or any bytes as one. Ended when nobody is there."""
        packed = [one if isinstance(one, bytes) else one.pack() for one in messages]
        try:
            self.socket.sendall(self.link.seal(packed))
        except OSError:
            raise Ended from None

    def answer(self) -> push.FromCollector:
        """The next answer. Ended when there will be none."""
        while not self._answers:
            self.link.receive_data(self._read())
            self._answers = self.link.messages()
        return push.parse_from_collector(self._answers.pop(0))

    def ask(self, *messages: push.FromNode | bytes) -> push.FromCollector:
        """Sends, and gives the first answer."""
        self.send(*messages)
        return self.answer()

    def open(self, kind: str = "audit", *, anew: bool = False) -> push.Stands:
        """Where the collector stands."""
        found = self.ask(push.Open(kind, anew))
        assert isinstance(found, push.Stands), found
        return found

    def put(self, kind: str, segment: int, offset: int, data: bytes) -> push.Ack:
        """Puts bytes that must be acknowledged."""
        found = self.ask(push.Put(kind, segment, offset, data))
        assert isinstance(found, push.Ack), found
        return found

    def ended(self) -> bool:
        """Waits for what comes next: whether it is the end."""
        try:
            self.answer()
        except Ended:
            return True
        return False

    def bring(
        self, directory: Path, kind: str = "audit", *, most: int = push.MAX_BYTES
    ) -> push.Ack:
        """Brings the collector up to what the directory has; gives the last ACK."""
        at = self.open(kind)
        last = push.Ack(kind, at.count, at.h)
        waiting = 0
        for put, whole in puts(directory, kind, at.segment, at.offset, most):
            self.send(put)
            waiting += whole
            while waiting >= push.MAX_PIPELINED:
                last, waiting = self._ack(), waiting - 1
        for _ in range(waiting):
            last = self._ack()
        return last

    def _ack(self) -> push.Ack:
        found = self.answer()
        assert isinstance(found, push.Ack), found
        return found

    def _read(self) -> bytes:
        try:
            data = self.socket.recv(1 << 16)
        except (ConnectionResetError, BrokenPipeError):
            data = b""
        if not data:
            raise Ended
        return data

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise Ended
            data += piece
        return data


def puts(
    directory: Path, kind: str, segment: int, offset: int, most: int = push.MAX_BYTES
) -> Iterator[tuple[push.Put, bool]]:
    """What a node has to say from there on, and whether it is acknowledged."""
    for found in find_segments(directory, kind):
        number, path = found
        if number < segment:
            continue
        with SegmentReader(found) as reader:
            assert reader.read_header()
            ends = [41]
            while batch := reader.batch():
                ends += [framed.offset + len(framed.data) for framed in batch]
        data = path.read_bytes()
        at = offset if number == segment else 0
        while at < ends[-1]:
            fitting = [end for end in ends if at < end <= at + most]
            if fitting:
                yield push.Put(kind, number, at, data[at : fitting[-1]]), True
                at = fitting[-1]
                continue
            end = min(one for one in ends if one > at)  # an entry longer than a PUT
            while at < end:
                size = min(push.MAX_BYTES, end - at)
                yield push.Put(kind, number, at, data[at : at + size]), at + size == end
                at += size


class Collector:
    """One collector. `log` has its lines so far."""

    def __init__(self, directory: Path, listen: str, launcher: Sequence[str] = ()) -> None:
        self.directory: Final = directory
        self.log: list[str] = []
        words = ["audit", "collect", "--listen", listen, "--dir", str(directory)]
        self.process: Final = subprocess.Popen(
            [*launcher, sys.executable, "-c", COMMAND, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._said = threading.Condition()
        self._reader = threading.Thread(target=self._collect)
        self._reader.start()
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else ""
        match = _READY.fullmatch(line)
        if match is None:
            self.kill()
            raise AssertionError(f"it said {line!r} and not READY: {self.log}")
        self.endpoint = match[1], int(match[2])
        self.key = bytes.fromhex(match[3])

    def node(self, key: PrivateKey = NODE) -> Node:
        """A node's connection."""
        found = Node(self.endpoint, key)
        assert found.link.node_key == self.key
        return found

    @property
    def writer(self) -> int:
        """The PID of the process that writes; it is the only child."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        (pid,) = children.read_text().split()
        return int(pid)

    def wait_for(self, text: str, *, times: int = 1) -> None:
        """Returns when so many lines of the log have `text` in them."""
        with self._said:
            found = self._said.wait_for(
                lambda: sum(text in line for line in self.log) >= times, PATIENCE
            )
        assert found, f"it did not log {text!r}: {self.log}"

    def reload(self) -> None:
        """Lets it read the nodes again; returns when it has."""
        with self._said:
            seen = sum(" in authorized_nodes" in line for line in self.log)
        self.process.send_signal(signal.SIGHUP)
        self.wait_for(" in authorized_nodes", times=seen + 1)

    def stop(self) -> None:
        """Ends it as an admin would; it must end well."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(PATIENCE)
        finally:
            self.kill()
        assert status == 0, f"it ended with status {status}: {self.log}"
        assert not any("Traceback" in line for line in self.log), self.log

    def kill(self) -> None:
        """Ends it with -9 and reads what it has said; the process that writes ends with it."""
        self.process.kill()
        self.process.wait()
        self._reader.join()  # its stderr is that of both
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def _collect(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._said:
                self.log.append(line.rstrip("\n"))
                self._said.notify_all()


def authorize(directory: Path, nodes: dict[PrivateKey, str]) -> None:
    """Writes `authorized_nodes` anew."""
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / "authorized_nodes"
    path.write_text("".join(f"{key.public.hex()} {label}\n" for key, label in nodes.items()))
    path.chmod(0o600)


@contextmanager
def collecting(
    directory: Path,
    nodes: dict[PrivateKey, str] | None = None,
    *,
    listen: str = "127.0.0.1:0",
    launcher: Sequence[str] = (),
) -> Iterator[Collector]:
    """A collector that knows NODE as web, or these `nodes`; the end of the block ends it."""
    authorize(directory, {NODE: "web"} if nodes is None else nodes)
    collector = Collector(directory, listen, launcher)
    try:
        yield collector
    except BaseException:
        collector.kill()
        raise
    collector.stop()
