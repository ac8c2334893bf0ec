"""The book of what asyd has stopped (docs/protocol.md, section 7.2): nothing is forgotten.

It outlasts asyd in `throttled.json`, written beside the event loop. Whoever may continue a process
takes it out of the book. What somebody has continued without asyd is noticed when one looks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from asys.node.admin.held import EVERYTHING, HeldInfo
from asys.node.alarm import Alarm
from asys.node.clock import Clock
from asys.node.held.beside import beside
from asys.node.held.throttled_store import Entry, Scribe, Store
from asys.node.platform.base import (
    NoSuchTarget,
    Platform,
    PlatformError,
    ProcessHandle,
    Throttler,
)
from asys.node.platform.processes.signals import SIGNAL

T = TypeVar("T")

SETTLING: Final = 2
"""Seconds after a stop for which nobody doubts it: threads stop one after the other."""

SPARE: Final = 64
"""Entries beyond twice those that were found in force last: then all are looked at again."""

CLOSING_SECONDS: Final = 2.0
"""How long asyd waits at its end for what is under way."""

_log = logging.getLogger("asyd.throttled")
_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Throttling:
    """How a node stops processes, and what it keeps of it: the arguments of a ThrottleBook."""

    how: str = SIGNAL
    lease: float = 0.0
    store: Store | None = None
    entries: tuple[Entry, ...] = ()


class ThrottleBook:
    """What asyd has stopped. Owned by one event loop."""

    def __init__(
        self,
        platform: Platform,
        clock: Clock,
        options: Throttling | None = None,
        *,
        connected: Callable[[bytes], bool] = lambda key: False,
    ) -> None:
        """`connected` tells whether the agent with a key has a session.

        `lease`: seconds for which an agent may have none before what it has stopped goes on; 0: for
        ever. `entries` are from before a restart: no agent has had a session since.
        """
        options = options or Throttling()
        entries = options.entries
        self._throttler: Throttler = platform.throttler(options.how)
        self._process = platform.process
        self._clock = clock
        self._connected = connected
        self._lease = options.lease
        self._entries = {one.pid: one for one in entries}
        self._stopped: dict[int, float] = {}
        """When asyd itself stopped a process last, on the node's clock."""
        self._left: dict[str, float] = {}
        self._alarm = Alarm(clock)
        self._turn = asyncio.Lock()
        self._work: set[asyncio.Task[Any]] = set()
        self._scribe = Scribe(options.store, clock, lambda: self.entries)
        self._room = 2 * len(entries) + SPARE
        for one in entries:
            self._await_lease(one.key, clock.now())

    @property
    def how(self) -> str:
        """The way in which processes are stopped, as Throttler.how."""
        return self._throttler.how

    @property
    def lack(self) -> str:
        """Why none can be stopped in this way here, or ''."""
        return self._throttler.lack

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All that the book has."""
        return tuple(self._entries.values())

    # -- what agents do

    def stop(
        self,
        process: ProcessHandle,
        key: bytes,
        label: str,
        users: Collection[int] | None = None,
    ) -> Coroutine[Any, Any, None] | None:
        """Stops a process for an agent, and closes the handle; idempotent.

        `users`: whose processes the agent may touch, None: everybody's. It is done when there is no
        coroutine, else when that ends. PlatformError from either.
        """
        if not self._throttler.quick or self._otherwise(process) is not None:
            return self._finished(self._stop(process, key, label, users))
        try:  # not closing(): an agent waits
            place = self._throttler.stop(process)
            self._enter(process, key, label, place)
        finally:
            process.close()
        return None

    def resume(self, process: ProcessHandle) -> Coroutine[Any, Any, None] | None:
        """Lets a process go on, whoever stopped it, and closes the handle; as with `stop`."""
        if not self._throttler.quick or self._otherwise(process) is not None:
            return self._finished(self._resume(process))
        try:
            self._throttler.release(process, self.how, "")
            self._strike(process)
        finally:
            process.close()
        return None

    def left(self, key: bytes) -> None:
        """An agent's last session has ended."""
        if self._lease and self._entries:
            self._await_lease(key.hex(), self._clock.now())

    def _otherwise(self, process: ProcessHandle) -> Entry | None:
        """The entry of a process that was stopped in another way than processes are now."""
        entry = self._entries.get(process.pid)
        if entry is None or entry.start != process.start or entry.how == self.how:
            return None
        return entry

    async def _stop(
        self, process: ProcessHandle, key: bytes, label: str, users: Collection[int] | None
    ) -> None:
        with closing(process):
            throttler = self._throttler
            async with self._turn:
                entry = self._otherwise(process)
                if entry is not None and await self._beside(
                    partial(throttler.is_held, process, entry.how, entry.place)
                ):
                    self._enter(process, key, label, entry.place, entry.how)
                    return
                place = await self._beside(partial(throttler.stop, process, users))
                self._enter(process, key, label, place)

    async def _resume(self, process: ProcessHandle) -> None:
        with closing(process):
            async with self._turn:
                how, place = self.how, ""
                entry = self._entries.get(process.pid)
                if entry is not None and entry.start == process.start:
                    how, place = entry.how, entry.place
                await self._beside(partial(self._throttler.release, process, how, place))
                self._strike(process)

    async def _finished(self, work: Coroutine[Any, Any, None]) -> None:
        """Waits for work that goes on to its end also where nobody waits for it any more."""
        await asyncio.shield(self._spawn(work))

    async def _beside(self, work: Callable[[], T]) -> T:
        return await beside(work)

    # -- the book

    def _enter(
        self, process: ProcessHandle, key: bytes, label: str, place: str, how: str = ""
    ) -> None:
        before = self._entries.get(process.pid)
        self._stopped[process.pid] = self._clock.now()
        since = self._clock.time_ns() // _NS
        if before is not None and before.start == process.start:
            since = before.since
        name = process.name.decode("utf-8", "replace")
        how = how or self.how
        entry = Entry(process.pid, process.start, name, key.hex(), label, since, how, place)
        if entry == before:
            return
        self._entries[process.pid] = entry
        self._scribe.changed()
        if self._lease and not self._connected(key):  # it has left before this was done
            self._await_lease(entry.key, self._clock.now())
        if len(self._entries) > self._room:
            self._room = 2 * len(self._entries)  # not once more before this look is over
            self._spawn(self.look())

    def _strike(self, process: ProcessHandle) -> None:
        entry = self._entries.get(process.pid)
        if entry is not None and entry.start == process.start:
            self._remove(entry)

    def _drop(self, entry: Entry) -> bool:
        """Takes an entry out, unless another one has its place by now."""
        if self._entries.get(entry.pid) != entry:
            return False
        self._remove(entry)
        return True

    def _remove(self, entry: Entry) -> None:
        del self._entries[entry.pid]
        self._stopped.pop(entry.pid, None)
        self._scribe.changed()

    # -- what an admin sees and does

    async def look(self) -> None:
        """Drops what is not held any more: its process has ended, or somebody continued it.

        What cannot be looked at stays. In steps: agents get their turn in between.
        """
        for entry in self.entries:
            await asyncio.sleep(0)
            try:
                why = await self._doubted(entry)
            except PlatformError as error:
                _log.info("it cannot be told whether %s is held: %s", _named(entry), error)
                continue
            if why and self._drop(entry):
                _log.info("%s is not held any more: %s", _named(entry), why)
        self._room = 2 * len(self._entries) + SPARE

    def listed(self) -> list[HeldInfo]:
        """As Held.listed; as it was when one looked last."""
        return [
            HeldInfo(
                pid=one.pid,
                name=one.name,
                how=one.how,
                agent=one.label or one.key[:8],
                since=one.since,
                until=self._until(one),
            )
            for one in self.entries
        ]

    async def release(self, pid: int) -> int:
        """As Held.release."""
        wanted = [one for one in self.entries if pid in (EVERYTHING, one.pid)]
        failures: list[PlatformError] = []
        for entry in wanted:
            try:
                await self._finished(self._release(entry, "an admin let it go"))
            except PlatformError as error:
                failures.append(error)
        if failures:
            raise failures[0]
        return len(wanted)

    async def _release(self, entry: Entry, why: str) -> None:
        """Lets the process of an entry go on. PlatformError: the entry stays."""
        async with self._turn:
            process = self._open(entry)
            try:
                work = partial(self._throttler.release, process, entry.how, entry.place)
                if self._throttler.quick and entry.how == self.how:
                    work()  # so that no stop comes in between
                else:
                    await self._beside(work)
            except NoSuchTarget:
                pass  # it has ended just now
            finally:
                if process is not None:
                    process.close()
            if self._drop(entry):
                _log.warning("%s goes on: %s", _named(entry), why)

    async def _doubted(self, entry: Entry) -> str:
        """As `_doubt`, beside the event loop where that takes longer."""
        if entry.how == SIGNAL:
            return self._doubt(entry)
        return await self._beside(partial(self._doubt, entry))

    def _doubt(self, entry: Entry) -> str:
        """Why a process is not held any more, or ''. PlatformError when that cannot be told."""
        process = self._open(entry)
        try:
            if self._throttler.is_held(process, entry.how, entry.place):
                return ""
            if process is None or process.zombie:
                return "it has ended"
            stopped = self._stopped.get(entry.pid, float("-inf"))
            settling = self._clock.now() - stopped < SETTLING
            return "" if settling else "somebody else let it go on"
        except NoSuchTarget:
            return "it has ended"
        finally:
            if process is not None:
                process.close()

    def _open(self, entry: Entry) -> ProcessHandle | None:
        """The process of an entry, if it lives. PlatformError when that cannot be told."""
        try:
            process = self._process(entry.pid)
        except NoSuchTarget:
            return None
        if process.start == entry.start:
            return process
        process.close()
        return None

    # -- the lease

    def _await_lease(self, key: str, now: float) -> None:
        if self._lease:
            self._left[key] = now
            self._alarm.set(now + self._lease, self._ring)

    def _due(self, entry: Entry) -> float | None:
        """When a process goes on by itself, on the node's clock; None: not as things are now."""
        if not self._lease or self._connected(bytes.fromhex(entry.key)):
            return None
        left = self._left.get(entry.key)
        return None if left is None else left + self._lease

    def _until(self, entry: Entry) -> int:
        due = self._due(entry)
        if due is None:
            return 0
        return round(self._clock.time_ns() / _NS + due - self._clock.now())

    def _ring(self) -> None:
        """Continues what is due; what is not yet is waited for."""
        now = self._clock.now()
        keys = {one.key for one in self._entries.values()}
        self._left = {key: left for key, left in self._left.items() if key in keys}
        later = []
        lapsed = set()
        for entry in self.entries:
            due = self._due(entry)
            if due is None:
                continue
            if due > now:
                later.append(due)
            else:
                lapsed.add(entry.key)
                self._spawn(self._lapse(entry))
        for key in lapsed:  # what cannot be let go now is tried again after as long
            self._left[key] = now
            later.append(now + self._lease)
        if later:
            self._alarm.set(min(later), self._ring)

    async def _lapse(self, entry: Entry) -> None:
        try:
            if await self._doubted(entry):
                self._drop(entry)
            else:
                why = f"{entry.label or entry.key[:8]} has had no session for {self._lease:g} s"
                await self._release(entry, why)
        except PlatformError as error:
            _log.error("%s cannot be let go: %s", _named(entry), error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    async def close(self) -> None:
        """Waits for what is under way and writes the book; what is stopped stays so."""
        self._alarm.stop()
        if self._work:
            await asyncio.wait(tuple(self._work), timeout=CLOSING_SECONDS)
        await self._scribe.close()


def _named(entry: Entry) -> str:
    """A process in the log: what it is called is anybody's text."""
    return f"process {entry.pid} ({entry.name!r})"
