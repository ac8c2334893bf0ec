"""All sessions of a load: opened, polled, ended in every way, and opened again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from random import Random
from time import monotonic
from typing import Final

from benchmarks.plan import BenchmarkError
from benchmarks.soak.ledger import Ledger
from benchmarks.soak.plan import Plan
from benchmarks.soak.session import Agent, Session, Visitor

AT_ONCE: Final = 64
"""Connections that are on their way in at a time; a node has room for 256 that are unconfirmed."""

QUIET_SECONDS: Final = 20.0
"""From one question of a session that is not polled to its next; a node ends one after 60 s."""

_RETRY_SECONDS: Final = (0.05, 1.0)
"""Before a connection is tried again that ended before its handshake was done: from, to."""

_ONE_IN_RESTLESS: Final = 5
"""How many sessions come and go; the others stay, so soon every place of the former was used."""

_ONE_IN_VISITS: Final = 4
"""How often somebody comes who does not stay, in place of somebody who goes."""


class Place:
    """A session that there is to be, and the one that there is."""

    __slots__ = ("agent", "chance", "due", "every", "session")

    def __init__(self, agent: Agent, chance: Random, every: float) -> None:
        self.agent: Final = agent
        self.chance: Final = chance
        self.every: Final = every
        """Seconds from one poll to the next."""
        self.due = 0.0
        """When the next one is to be; time of the event loop."""
        self.session: Session | None = None


class Crowd:
    """As many sessions as `plan` says, spread over `agents`, with the node at host and port."""

    def __init__(self, host: str, port: int, agents: list[Agent], plan: Plan) -> None:
        self.ledger: Final = Ledger()
        self._where = (host, port)
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        self._chance = Random(plan.seed)  # noqa: S311  it chooses what is done, not a secret
        self._places = [
            Place(
                agents[number % len(agents)],
                Random(f"{plan.seed} {number}"),  # noqa: S311
                1 / plan.hertz if number < plan.polled else QUIET_SECONDS,
            )
            for number in range(plan.sessions)
        ]
        self._restless = self._places[::_ONE_IN_RESTLESS]
        self._door = asyncio.Semaphore(AT_ONCE)
        self._there = 0
        self._coming: set[asyncio.Task[None]] = set()
        self._visitors: set[Visitor] = set()
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self._empty: asyncio.Future[None] = self._loop.create_future()
        self._going = True  # whoever goes is replaced
        self._busy = False  # those that are polled are

    @property
    def there(self) -> int:
        """Sessions that are open."""
        return self._there

    # -- coming

    async def open(self) -> None:
        """Returns when all sessions are open. BenchmarkError when they cannot be."""
        for place in self._places:
            self._come(place)
        await self._all_there()

    async def _all_there(self) -> None:
        while self._coming:
            await asyncio.wait({*self._coming, self._failed}, return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self._failed.result()

    def _come(self, place: Place) -> None:
        task = self._loop.create_task(self._connect(place))
        self._coming.add(task)
        task.add_done_callback(self._came)

    def _came(self, task: asyncio.Task[None]) -> None:
        self._coming.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def _connect(self, place: Place) -> None:
        """Opens the session of a place, however often it takes."""
        end = monotonic() + self._plan.patience
        while monotonic() < end:
            async with self._door:
                session = Session(
                    place.agent, self.ledger, place.chance, partial(self._over, place)
                )
                made = partial(_given, session)
                with contextlib.suppress(OSError):
                    await self._loop.create_connection(made, *self._where)
                    if await session.ready:
                        self._there += 1
                        place.session = session
                        if not place.due:
                            self._begin(place)
                        return
            await asyncio.sleep(place.chance.uniform(*_RETRY_SECONDS))
        raise BenchmarkError(f"no session came about in {self._plan.patience:.0f} s")

    def _over(self, place: Place, session: Session) -> None:
        if place.session is not session:
            return  # it has never been open
        self._there -= 1
        place.session = None
        if self._going:
            self._come(place)
        elif not self._there:
            self._empty.set_result(None)

    # -- polling

    def _begin(self, place: Place) -> None:
        place.due = self._loop.time() + place.chance.uniform(0, place.every)
        self._loop.call_at(place.due, self._tick, place)

    def _tick(self, place: Place) -> None:
        if not self._going:
            return
        ledger = self.ledger
        session = place.session
        if place.every >= QUIET_SECONDS or self._busy:
            if session is None or session.gone:
                pass
            elif session.due:
                ledger.late += 1
            else:
                ledger.polls += 1
                session.poll()
        now = self._loop.time()
        missed = max(int((now - place.due) / place.every), 0)  # this process was late itself
        if self._busy:
            ledger.late += missed
        place.due += (missed + 1) * place.every
        self._loop.call_at(place.due, self._tick, place)

    async def run(self, seconds: float, churn: float) -> None:
        """Polls for so long, and lets so many come and go in a second. BenchmarkError."""
        self._busy = True
        churning = self._loop.create_task(self._churn(churn))
        try:
            await asyncio.wait({self._failed, churning}, timeout=seconds)
        finally:
            self._busy = False
            churning.cancel()
        for done in (self._failed, churning):
            if done.done() and not done.cancelled():
                done.result()

    # -- going

    async def _churn(self, hertz: float) -> None:
        """Somebody goes, in some way, or comes and does not stay; so many times a second."""
        due = self._loop.time()
        while True:
            due = max(due + 1 / hertz, self._loop.time() - 1)
            await asyncio.sleep(due - self._loop.time())
            if len(self._coming) + len(self._visitors) >= AT_ONCE:
                continue  # the node is behind with those who come
            if not self._chance.randrange(_ONE_IN_VISITS):
                await self._visit()
                continue
            session = self._chance.choice(self._restless).session
            if session is not None and not session.gone:
                self._chance.choice(_WAYS)(session)

    async def _visit(self) -> None:
        agent = self._chance.choice(self._places).agent
        visitor = Visitor(agent, self.ledger, self._chance, self._visitors.discard)
        self._visitors.add(visitor)
        try:
            await self._loop.create_connection(lambda: visitor, *self._where)
        except OSError:
            self._visitors.discard(visitor)

    async def leave(self) -> None:
        """Ends all sessions when they have their answers; what has none in time is lost."""
        await self._all_there()
        self._going = False
        for place in self._places:
            if place.session is not None and not place.session.gone:
                place.session.leave()
        if self._there:
            await asyncio.wait((self._empty,), timeout=self._plan.answered_within)
        for place in self._places:
            session = place.session
            if session is not None:
                self.ledger.lost += len(session.due)
                self.ledger.complain(f"{len(session.due)} requests were never answered")
                session.due.clear()
                session.reset("never answered")


def _given(session: Session) -> Session:
    return session


_WAYS: Final[list[Callable[[Session], None]]] = [
    Session.leave,
    Session.reset,
    Session.reset_with_answers_due,
    Session.leave_within_a_record,
    Session.leave_within_a_frame,
]
