"""Who may do what, now: the directory of agents, its file, time, and the dark switch.

Whatever changes what an agent holds (a new reading of the file, an agent added or removed, an
expiry, darkness) is in force when the call that says so returns, or first waits; the disk comes
after. `changed` is called each time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from asys.isa.capmap import CORE
from asys.node.agents.book import AgentBook
from asys.node.agents.directory import Delegate, Directory, DirectoryRefusal, Holding
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
    ) -> None:
        """`stored` are the delegates that `store` had at the start.

        Without a `store`, agents that are added last as long as the daemon.
        """
        self._node_key = node_key
        self._directory = Directory(book, stored, node_key=node_key)
        self._clock = clock
        self._store = store
        self._changed = changed
        self._dark = dark
        self._saving = asyncio.Lock()
        self._expiry: Handle | None = None
        self._ends = 0
        self._retry: Handle | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._prune()
        if self._directory.delegates != stored:
            self._save_later()
        self._arm(self._now())

    @property
    def book(self) -> AgentBook:
        """The lines of `authorized_agents`, as last read."""
        return self._directory.book

    @property
    def dark(self) -> bool:
        """Every agent has fallen to `core`."""
        return self._dark

    def holding(self, key: bytes) -> Holding | None:
        """What a key holds; None: nothing."""
        return self._directory.holding(key, self._now())

    def caps(self, holding: Holding) -> int:
        """The capability map that is in force for a holding."""
        return holding.caps & CORE if self._dark else holding.caps

    def listing(self, caller: bytes) -> list[Holding]:
        """As Directory.listing, with the maps that are in force."""
        return self._directory.listing(caller, self._now())

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
            self._apply()
            try:
                await self._write()
            except (OSError, TimeoutError) as error:
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

    def expire(self) -> None:
        """Somebody's time has come: takes out whoever has ended."""
        self._prune()
        self._apply()

    async def close(self) -> None:
        """Ends the timers, and waits for what is being saved: who has gone must not be back."""
        for timer in (self._expiry, self._retry):
            if timer is not None:
                timer.cancel()
        self._expiry = self._retry = None
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

    def _prune(self) -> None:
        self._gone(self._directory.prune(self._now()))

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
        self._directory = Directory(self._directory.book, delegates, node_key=self._node_key)
        self._apply()

    # Time

    def _arm(self, now: int) -> None:
        """Has a timer for what ends next after `now`, and none where nothing does."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._ends = self._directory.next_expiry(now)
        if self._ends:
            wait = max(self._ends - self._clock.time_ns() / _NS, 0.0)
            self._expiry = self._clock.call_later(min(wait, LONGEST_WAIT), self._ring)

    def _ring(self) -> None:
        self._expiry = None
        now = self._now()
        if self._ends <= now:  # the directory does not tell any more what has ended
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
        if self._store is None:
            return
        task = asyncio.get_running_loop().create_task(self._save_in_background())
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
