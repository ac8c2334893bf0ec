"""Who may do what, now: the directory of agents, its file, time, and the dark switch.

Whatever changes what an agent holds (a new reading of the file, an agent added or removed, an
expiry, darkness) is in force when the call that says so returns, or first waits; the disk comes
after. `changed` is called each time. A clock that is set back brings nobody back, and what was
added for some time has no more of it (docs/decisions/0028-clocks.md).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

from asys.isa.capmap import CORE
from asys.node.agents.book import Agent, AgentBook
from asys.node.agents.directory import Delegate, Directory, DirectoryRefusal, Holding
from asys.node.agents.ended import Mark
from asys.node.agents.grant import Charge
from asys.node.clock import Clock, Handle
from asys.node.refusal import Refused

_log = logging.getLogger("asyd.agents")

LONGEST_WAIT: Final = 3600.0
"""Seconds after which an expiry that is further off is looked at again: clocks are set."""

RETRY_SECONDS: Final = 30.0
"""Seconds until a state that could not be saved is tried again."""

LAST_SAVE_SECONDS: Final = 5.0
"""How long the end of the daemon waits for what is being saved."""

_NS: Final = 1_000_000_000


class Store(Protocol):
    """Where delegates are kept."""

    async def save(self, delegates: tuple[Delegate, ...]) -> None:
        """Keeps them, on the disk when this returns. OSError, TimeoutError."""


class Keeper(Protocol):
    """Where it is kept which lines have ended."""

    async def save(self, marks: frozenset[Mark]) -> None:
        """Keeps them, on the disk when this returns. OSError, TimeoutError."""


@dataclass(frozen=True, slots=True)
class Past:
    """The lines that had ended before this start, and where that is kept; without a keeper it is
    known as long as the daemon runs.
    """

    marks: frozenset[Mark] = frozenset()
    keeper: Keeper | None = None


class Authority:
    """What each key holds. Owned by one event loop."""

    def __init__(
        self,
        book: AgentBook,
        stored: tuple[Delegate, ...],
        clock: Clock,
        *,
        node_key: bytes,
        store: Store | None,
        changed: Callable[[], None],
        dark: bool = False,
        past: Past | None = None,
    ) -> None:
        """`stored` are the delegates that `store` had at the start.

        Without a `store`, agents that are added last as long as the daemon.
        """
        self._node_key = node_key
        self._past = past or Past()
        self._kept: frozenset[Mark] | None = self._past.marks
        self._directory = Directory(book, stored, node_key=node_key, ended=self._past.marks)
        self._clock = clock
        self._store = store
        self._changed = changed
        self._dark = dark
        self._saving = asyncio.Lock()
        self._expiry: Handle | None = None
        self._ends = 0
        self._due: dict[bytes, float] = {}
        """When those that were added for some time end at the latest, on the node's clock."""
        self._retry: Handle | None = None
        self._retry_ended: Handle | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._prune()
        if self._directory.delegates != stored:
            self._save_later()
        self._arm(self._now())

    @property
    def book(self) -> AgentBook:
        """The lines of `authorized_agents`, as last read."""
        return self._directory.book

    def set_node_key(self, node_key: bytes) -> None:
        """The node has another key, which nobody can be let in with."""
        if node_key != self._node_key:
            self._node_key = node_key
            self._directory.set_node_key(node_key)

    @property
    def dark(self) -> bool:
        """Every agent has fallen to `core`."""
        return self._dark

    def holding(self, key: bytes) -> Holding | None:
        """What a key holds; None: nothing."""
        now = self._now()
        if 0 < self._ends <= now:  # the clock was set forward: the timer would come too late
            self._ends = 0
            self._ring_in(0.0)
        return self._directory.holding(key, now)

    @property
    def ended_early(self) -> list[Agent]:
        """The lines that have ended though the clock says that they have not: it was set back."""
        now = self._now()
        ended = self._directory.ended
        lines = self._directory.book.agents.values()
        return [one for one in lines if one.expires > now and (one.key, one.expires) in ended]

    def caps(self, holding: Holding) -> int:
        """The capability map that is in force for a holding."""
        return holding.caps & CORE if self._dark else holding.caps

    def listing(self, caller: bytes) -> list[Holding]:
        """As Directory.listing, with the maps that are in force."""
        return self._directory.listing(caller, self._now())

    def known(self) -> list[Holding]:
        """Everybody who holds something: as `listing` for an admin."""
        return self._directory.known(self._now())

    async def add(
        self,
        caller: bytes,
        key: bytes,
        caps: int,
        ttl: int,
        label: str,
        charge: Charge,
    ) -> None:
        """AGENT_ADD. Refused; OSError or TimeoutError of the disk, and then nothing has changed.

        One at a time, so that what is put back is what was there, and not another's addition.
        """
        async with self._saving:
            before = self._directory.delegates
            due = self._due.get(key)
            try:
                self._directory.add(
                    caller,
                    key,
                    caps,
                    ttl,
                    label,
                    self._now(),
                    charge=charge.check,
                    passed=charge.take,
                )
            except DirectoryRefusal as refusal:
                raise Refused(refusal.sw, str(refusal)) from None
            self._set_due(key, self._clock.now() + ttl if ttl else None)
            self._apply()
            try:
                await self._write()
            except (OSError, TimeoutError) as error:
                self._set_due(key, due)
                self._put_back(key, before)
                if isinstance(error, TimeoutError):
                    self._save_later()  # it may still get to the disk, and must not stay there
                raise

    async def remove(self, caller: bytes, key: bytes, charge: Charge) -> None:
        """AGENT_REMOVE: the sessions of all that go are closed before the disk is waited for.

        Refused. OSError or TimeoutError: they are out, but not yet on the disk; that is tried
        again.
        """
        try:
            gone = self._directory.remove(
                caller, key, self._now(), charge=charge.check, passed=charge.take
            )
        except DirectoryRefusal as refusal:
            raise Refused(refusal.sw, str(refusal)) from None
        _log.info("removed %s", ", ".join(one.hex()[:8] for one in gone))
        self._apply()
        try:
            await self._save()
        except (OSError, TimeoutError) as error:
            self._try_again(error)
            raise

    def replace_book(self, book: AgentBook) -> None:
        """Takes over a new reading of `authorized_agents`."""
        gone = self._directory.replace_book(book, self._now())
        self._apply()
        self._gone(gone)

    def set_dark(self, dark: bool) -> None:
        """Lets every agent fall to `core`, or lights up again what the maps say."""
        if dark != self._dark:
            self._dark = dark
            _log.warning("every agent has fallen to core" if dark else "the maps are lit again")
            self._changed()

    def expire(self, seen: int = 0) -> None:
        """Somebody's time has come: takes out whoever has ended.

        `seen` is a Unix second that the clock has shown, should it be set back in this moment.
        """
        self._prune(seen)
        self._apply()

    async def close(self) -> None:
        """Ends the timers, and waits for what is being saved: who has gone must not be back."""
        for timer in (self._expiry, self._retry, self._retry_ended):
            if timer is not None:
                timer.cancel()
        self._expiry = self._retry = self._retry_ended = None
        if self._background:
            await asyncio.wait(self._background, timeout=LAST_SAVE_SECONDS)
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    # Inside

    def _now(self) -> int:
        return self._clock.time_ns() // _NS

    def _apply(self) -> None:
        now = self._now()  # what ends while `changed` runs is to ring at once
        self._changed()
        self._arm(now)

    def _prune(self, seen: int = 0) -> None:
        moment = self._clock.now()
        self._directory.end([key for key, due in self._due.items() if due <= moment])
        self._gone(self._directory.prune(max(self._now(), seen)))

    def _gone(self, keys: tuple[bytes, ...]) -> None:
        if keys:
            _log.info("ended %s", ", ".join(key.hex()[:8] for key in keys))
            self._save_later()

    def _put_back(self, key: bytes, before: tuple[Delegate, ...]) -> None:
        """Undoes an addition that is not on the disk; what else has changed meanwhile stays."""
        earlier = {one.key: one for one in before}
        delegates = []
        for one in self._directory.delegates:
            if one.key != key:
                delegates.append(one)
            elif key in earlier:
                delegates.append(earlier[key])
        self._directory = Directory(
            self._directory.book,
            delegates,
            node_key=self._node_key,
            ended=self._directory.ended,
        )
        self._apply()

    def _set_due(self, key: bytes, due: float | None) -> None:
        if due is None:
            self._due.pop(key, None)
        else:
            self._due[key] = due

    # Time

    def _arm(self, now: int) -> None:
        """Has a timer for what ends next after `now`, and none where nothing does."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._ends = self._directory.next_expiry(now)
        self._keep_ended()
        if self._due:
            there = {one.key for one in self._directory.delegates}
            self._due = {key: due for key, due in self._due.items() if key in there}
        waits = [due - self._clock.now() for due in self._due.values()]
        if self._ends:
            waits.append(self._ends - self._clock.time_ns() / _NS)
        if waits:
            self._ring_in(min(max(min(waits), 0.0), LONGEST_WAIT))

    def _ring_in(self, seconds: float) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = self._clock.call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._expiry = None
        now = self._now()
        over = self._clock.now() >= min(self._due.values(), default=float("inf"))
        if over or self._ends <= now:  # the directory does not tell any more what has ended
            self.expire()
        else:
            self._arm(now)

    # The disk

    async def _save(self) -> None:
        """Saves what holds when the disk is free. One at a time, so that the last word is last."""
        async with self._saving:
            await self._write()

    async def _write(self) -> None:
        if self._store is not None:
            await self._store.save(self._directory.delegates)

    def _save_later(self) -> None:
        """Saves beside what goes on, and again until it has worked."""
        if self._store is not None:
            self._spawn(self._save_in_background())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _save_in_background(self) -> None:
        try:
            await self._save()
        except (OSError, TimeoutError) as error:
            self._try_again(error)

    def _try_again(self, error: OSError | TimeoutError) -> None:
        _log.error(
            "who was removed is out, but not on the disk, and would be back after a restart; "
            "it is tried again in %d s: %s",
            RETRY_SECONDS,
            error,
        )
        if self._retry is not None:
            self._retry.cancel()
        self._retry = self._clock.call_later(RETRY_SECONDS, self._save_later)

    def _keep_ended(self) -> None:
        """Has it written which lines have ended, where that is not on the disk yet."""
        ended = self._directory.ended
        if self._past.keeper is not None and ended != self._kept:
            self._kept = ended
            self._spawn(self._save_ended(self._past.keeper, ended))

    async def _save_ended(self, keeper: Keeper, ended: frozenset[Mark]) -> None:
        try:
            await keeper.save(ended)
        except (OSError, TimeoutError) as error:
            _log.error(
                "which lines have ended is not on the disk: after a restart with a clock that is "
                "set back they would hold again; it is tried again in %d s: %s",
                RETRY_SECONDS,
                error,
            )
            if self._retry_ended is not None:
                self._retry_ended.cancel()
            self._retry_ended = self._clock.call_later(RETRY_SECONDS, self._keep_again)

    def _keep_again(self) -> None:
        self._retry_ended = None
        self._kept = None
        self._keep_ended()
