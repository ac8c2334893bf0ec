"""The process of a collector that writes: a thread for each node. Started by `keeper`.

disk.py FD DIR DEBUG

It starts as a file and finds this very version of `asys`. It ends when the process that listens has
ended. What was not acknowledged by then does not count. While it lives it holds DIR/lock locked, so
that no second one writes there: not even when the first can end only after its disk has answered.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__" and not __spec__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import errno
import fcntl
import logging
import os
import queue
import signal
import socket
import threading
import time
from typing import Final

from asys.audit.collector.directory import CollectorDir
from asys.audit.collector.frames import FrameReader, Message, What
from asys.audit.collector.nodes import LOCK_FILE
from asys.audit.collector.pushed import Pushed
from asys.audit.push import Reason, Refused
from asys.audit.segments import AUDIT
from asys.node.disk.files import ConfigError
from asys.node.logs import set_up

_log = logging.getLogger("asys.collector")

LOCK_SECONDS: Final = 5.0
"""How long a process before this one has to be gone."""

TOGETHER: Final = 64
"""Messages of a node that are answered, and synced, at once."""

_CHUNK: Final = 256 << 10
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)


class Line:
    """The way back to the process that listens; any thread may say something."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lock = threading.Lock()

    def say(self, *messages: Message) -> None:
        """Sends frames; when nobody listens any more, this process is about to end."""
        data = b"".join(message.pack() for message in messages)
        with self._lock:
            try:
                self._control.sendall(data)
            except OSError:
                os._exit(0)


class NodeThread(threading.Thread):
    """The only one that touches what a node has here."""

    def __init__(self, directory: Path, line: Line) -> None:
        super().__init__(name=f"node-{directory.name}", daemon=True)
        self.queue: Final = queue.SimpleQueue[Message]()
        self._pushed = Pushed(directory)
        self._line = line
        self._connection = 0

    def run(self) -> None:
        """Takes what comes, as much at once as there is."""
        while True:
            messages = [self.queue.get()]
            while len(messages) < TOGETHER and not self.queue.empty():
                messages.append(self.queue.get())
            self._handle(messages)

    def _handle(self, messages: list[Message]) -> None:
        asked: list[Message] = []
        for message in messages:
            if message.what == What.MESSAGE:
                asked.append(message)
                continue
            self._answer(asked)
            asked = []
            if message.what == What.HELLO:
                self._connection = message.connection
                self._pushed.connect()
            elif message.connection == self._connection:
                self._connection = 0
                self._pushed.close()
        self._answer(asked)

    def _answer(self, asked: list[Message]) -> None:
        # Those of a connection whose place another one has taken are passed over.
        current = [one for one in asked if one.connection == self._connection]
        if not current:
            return
        try:
            answers = self._pushed.answer([one.body for one in current])
        except Exception:
            _log.exception("%s: what was pushed cannot be dealt with", self._pushed.label)
            answers = [Refused(AUDIT, Reason.DISK).pack()] + [b""] * (len(current) - 1)
        self._line.say(
            *(
                Message(one.connection, What.MESSAGE, answer)
                for one, answer in zip(current, answers, strict=True)
            )
        )


class Disk:
    """Hands out what the process that listens says."""

    def __init__(self, root: Path, line: Line) -> None:
        self._root = root
        self._line = line
        self._threads: dict[str, NodeThread] = {}
        self._of: dict[int, NodeThread] = {}

    def take(self, message: Message) -> None:
        """Never waits for the disk."""
        if message.what == What.NODES:
            threading.Thread(target=self._read_nodes, name="nodes", daemon=True).start()
            return
        if message.what == What.HELLO:
            label = message.body.decode()
            if label not in self._threads:
                self._threads[label] = NodeThread(self._root / label, self._line)
                self._threads[label].start()
            self._of[message.connection] = self._threads[label]
        thread = self._of.get(message.connection)
        if thread is not None:  # None: it came in before this process began
            thread.queue.put(message)
        if message.what == What.GONE:
            self._of.pop(message.connection, None)

    def _read_nodes(self) -> None:
        try:
            found = Message(0, What.NODES, CollectorDir(self._root).read_nodes())
        except ConfigError as error:
            found = Message(0, What.NO_NODES, str(error).encode())
        self._line.say(found)


def lock(root: Path, patience: float = LOCK_SECONDS) -> int:
    """Keeps all others out of the directory, as long as this descriptor is open. ConfigError."""
    path = root / LOCK_FILE
    until = time.monotonic() + patience
    try:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # O_CREAT would wait for a hung disk
        except FileNotFoundError:
            fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK or time.monotonic() > until:
                os.close(fd)
                if error.errno != errno.EWOULDBLOCK:
                    raise ConfigError(f"{path}: {error.strerror}") from error
                raise ConfigError(
                    f"another collector works in {root}, or one that was ended still waits for a "
                    f"disk that hangs; `fuser {path}` names it"
                ) from None
            time.sleep(0.05)  # a lock of another process cannot be waited for with a deadline
        else:
            return fd


def main() -> None:
    """Serves until the other end of FD is closed."""
    fd, directory, debug = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "1"
    for number in _IGNORED:  # it ends with the one that listens
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    set_up(debug=debug)
    with socket.socket(fileno=fd) as control:
        line = Line(control)
        try:
            lock(directory)
        except ConfigError as error:
            line.say(Message(0, What.FAILED, str(error).encode()))
            os._exit(1)
        line.say(Message(0, What.READY, b""))
        disk, reader = Disk(directory, line), FrameReader()
        while data := _receive(control):
            for message in reader.feed(data):
                disk.take(message)
    # Not sys.exit: a thread may wait for the disk, and nothing waits for it.
    os._exit(0)


def _receive(control: socket.socket) -> bytes:
    try:
        return control.recv(_CHUNK)
    except ConnectionResetError:  # it was ended with something unread
        return b""


if __name__ == "__main__":
    main()
