"""asyd's side of the process that reads logs: starts it, asks it, starts it again. It never waits.

Questions are asked one after the other. One that is not answered in time costs that process its
life; those behind it go to its successor. What LOG_DETAIL may ask for is remembered here, so that
it outlives a reader.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
from collections import deque
from pathlib import Path
from typing import Final

from asys.node.children import runner
from asys.node.clock import Clock, Handle
from asys.node.platform.base import NoSuchTarget, SystemFailure, Unsupported
from asys.node.platform.logs import wire as log_wire
from asys.node.platform.logs.logbook import event_id
from asys.node.platform.logs.place import LogPlace
from asys.protocol.status import SW

WORKER: Final = Path(__file__).with_name("worker.py")

PATIENCE: Final = 2.0
"""Seconds that a question waits for its answer."""

START_SECONDS: Final = 20.0
"""Seconds that a reader has to get ready."""

WAITING: Final = 8
"""Questions that wait at a time, the one that is being answered among them."""

REMEMBERED: Final = 4096
"""Events that LOG_DETAIL can be asked for."""

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 10.0
"""Before another reader is started; it doubles as long as none answers anything."""

_log = logging.getLogger("asyd.logs")


class _Question:
    """A question and whoever waits for its answer."""

    def __init__(self, packet: bytes) -> None:
        self.packet = packet
        self.answer: asyncio.Future[log_wire.Answer] = asyncio.get_running_loop().create_future()

    def fail(self, sw: SW, why: str) -> None:
        """There will be no answer."""
        if not self.answer.done():
            self.answer.set_exception(SystemFailure(why, sw))


class LogReader:
    """As base.Logs: answers from a process of its own, from `start` to `close`."""

    def __init__(self, place: LogPlace, clock: Clock, *, program: Path = WORKER) -> None:
        self._place = place
        self._clock = clock
        self._program = program
        self._cursors: dict[bytes, bytes] = {}
        self._waiting: deque[_Question] = deque()
        self._asked: _Question | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._works = False
        self._pause = FIRST_PAUSE
        self._timer: Handle | None = None
        self._closed = False

    @property
    def pids(self) -> tuple[int, ...]:
        """The reader: nobody may touch it, whatever was granted."""
        return (self._process.pid,) if self._process is not None else ()

    @property
    def has_room(self) -> bool:
        """Whether one more question may wait."""
        return len(self._waiting) + (self._asked is not None) < WAITING

    def remembers(self, event: int) -> bool:
        """Whether LOG_SUMMARY has shown this event lately."""
        return event.to_bytes(8, "big") in self._cursors

    async def summary(self, window_s: int, priority: int, wanted: int) -> bytes:
        """The payload of a LOG_SUMMARY. PlatformError."""
        answer = await self._ask(log_wire.summary(window_s, priority, wanted))
        for cursor in answer.cursors:
            event = event_id(cursor)
            self._cursors.pop(event, None)
            self._cursors[event] = cursor
        while len(self._cursors) > REMEMBERED:
            del self._cursors[next(iter(self._cursors))]
        return answer.payload

    async def detail(self, event: int, before: int, after: int) -> bytes:
        """The payload of a LOG_DETAIL. NoSuchTarget: not remembered, or gone; PlatformError."""
        cursor = self._cursors.get(event.to_bytes(8, "big"))
        if cursor is None:
            raise NoSuchTarget("no such event was shown lately")
        return (await self._ask(log_wire.detail(cursor, before, after))).payload

    async def _ask(self, packet: bytes) -> log_wire.Answer:
        if self._closed:
            raise SystemFailure("asyd is ending", SW.NODE_ERROR)
        question = _Question(packet)
        self._waiting.append(question)
        self._send_next()
        late = self._clock.call_later(PATIENCE, lambda: self._late(question))
        try:
            answer = await question.answer
        finally:
            late.cancel()
            if question in self._waiting:
                self._waiting.remove(question)
        if answer.sw == SW.INVALID_PAYLOAD:
            raise NoSuchTarget(answer.reason)
        if answer.sw == SW.NOT_SUPPORTED:
            raise Unsupported(answer.reason)
        if answer.sw != SW.SUCCESS:
            raise SystemFailure(answer.reason, answer.sw)
        return answer

    def start(self) -> None:
        """Starts the reader; what goes wrong is tried again."""
        self._timer = None
        if self._closed:
            return
        if self._process is not None and self._process.poll() is None:
            # Killed, and not gone yet: it waits for a disk. Another one would do so too.
            self._again()
            return
        self._process = None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            ours.setblocking(False)
            # Isolated, and without site-packages: it starts quickly and imports nothing foreign.
            self._process = subprocess.Popen(  # noqa: S603  this package's own program
                [
                    *(*runner(site=False), str(self._program)),
                    *(str(theirs.fileno()), self._place.value),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                cwd="/",
                start_new_session=True,  # an interrupt from the terminal is not for it
            )
        except OSError as error:
            ours.close()
            _log.error("the process that reads the logs cannot be started: %s", error)
            self._again()
            return
        finally:
            theirs.close()
        self._socket = ours
        self._works = False
        self._timer = self._clock.call_later(START_SECONDS, self._end)
        asyncio.get_running_loop().add_reader(ours.fileno(), self._hear)

    async def close(self) -> None:
        """Ends the reader; whoever waits is told. Once is enough."""
        if self._closed:
            return
        self._closed = True
        self._cancel_timer()
        self._end()
        for question in self._waiting:
            question.fail(SW.NODE_ERROR, "asyd is ending")
        if self._process is not None:
            if self._process.poll() is None:
                self._process.returncode = 0  # PID 1 will ask how it ended
            self._process = None

    def _send_next(self) -> None:
        while self._works and self._socket is not None and self._asked is None and self._waiting:
            self._asked = self._waiting.popleft()
            try:
                self._socket.send(self._asked.packet)
            except OSError:  # it has just ended, which `_hear` will see; its successor answers
                self._waiting.appendleft(self._asked)
                self._asked = None
                self._works = False

    def _hear(self) -> None:
        """An answer; nothing is the end of the reader."""
        if self._socket is None:
            return
        try:
            packet = self._socket.recv(log_wire.ANSWER_BYTES)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            _log.error("the process that reads the logs has died; it is started again")
            self._end()
            return
        if not self._works:
            self._works = packet == log_wire.WORKS
            self._cancel_timer()
        elif self._asked is not None:
            self._answered(self._asked, packet)
            self._asked = None
            self._pause = FIRST_PAUSE
        self._send_next()

    def _answered(self, question: _Question, packet: bytes) -> None:
        try:
            answer = log_wire.read_answer(packet)
        except ValueError as error:
            question.fail(SW.NODE_ERROR, f"the process that reads the logs: {error}")
            return
        if not question.answer.done():  # whoever asked may be gone
            question.answer.set_result(answer)

    def _late(self, question: _Question) -> None:
        question.fail(SW.NODE_TIMED_OUT, "the logs could not be read in time")
        if question is self._asked:
            _log.error("the process that reads the logs hangs; another one is started")
            self._end()

    def _end(self) -> None:
        """Lets go of the reader, whatever it does, and has another one started."""
        self._cancel_timer()
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.fail(SW.NODE_ERROR, "the process that reads the logs has died")
        self._works = False
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        if not self._closed:
            self._again()

    def _again(self) -> None:
        self._timer = self._clock.call_later(self._pause, self.start)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
