"""The node's keys: the one that it shows and, for a time, the next one (docs/protocol.md, 8.4).

What ends an overlap is in force at once and on the disk after it; what begins one, the other way
round, as a key that is lost when asyd dies must carry nobody over.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, Protocol

from asys.audit.records import KeyEvent
from asys.node.clock import Clock, Handle
from asys.node.disk import state
from asys.node.disk.files import ConfigError, quoted
from asys.node.disk.next_key import KeyPlace, LoadedKeys, NextKey, beginning, read_next, taking_over
from asys.protocol.keys import PrivateKey
from asys.protocol.statement import KeyStatement

RETRY_SECONDS: Final = 30.0
"""After which it is tried again to have on the disk what is in force."""

_NS: Final = 1_000_000_000

_log = logging.getLogger("asyd.keys")


class Moved(Protocol):
    """What remembers which agents know the next key, over restarts."""

    def load(self, new_key: bytes) -> tuple[set[bytes], set[bytes]]:
        """Who has used it, and who has been told."""

    async def save(self, new_key: bytes, moved: set[bytes], told: set[bytes]) -> None:
        """Writes them. OSError, TimeoutError."""


class NodeKeys:
    """Owned by one event loop. Without a `place` there is one key for ever."""

    def __init__(
        self,
        keys: PrivateKey | LoadedKeys,
        clock: Clock,
        *,
        place: KeyPlace | None = None,
        elsewhere: Path | None = None,
        memory: Moved | None = None,
    ) -> None:
        loaded = keys if isinstance(keys, LoadedKeys) else LoadedKeys(keys)
        self.key = loaded.key
        """The key that is shown."""
        self.next: NextKey | None = None
        self.moved: set[bytes] = set()
        """Agents that have come with the next key."""
        self.told: set[bytes] = set()
        """Agents that have its statement."""
        self.changed: Callable[[], None] = lambda: None
        """Called when there is another key, or a next one."""
        self.record: Callable[[KeyEvent, KeyStatement], None] = lambda event, statement: None
        """Puts it on record."""
        self._clock = clock
        self._place = place
        self._elsewhere = elsewhere
        self._memory = memory
        self._turn = asyncio.Lock()
        self._timer: Handle | None = None
        self._until = 0.0
        self._unwritten: NextKey | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._saving = False
        self._past = loaded.ended
        if loaded.next is not None:
            self._adopt(loaded.next)

    @property
    def more(self) -> tuple[PrivateKey, ...]:
        """Keys that are valid beside the one that is shown."""
        self._look()
        return (self.next.key,) if self.next is not None else ()

    @property
    def statement(self) -> KeyStatement | None:
        """What the key that is shown states about the next one, if there is one."""
        return self.next.statement if self.next is not None else None

    def announce(self) -> None:
        """Puts on record what this asyd has found when it started."""
        if self._past is not None:
            _say_ended(self._past)
            self.record(KeyEvent.ENDED, self._past)
        if self.next is not None:
            _say_began(self.next.statement)
            self.record(KeyEvent.BEGAN, self.next.statement)

    # -- what an admin does

    async def begin(self, overlap: int) -> KeyStatement:
        """Makes a next key, valid beside the present one for so many seconds; on the disk when this
        returns. ConfigError: there is one already, or it cannot be written: nothing has changed.
        """
        async with self._turn:
            place = self._may_write()
            self.look()
            if self.next is not None:
                raise ConfigError(
                    f"there is a next key already, {self.next.key.public.hex()}; see: asyd key "
                    "status. To have it take over now, run: asyd key finish"
                )
            next_key = NextKey.make(self.key, self._clock.time_ns() // _NS, overlap)
            try:
                await state.carry_out(beginning(place, next_key))
            except OSError as error:  # TimeoutError is one
                if error.errno == errno.EROFS:
                    raise ConfigError(self._read_only(place)) from error
                await self._take_back(place)
                raise ConfigError(
                    f"{place.next_path}: {error.strerror or error}; mend the disk, and try again"
                ) from error
            self._began(next_key)
            if not overlap:
                await self._finish(next_key)
            return next_key.statement

    def _read_only(self, place: KeyPlace) -> str:
        """As where the unit lets asyd write in its state directory alone."""
        words = f"asyd may not write to {place.next_path.parent}"
        if self._elsewhere is None:
            return words
        files = f"{quoted(place.key_path)} {quoted(place.public_path)}"
        return (
            f"{words}, which holds its key; move the key to where it may, and start asyd anew: "
            f"mv {files} {quoted(self._elsewhere)}"
        )

    async def _take_back(self, place: KeyPlace) -> None:
        """What did not get to the disk in time must not be found there later."""
        try:
            await state.remove(place.next_path)
        except OSError as error:
            _log.error("%s may be on the disk and is not in force: %s", place.next_path, error)

    async def finish(self) -> KeyStatement:
        """Has the next key take over now. ConfigError: there is none; or it is in force, but not on
        the disk, where that is tried again.
        """
        async with self._turn:
            self._may_write()
            if self.next is None:
                raise ConfigError("there is no next key; to make one, run: asyd key rotate")
            next_key = self.next
            await self._finish(next_key)
            return next_key.statement

    async def _finish(self, next_key: NextKey) -> None:
        self._ended(next_key)
        if not await self._write():
            raise ConfigError(
                "the next key has taken over, but the disk does not have that, nor is the old one "
                f"erased; it is tried again every {RETRY_SECONDS:g} s, and when asyd starts"
            )

    def look(self) -> None:
        """Finds a next key that was made while this asyd did not hear of it. ConfigError."""
        if self._place is None or self.next is not None or self._unwritten is not None:
            return
        found = read_next(self._place)
        if found is not None and not found.turning:
            if found.statement.old_key != self.key.public:
                raise ConfigError(f"{self._place.next_path} is about another key than this node's")
            self._began(found)

    def _may_write(self) -> KeyPlace:
        if self._place is None:
            raise ConfigError(
                "the node's key is a credential of systemd: it is changed where systemd has it"
            )
        return self._place

    # -- what agents do

    def came(self, agent_key: bytes, node_key: bytes) -> None:
        """A session of an agent is confirmed, which was made for that key of the node."""
        if self.next is None or node_key != self.next.key.public or agent_key in self.moved:
            return
        self.moved.add(agent_key)
        self._remember()

    def tell(self, agent_key: bytes) -> KeyStatement | None:
        """The statement, for an agent."""
        if self.next is not None and agent_key not in self.told:
            self.told.add(agent_key)
            self._remember()
        return self.statement

    def _remember(self) -> None:
        """Has it written who has moved; several at once are one write."""
        if self._memory is None or self._saving or self.next is None:
            return
        self._saving = True
        self._spawn(self._save(self._memory))

    async def _save(self, memory: Moved) -> None:
        await asyncio.sleep(0)  # those who come in the same turn of the loop are in it
        self._saving = False
        if self.next is None:
            return
        try:
            await memory.save(self.next.key.public, set(self.moved), set(self.told))
        except OSError as error:
            _log.warning("which agents know the next key is not on the disk: %s", error)

    def state_of(self, agent_key: bytes) -> str:
        """Which key an agent has, as far as is known: `next`; `told` it has both; else `old`."""
        if agent_key in self.moved:
            return "next"
        return "told" if agent_key in self.told else "old"

    # -- time

    def _adopt(self, next_key: NextKey) -> None:
        self.next = next_key
        if self._memory is not None:
            self.moved, self.told = self._memory.load(next_key.key.public)
        left = next_key.statement.ends - self._clock.time_ns() / _NS
        self._until = self._clock.now() + left
        self._arm()

    def _began(self, next_key: NextKey) -> None:
        self.moved, self.told = set(), set()
        self._adopt(next_key)
        _say_began(next_key.statement)
        self.record(KeyEvent.BEGAN, next_key.statement)
        self.changed()

    def _arm(self) -> None:
        """Looks once a minute: the clock may be set meanwhile."""
        left = max(self._until - self._clock.now(), 0.0)
        self._timer = self._clock.call_later(min(left, 60.0), self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._unwritten is not None:
            self._spawn(self._write_again())
        elif self.next is not None:
            self._look()
            if self.next is not None:
                self._arm()

    def _look(self) -> None:
        """Ends the overlap where its time has passed, by the one clock or the other."""
        if self.next is None:
            return
        ends = self.next.statement.ends
        if self._clock.now() >= self._until or self._clock.time_ns() >= ends * _NS:
            self._ended(self.next)
            self._spawn(self._write_again())

    def _ended(self, next_key: NextKey) -> None:
        """The next key is the one key, from now on."""
        self.key, self.next, self._unwritten = next_key.key, None, next_key
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        _say_ended(next_key.statement)
        self.record(KeyEvent.ENDED, next_key.statement)
        self.changed()

    # -- the disk

    async def _write_again(self) -> None:
        async with self._turn:
            await self._write()

    async def _write(self) -> bool:
        """Has it on the disk who has taken over; else it is tried again."""
        next_key, place = self._unwritten, self._place
        if next_key is None or place is None:
            return True
        try:
            for write in taking_over(place, next_key):
                await state.carry_out(write)
        except (OSError, ConfigError) as error:
            _log.error(
                "the old key is not valid any more, but not erased from the disk; it is tried "
                "again in %d s: %s",
                RETRY_SECONDS,
                error,
            )
            self._timer = self._clock.call_later(RETRY_SECONDS, self._ring)
            return False
        self._unwritten = None
        return True

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Waits for what is being written."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _say_began(statement: KeyStatement) -> None:
    _log.warning(
        "two keys: %s takes the place of %s at %d (Unix time) at the latest; see: asyd key status",
        statement.new_key.hex(),
        statement.old_key.hex(),
        statement.ends,
    )


def _say_ended(statement: KeyStatement) -> None:
    _log.warning(
        "the key %s has taken over, %s is not valid any more",
        statement.new_key.hex(),
        statement.old_key.hex(),
    )
