"""asyd's side of the process that writes its state: a thread that starts it, hands it what is to be
written, hears what became of it, and starts it again when it has died.

It is a thread and not the event loop's, because nothing here belongs to one loop; it waits for
pipes only, so it never keeps asyd from ending.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import subprocess
import threading
import time
from collections import deque
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from asys.node.children import ended, runner
from asys.node.disk.state_writer import ANSWER_HEAD, Write

WRITER: Final = Path(__file__).with_name("state_writer.py")
"""The program of the child."""

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 10.0
"""Seconds before another child is started; doubled as long as none gets anything done."""

REAP_SECONDS: Final = 1.0
"""How long a child that has let go of its pipes may take to end."""

MOST_COMPLAINT: Final = 1 << 16
"""Bytes of what a child says as it dies that are looked at."""

_log = logging.getLogger("asyd.state")


class Asked:
    """A write that somebody waits for."""

    __slots__ = ("data", "mode", "name", "outcome", "what")

    def __init__(self, path: Path, what: int, mode: int, data: bytes) -> None:
        self.name = os.path.abspath(path)
        self.what = what
        self.mode = mode
        self.data = data
        self.outcome: Future[None] = Future()
        self.outcome.set_running_or_notify_cancel()  # a caller that is cancelled changes nothing

    def done(self, code: int, words: str) -> None:
        """The disk has said how it went."""
        if code:
            self.outcome.set_exception(OSError(code, words, self.name))
        else:
            self.outcome.set_result(None)


class Scribe:
    """The thread and its child. Asked from any thread, and any event loop."""

    def __init__(self) -> None:
        """OSError when there is no pipe or no thread to be had."""
        self._lock = threading.Lock()
        self._queues: dict[str, deque[Asked]] = {}
        self._in_hand: dict[int, Asked] = {}
        """What the child has, by its number; of each path one at most."""
        self._number = 0
        self._closed = False
        self._child: _Child | None = None
        self._sleep, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # No executor: it would be waited for when asyd ends.
        self._thread = threading.Thread(target=self._run, name="asyd-state", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            os.close(self._sleep)
            os.close(self._wake)
            raise OSError(errno.EAGAIN, str(error)) from error

    @property
    def pids(self) -> tuple[int, ...]:
        """The child: nobody may touch it, whatever was granted."""
        child = self._child
        return (child.pid,) if child is not None else ()

    @property
    def idle(self) -> bool:
        """Whether nothing is to be written."""
        with self._lock:
            return not self._queues

    def ask(self, asked: Asked) -> None:
        """Has something written, after what was asked for its path before."""
        with self._lock:
            self._queues.setdefault(asked.name, deque()).append(asked)
        self._nudge()

    def give_up(self, asked: Asked) -> None:
        """Has it not written, unless the child has it."""
        with self._lock:
            queue = self._queues.get(asked.name)
            if queue is not None and asked in queue and asked not in self._in_hand.values():
                queue.remove(asked)
                if not queue:
                    del self._queues[asked.name]

    def close(self) -> None:
        """Ends the thread; the child ends by itself, when it has written what it has whole."""
        self._closed = True
        self._nudge()
        self._thread.join()
        os.close(self._sleep)
        os.close(self._wake)

    def _nudge(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it has not woken up from the last ones
            os.write(self._wake, b"\0")

    # -- in the thread

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._closed:
            try:
                self._child = child = _Child()
            except OSError as error:
                _log.error("the process that writes the state cannot be started: %s", error)
                self._fail(error)
            else:
                if self._serve(child):
                    pause = FIRST_PAUSE
            self._rest(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _serve(self, child: _Child) -> bool:
        """The life of a child; whether it got anything done."""
        answered = False
        try:
            answered = self._talk(child)
        except Exception as error:  # no memory, for one; with another child it begins anew
            _log.error("what is to be written cannot be handed over: %r", error)
        self._child = None
        why = child.end()
        if not self._closed:
            _log.error("the process that writes the state is started again: %s", why)
        self._lost(why)
        return answered

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._closed and (left := until - time.monotonic()) > 0:
            if select.select([self._sleep], [], [], left)[0]:
                self._drain()

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._sleep, 1 << 12):
                pass

    def _talk(self, child: _Child) -> bool:
        """Serves a child until it dies or asyd ends; whether it got anything done."""
        answered = False
        poll = select.poll()
        poll.register(self._sleep, select.POLLIN)
        poll.register(child.answers, select.POLLIN)
        while not self._closed:
            self._hand_over(child)
            if child.unsent:
                poll.register(child.writes, select.POLLOUT)
            ready = {fd for fd, _ in poll.poll()}
            if self._sleep in ready:
                self._drain()
            if child.answers in ready:
                said = child.hear()
                if said is None:
                    break
                answered = answered or bool(said)
                for number, code, words in said:
                    self._done(number, code, words)
            if child.writes in ready and not child.send():
                break
            if not child.unsent:
                with contextlib.suppress(KeyError):
                    poll.unregister(child.writes)
        return answered

    def _hand_over(self, child: _Child) -> None:
        """Gives the child the first write of each path that it does not have one of."""
        with self._lock:
            busy = {one.name for one in self._in_hand.values()}
            for name, queue in self._queues.items():
                if name not in busy:
                    self._number = (self._number + 1) & 0xFFFFFFFF
                    asked = self._in_hand[self._number] = queue[0]
                    write = Write(
                        self._number, asked.what, asked.mode, os.fsencode(name), asked.data
                    )
                    child.unsent.append(memoryview(write.pack()))

    def _done(self, number: int, code: int, words: str) -> None:
        with self._lock:
            asked = self._in_hand.pop(number, None)
            if asked is None:
                return
            self._strike(asked)
        asked.done(code, words)

    def _strike(self, asked: Asked) -> None:
        queue = self._queues[asked.name]
        queue.popleft()
        if not queue:
            del self._queues[asked.name]

    def _lost(self, why: str) -> None:
        """The child has died: what it had may be on the disk or not."""
        for number in list(self._in_hand):
            self._done(number, errno.EIO, why)

    def _fail(self, error: OSError) -> None:
        """There is no child, so nobody is left to wait for one."""
        with self._lock:
            waiting = [asked for queue in self._queues.values() for asked in queue]
            self._queues.clear()
        for asked in waiting:
            asked.outcome.set_exception(error)


class _Child:
    """The process, and the pipes to it."""

    def __init__(self) -> None:
        """OSError when it cannot be started."""
        # Isolated, and without site-packages: it starts quickly and imports nothing foreign.
        self._process = subprocess.Popen(  # noqa: S603  this package's own program
            [*runner(site=False), str(WRITER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            start_new_session=True,  # an interrupt from the terminal is not for it
        )
        if not (self._process.stdin and self._process.stdout and self._process.stderr):
            raise OSError(errno.EPIPE, "no pipes")
        self.pid = self._process.pid
        self.writes = self._process.stdin.fileno()
        self.answers = self._process.stdout.fileno()
        self._complaints = self._process.stderr.fileno()
        for fd in (self.writes, self.answers, self._complaints):
            os.set_blocking(fd, False)
        self.unsent: deque[memoryview] = deque()
        self._heard = b""

    def send(self) -> bool:
        """Sends what the pipe takes. False: nobody is there any more."""
        try:
            while self.unsent:
                part = self.unsent.popleft()
                try:
                    sent = os.write(self.writes, part)
                except BlockingIOError:
                    self.unsent.appendleft(part)
                    return True
                if sent < len(part):
                    self.unsent.appendleft(part[sent:])
        except OSError:
            return False
        return True

    def hear(self) -> list[tuple[int, int, str]] | None:
        """Number, errno and words of the answers that have come. None: the child has gone."""
        try:
            some = os.read(self.answers, 1 << 16)
        except OSError:
            some = b""
        if not some:
            return None
        heard = self._heard + some
        found = []
        while len(heard) >= ANSWER_HEAD.size:
            number, code, size = ANSWER_HEAD.unpack_from(heard)
            end = ANSWER_HEAD.size + size
            if len(heard) < end:
                break
            found.append((number, code, heard[ANSWER_HEAD.size : end].decode("utf-8", "replace")))
            heard = heard[end:]
        self._heard = heard
        return found

    def end(self) -> str:
        """Lets go of it, and says how it ended if it has."""
        complaint = b""
        with contextlib.suppress(OSError):
            complaint = os.read(self._complaints, MOST_COMPLAINT)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        last = complaint.decode("utf-8", "replace").strip().rpartition("\n")[2]
        what = f"its writer ended with {self._reap()} and no answer"
        return f"{what}: {last}" if last else what

    def _reap(self) -> int | None:
        """How it ended; None where it waits for a disk, and PID 1 will ask."""
        return ended(self._process, REAP_SECONDS)
