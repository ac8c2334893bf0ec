"""The book of what is cut off the network (docs/protocol.md, section 7.15): who had it done, and
for how long.

What holds is in the kernel, and outlasts asyd there; `isolations.json`, written beside the event
loop, tells whose it is. An isolation that stands without an entry is nobody's that is known: only
an admin releases it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from asys.node.admin.held import EVERYTHING, HeldInfo
from asys.node.alarm import Alarm
from asys.node.clock import Clock, LoopClock
from asys.node.held.beside import beside
from asys.node.held.isolations_store import Entry, IsolationsStore
from asys.node.platform import choose_platform
from asys.node.platform.base import (
    Isolator,
    NotPermitted,
    Platform,
    PlatformError,
    ProcessHandle,
    SystemFailure,
    Unsupported,
)
from asys.node.platform.machine import boot_id
from asys.protocol.status import SW

T = TypeVar("T")

MAX_ISOLATIONS: Final = 256
"""Isolations in force at a time; each costs the kernel a cgroup, a map and seven links."""

SAVE_AGAIN: Final = 10.0
"""Seconds after which it is tried again to write, when the disk would not have it; and to release
what could not be released when its time had passed."""

CLOSING_SECONDS: Final = 2.0
"""How long asyd waits at its end for what is under way."""

UNKNOWN: Final = "unknown"
"""The agent of an isolation that has no entry."""

_log = logging.getLogger("asyd.isolations")
_NS: Final = 1_000_000_000

_Key = tuple[int, int]
"""PID and start: names one process for ever."""

MayUndo = Callable[[bytes], bool]
"""Whether an agent may release what the agent with that key had isolated."""


class Store(Protocol):
    """Where the book outlasts asyd."""

    async def save(self, entries: tuple[Entry, ...]) -> None:
        """Writes it, on the disk when this returns. OSError, TimeoutError."""


class Isolations:
    """What is cut off the network on this node. Owned by one event loop."""

    def __init__(
        self,
        isolator: Isolator,
        clock: Clock,
        *,
        store: Store | None = None,
        entries: tuple[Entry, ...] = (),
    ) -> None:
        """`entries` are from before a restart; what they are worth, `recover` finds out."""
        self._isolator = isolator
        self._clock = clock
        self._store = store
        self._entries: dict[_Key, Entry] = {(one.pid, one.start): one for one in entries}
        self._due: dict[_Key, float] = {}
        self._alarm = Alarm(clock)
        self._turn = asyncio.Lock()
        self._work: set[asyncio.Task[Any]] = set()
        self._saved = entries
        self._saving = False
        self.lack = isolator.lack
        """Why nothing can be isolated here, or ''."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All that stand."""
        return tuple(self._entries.values())

    async def recover(self) -> None:
        """Finds what stands from before a restart, and goes on with it.

        What asyd was about to make or take away when it was killed is undone. The time that an
        isolation has left is told by the monotonic clock, which goes on while asyd does not run.
        """
        if self.lack:
            return
        try:
            standing = await self._beside(self._isolator.recover)
        except PlatformError as error:
            self.lack = f"what is isolated is not known: {error}"
            _log.error("%s", self.lack)
            return
        before, self._entries = self._entries, {}
        wall = self._clock.time_ns() / _NS
        for one in standing:
            key = (one.pid, one.start)
            entry = before.get(key)
            if entry is None:
                name = await self._beside(partial(self._isolator.name, one.pid, one.start))
                entry = Entry(one.pid, one.start, name, "", "", int(wall), 0, one.keep_loopback)
                _log.warning("process %d is isolated, and it is not known for whom", one.pid)
            self._entries[key] = entry
            if entry.ttl_s:
                passed = self._clock.now() - entry.made if entry.made else wall - entry.since
                self._arm(key, min(max(0.0, entry.ttl_s - passed), entry.ttl_s))
        if standing:
            _log.warning("%d processes are isolated; see: asyd isolations list", len(standing))
        if self.entries != self._saved:
            self._changed()

    # -- what agents do

    def refusal(self, pid: int, start: int, may_undo: MayUndo) -> SW | None:
        """Why an agent may not isolate that process: somebody else has (6982); no room (6400)."""
        entry = self._entries.get((pid, start))
        if entry is not None:
            return None if _allows(entry, may_undo) else SW.DENIED
        return SW.BLOCKED if len(self._entries) >= MAX_ISOLATIONS else None

    async def isolate(
        self,
        process: ProcessHandle,
        key: bytes,
        label: str,
        may_undo: MayUndo,
        *,
        keep_loopback: bool,
        ttl_s: int,
    ) -> None:
        """Isolates a process for an agent, or once more with another rule and TTL.

        Closes the handle. It goes on to its end also where nobody waits for it. PlatformError.
        """
        work = self._isolate(process, key, label, may_undo, keep_loopback, ttl_s)
        await asyncio.shield(self._spawn(work))

    async def _isolate(
        self,
        process: ProcessHandle,
        key: bytes,
        label: str,
        may_undo: MayUndo,
        keep_loopback: bool,
        ttl_s: int,
    ) -> None:
        with closing(process):
            async with self._turn:
                refusal = self.refusal(process.pid, process.start, may_undo)
                if refusal is SW.DENIED:  # another agent has been quicker
                    raise NotPermitted(f"process {process.pid} is isolated for another agent")
                if refusal is not None:
                    raise SystemFailure(f"{MAX_ISOLATIONS} isolations stand", refusal)
                await self._beside(
                    partial(self._isolator.isolate, process, keep_loopback=keep_loopback)
                )
                where = (process.pid, process.start)
                self._entries[where] = Entry(
                    process.pid,
                    process.start,
                    process.name.decode("utf-8", "replace"),
                    key.hex(),
                    label,
                    self._clock.time_ns() // _NS,
                    ttl_s,
                    keep_loopback,
                    int(self._clock.now()),
                )
                self._due.pop(where, None)
                if ttl_s:
                    self._arm(where, ttl_s)
                self._changed()

    def under(self, pid: int) -> list[Entry]:
        """The isolations that were made under a PID: more than one when it was given away since."""
        return [one for one in self._entries.values() if one.pid == pid]

    def undoable(self, pid: int, may_undo: MayUndo) -> list[Entry]:
        """Those of them that an agent may release."""
        return [one for one in self.under(pid) if _allows(one, may_undo)]

    async def let_go(self, entries: list[Entry], who: str = "an agent") -> None:
        """Releases isolations, as `who` asked for it; those that do not stand any more are passed
        over.

        One that cannot be released does not keep the others. PlatformError.
        """
        failures: list[PlatformError] = []
        for one in entries:
            try:
                await asyncio.shield(self._spawn(self._release(one, f"{who} released it")))
            except PlatformError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    async def _release(self, entry: Entry, why: str) -> None:
        """Ends an isolation, unless it has been made anew. PlatformError: it stands."""
        where = (entry.pid, entry.start)
        async with self._turn:
            if self._entries.get(where) != entry:
                return
            await self._beside(partial(self._isolator.release, entry.pid, entry.start))
            del self._entries[where]
            self._due.pop(where, None)
            self._changed()
            _log.warning("%s is released: %s", _named(entry), why)

    # -- what an admin sees and does

    def listed(self) -> list[HeldInfo]:
        """As Held.listed."""
        return [
            HeldInfo(
                pid=one.pid,
                name=one.name,
                how="network, loopback kept" if one.keep_loopback else "network",
                agent=one.label or one.key[:8] or UNKNOWN,
                since=one.since,
                until=one.until,
            )
            for one in self._entries.values()
        ]

    async def release(self, pid: int) -> int:
        """As Held.release."""
        wanted = [one for one in self.entries if pid in (EVERYTHING, one.pid)]
        await self.let_go(wanted, "the admin")
        return len(wanted)

    # -- the time that is left

    def _arm(self, where: _Key, seconds: float) -> None:
        self._due[where] = self._clock.now() + seconds
        self._alarm.set(self._due[where], self._ring)

    def _ring(self) -> None:
        """Releases what is due; what is not yet is waited for."""
        now = self._clock.now()
        for where, due in list(self._due.items()):
            if due <= now:
                self._due[where] = now + SAVE_AGAIN  # should it fail
                self._spawn(self._expire(self._entries[where]))
        if self._due:
            self._alarm.set(min(self._due.values()), self._ring)

    async def _expire(self, entry: Entry) -> None:
        try:
            await self._release(entry, "its time has passed")
        except PlatformError as error:
            _log.error("%s cannot be released: %s", _named(entry), error)

    # -- the disk

    def _changed(self) -> None:
        if self._store is not None and not self._saving:
            self._saving = True
            self._clock.call_soon(self._begin_save)

    def _begin_save(self) -> None:
        if self._saving:  # `close` may have been quicker
            self._spawn(self._save())

    async def _save(self) -> None:
        self._saving = False
        entries = self.entries
        if self._store is None or entries == self._saved:
            return
        try:
            await self._store.save(entries)
        except OSError as error:  # TimeoutError is one
            _log.error("who has isolated what is not on the disk: %s", error.strerror or error)
            self._saving = True
            self._clock.call_later(SAVE_AGAIN, self._begin_save)
        else:
            self._saved = entries

    # -- running

    async def _beside(self, work: Callable[[], T]) -> T:
        return await beside(work)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    async def close(self) -> None:
        """Waits for what is under way and writes the book; what is isolated stays so."""
        self._alarm.stop()
        if self._work:
            await asyncio.wait(tuple(self._work), timeout=CLOSING_SECONDS)
        await self._save()
        if not self._turn.locked():
            self._isolator.close()


def _allows(entry: Entry, may_undo: MayUndo) -> bool:
    return may_undo(bytes.fromhex(entry.key))


def _named(entry: Entry) -> str:
    """A process in the log: what it is called is anybody's text."""
    return f"process {entry.pid} ({entry.name!r})"


def open_isolations(
    platform: Platform, clock: Clock, state_dir: Path, entries: tuple[Entry, ...] | None = None
) -> Isolations | None:
    """What a node with this state directory isolates; None where no platform could.

    Without `entries` the file is read: ConfigError when that cannot be done.
    """
    isolator = platform.isolator(state_dir)
    if isolator is None:
        return None
    store = IsolationsStore(state_dir, boot_id())
    found = store.load() if entries is None else entries
    return Isolations(isolator, clock, store=store, entries=found)


async def standing(state_dir: Path) -> Isolations:
    """What an asyd with this state directory has left, for whoever does its work while it does not
    run; to be closed. ConfigError, PlatformError.
    """
    clock = LoopClock(asyncio.get_running_loop())
    found = open_isolations(choose_platform(), clock, state_dir)
    if found is None:
        raise Unsupported("nothing can be isolated on this system")
    await found.recover()
    if found.lack:
        raise Unsupported(found.lack)
    return found
