"""One vendor on the node: its worker, the requests in work, and what becomes of both.

asyd waits for nothing here: a worker that crashes, hangs, lies or does not start costs the requests
that it had, and is started anew, later and later where it does not get anything done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from asys.node.logs import clean
from asys.node.platform.base import PlatformError
from asys.node.vendor.launch import Launcher, LaunchError, Running
from asys.node.vendor.link import WorkerLink
from asys.protocol.status import SW
from asys.vendor.definition import MAX_REPLY
from asys.vendor.handlers import REFUSALS
from asys.vendor.wire import Described, Description, WireError, pack_request

if TYPE_CHECKING:
    from asys.node.clock import Clock, Handle
    from asys.node.vendor.enabled import Enabled

IN_WORK: Final = 4
"""Requests of one vendor that are in work at a time; the next is answered 6400."""

REQUEST_SECONDS: Final = 5.0
"""How long a request may take, from the moment it is accepted; then 6F04."""

START_SECONDS: Final = 10.0
"""How long a worker may take until it says who it is."""

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 10.0
"""Before a worker is started again; doubled as long as none of them answers anything."""

_FROM_WORKER: Final = REFUSALS | {SW.WRONG_LENGTH}
"""What a worker may answer beside success: what handlers refuse with, and its own check of P1, P2
and body."""

_Answer: TypeAlias = "tuple[SW, bytes]"

_log = logging.getLogger("asyd.vendor")


@dataclass(slots=True)
class _Request:
    """One that is in work. `sent` tells whether a worker has it."""

    instruction: Described
    message: bytes
    answer: asyncio.Future[_Answer]
    deadline: Handle
    sent: bool = False


class Pool:
    """A vendor that is enabled, from `start` to `close`. Owned by one event loop."""

    def __init__(
        self,
        enabled: Enabled,
        launcher: Launcher,
        clock: Clock,
        described: Callable[[Pool, Description], str],
    ) -> None:
        """`described` is called when a worker first says what the vendor has; it says why the
        vendor cannot be here all the same, or ''.
        """
        self.enabled = enabled
        self.description: Description | None = None
        """What the vendor is; None until a worker has said so."""

        self._instructions: dict[int, Described] = {}
        self._launcher = launcher
        self._clock = clock
        self._described = described
        self._requests: dict[int, _Request] = {}
        self._number = 0
        self._link: WorkerLink | None = None
        self._running: Running | None = None
        self._ready = False
        self._starting: Handle | None = None
        self._paused = False
        self._pause = FIRST_PAUSE
        self._hung_up: asyncio.Future[str] | None = None
        self._task: asyncio.Task[None] | None = None
        self._unsettled: Handle | None = None
        self.starts = 0
        """Workers that have been started."""
        self.settled = asyncio.Event()
        """The first worker has said who it is, has failed, or has had its time."""

    @property
    def pids(self) -> tuple[int, ...]:
        """Processes that no agent may touch."""
        return self._running.pids if self._running is not None else ()

    @property
    def ready(self) -> bool:
        """Whether there is a worker that has said who it is."""
        return self._ready

    @property
    def in_work(self) -> int:
        """Requests in work, of IN_WORK at most."""
        return len(self._requests)

    def start(self) -> None:
        """Starts the worker, and keeps one running from now on."""
        self._unsettled = self._clock.call_later(START_SECONDS, self._settle)
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        """Ends the worker. Requests in work are answered 6F00."""
        self._settle()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    # -- requests

    @property
    def codes(self) -> Collection[int]:
        """The codes that the vendor has, once a worker has said so."""
        return self._instructions

    def get(self, code: int) -> Described | None:
        """The vendor's instruction with that code."""
        return self._instructions.get(code)

    def busy(self) -> str:
        """Why a request cannot be taken now, or ''."""
        if self._paused:
            return "its worker has ended, and no other is started yet"
        return f"{IN_WORK} requests are in work" if len(self._requests) >= IN_WORK else ""

    def ask(self, code: int, p1: int, p2: int, body: bytes) -> Coroutine[Any, Any, _Answer]:
        """Has an instruction done that `get` knows; a status word, and the reply of success.

        It is in work from now on, and answered in REQUEST_SECONDS, whatever the worker does.
        """
        self._number = number = self._number % 0xFFFF_FFFF + 1
        request = _Request(
            self._instructions[code],
            pack_request(number, code, p1, p2, body),
            asyncio.get_running_loop().create_future(),
            self._clock.call_later(REQUEST_SECONDS, lambda: self._late(number)),
        )
        self._requests[number] = request
        self._send()
        return _await(request)

    def _send(self) -> None:
        if self._ready and self._link is not None:
            for request in self._requests.values():
                if not request.sent:
                    request.sent = True
                    self._link.send(request.message)

    def _late(self, number: int) -> None:
        request = self._requests.pop(number)
        _give(request, SW.NODE_TIMED_OUT)
        if request.sent and self._link is not None:
            name = request.instruction.name
            self._paused = True
            self._link.hang_up(f"{name} was not done within {REQUEST_SECONDS:g} s")

    # -- what the worker says

    def greeted(self, description: Description) -> None:
        """As Hears.greeted."""
        if description.domain != self.enabled.domain:
            raise WireError(f"it says that it is {description.domain}")
        if self.description is None:
            refusal = self._described(self, description)
            if refusal and self._link is not None:
                self._link.hang_up(refusal)
                return
            self.description = description
            self._instructions = {one.code: one for one in description.instructions}
        elif description != self.description:
            raise WireError("it has other instructions than at first; restart asyd to take them")
        self._ready = True
        if self._starting is not None:
            self._starting.cancel()
        self._settle()
        _log.info(
            "%s works, id %08X, with %s",
            description.domain,
            description.id,
            clean(" ".join(f"{one.code:02X} {one.name}" for one in description.instructions), 400),
        )
        self._send()

    def answered(self, number: int, sw: int, note: str, reply: bytes) -> None:
        """As Hears.answered."""
        request = self._requests.get(number)
        if request is None or not request.sent:
            raise WireError("an answer to nothing that was asked")
        del self._requests[number]
        instruction = request.instruction
        try:
            if sw != SW.SUCCESS and (sw not in _FROM_WORKER or reply):
                raise WireError(f"{instruction.name} is answered {sw:04X} with {len(reply)} bytes")
            exact, size = instruction.reply_exact, instruction.reply_size
            if sw == SW.SUCCESS and not (
                len(reply) == size if exact else size <= len(reply) <= MAX_REPLY
            ):
                raise WireError(f"the reply of {instruction.name} has {len(reply)} bytes")
        except WireError:
            _give(request, SW.NODE_ERROR)
            raise
        self._pause = FIRST_PAUSE
        if note:
            _log.info(
                "%s %04X %s: %s", self.enabled.domain, sw, instruction.name, clean(note, 2000)
            )
        _give(request, SW(sw), reply)

    def hung_up(self, why: str) -> None:
        """As Hears.hung_up."""
        self._link = None
        self._ready = False
        self._paused = True
        if self._hung_up is not None and not self._hung_up.done():
            self._hung_up.set_result(why)

    # -- the worker's life

    async def _keep(self) -> None:
        """Starts a worker, and another when it has ended, for ever."""
        try:
            while True:
                why, memory = await self._live()
                self._settle()
                self._paused = True
                self._fail(SW.NODE_OUT_OF_MEMORY if memory else SW.NODE_ERROR)
                why = why or ("it was killed as memory ran out" if memory else "it ended")
                _log.log(
                    # Agents can bring a worker down that works.
                    logging.ERROR if self.description is None else logging.WARNING,
                    "the worker of %s: %s; it is started again in %g s",
                    self.enabled.domain,
                    clean(why, 2000),
                    self._pause,
                )
                await self._sleep(self._pause)
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
                self._paused = False
        finally:
            self._paused = True
            self._fail(SW.NODE_ERROR)

    async def _live(self) -> tuple[str, bool]:
        """One worker from its start to its end: why it ended, and whether memory ran out."""
        try:
            running = await self._launcher.launch(self.enabled)
        except (LaunchError, PlatformError) as error:
            return str(error), False
        self._running = running
        self.starts += 1
        loop = asyncio.get_running_loop()
        self._hung_up = loop.create_future()
        memory = False
        try:
            link = self._link = WorkerLink(self)
            await loop.create_connection(lambda: link, sock=running.socket)
            self._starting = self._clock.call_later(START_SECONDS, self._overdue)
            why = await self._hung_up
        finally:
            if self._starting is not None:
                self._starting.cancel()
            if self._link is not None:
                self._link.hang_up("asyd ends")
            memory = await running.end()
            self._running = None
        return why, memory

    def _settle(self) -> None:
        self.settled.set()
        if self._unsettled is not None:
            self._unsettled.cancel()
            self._unsettled = None

    def _overdue(self) -> None:
        if self._link is not None:
            self._link.hang_up(f"it did not say who it is within {START_SECONDS:g} s")

    async def _sleep(self, seconds: float) -> None:
        over = asyncio.Event()
        timer = self._clock.call_later(seconds, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()

    def _fail(self, sw: SW) -> None:
        """Answers every request that is in work; what no worker has seen may be sent again."""
        for request in self._requests.values():
            _give(request, sw if request.sent else SW.BLOCKED)
        self._requests.clear()


async def _await(request: _Request) -> _Answer:
    return await request.answer


def _give(request: _Request, sw: SW, reply: bytes = b"") -> None:
    request.deadline.cancel()
    if not request.answer.done():
        request.answer.set_result((sw, reply))
