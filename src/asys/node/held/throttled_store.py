"""`throttled.json`: the processes that asyd has stopped, over restarts of asyd.

    {"version": 1, "boot": "...", "throttled": [
    {"pid": 4711, "start": 90210, "name": "java", "key": 64 hex digits, "label": "web",
     "since": Unix seconds, "how": "signal", "place": ""},
    ...
    ]}

PID and start name one process within one boot: a file of another boot is void.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from asys.node.clock import Clock
from asys.node.disk import state
from asys.node.disk.files import ConfigError, is_there, quoted, read_private

VERSION: Final = 1

MAX_SIZE: Final = 16 << 20
"""Bytes of the file at most: some 50,000 processes."""

HOW: Final = re.compile(r"signal|freeze|cpu:[1-9][0-9]?")
"""What `--throttle` takes."""

SAVE_INTERVAL: Final = 0.2
"""Seconds between the begins of two writes: each is a replaced file that is synced."""

SAVE_AGAIN: Final = 10.0
"""Seconds after which it is tried again to write, when the disk would not have it."""

_log = logging.getLogger("asyd.throttled")
_KEY: Final = re.compile(r"[0-9a-f]{64}")
_NUMBERS: Final = ("pid", "start", "since")


class Entry(NamedTuple):
    """A process that asyd has stopped. A tuple, as it is made while an agent waits."""

    pid: int
    start: int
    """When it was started, as in ProcessHandle.start."""
    name: str
    """What it was called then."""
    key: str
    """The agent that had it stopped, as hex digits."""
    label: str
    since: int
    """Unix time in seconds."""
    how: str
    """As Throttler.how."""
    place: str = ""
    """As Throttler.stop gives it."""


class Store(Protocol):
    """Where the book outlasts asyd."""

    async def save(self, entries: tuple[Entry, ...]) -> None:
        """Writes it, on the disk when this returns. OSError, TimeoutError."""


class ThrottledStore:
    """The file in the node's state directory. `boot` names the time since the machine started."""

    def __init__(self, directory: Path, boot: str) -> None:
        self.path = directory / "throttled.json"
        self.boot = boot

    def load(self) -> tuple[Entry, ...]:
        """What was saved last in this boot; nothing where there is no such file.

        ConfigError when it cannot be read, is not private or not as `save` writes it.
        """
        if not is_there(self.path):
            return ()
        data = read_private(self.path, forbidden=0o022, mend="600", limit=MAX_SIZE)
        try:
            boot, entries = _decode(data)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise ConfigError(
                f"{self.path} is damaged; to go on without it, run: "
                f"mv {quoted(self.path)} {quoted(self.path.with_suffix('.damaged'))}"
            ) from None
        return entries if boot == self.boot else ()

    async def save(self, entries: Iterable[Entry]) -> None:
        """Writes them, on the disk when this returns. OSError and TimeoutError as state.replace."""
        lines = ",\n".join(json.dumps(one._asdict()) for one in entries)
        head = f'{{"version": {VERSION}, "boot": {json.dumps(self.boot)}, "throttled": ['
        await state.replace(self.path, f"{head}\n{lines}\n]}}\n".encode("ascii"), 0o600)


class Scribe:
    """Writes the book whenever it has changed: beside the event loop, and not too often."""

    def __init__(
        self, store: Store | None, clock: Clock, book: Callable[[], tuple[Entry, ...]]
    ) -> None:
        """`book` gives all that is in it; without a store nothing is written."""
        self._store = store
        self._clock = clock
        self._book = book
        self._written = book()
        self._due = False
        self._from = clock.now()
        self._tasks: set[asyncio.Task[None]] = set()

    def changed(self) -> None:
        """There is something to write."""
        if self._store is None or self._due:
            return
        self._due = True
        delay = self._from - self._clock.now()
        if delay > 0:
            self._clock.call_later(delay, self._begin)
        else:
            self._clock.call_soon(self._begin)

    async def close(self) -> None:
        """Writes what is not written."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))
        await self._write()

    def _begin(self) -> None:
        if self._due:  # `close` may have been quicker
            task = asyncio.get_running_loop().create_task(self._write())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _write(self) -> None:
        self._due = False
        entries = self._book()
        if self._store is None or entries == self._written:
            return
        self._from = self._clock.now() + SAVE_INTERVAL
        try:
            await self._store.save(entries)
        except OSError as error:  # TimeoutError is one
            _log.error("what is stopped is not on the disk: %s", error.strerror or error)
            self._from = self._clock.now() + SAVE_AGAIN
            self.changed()
        else:
            self._written = entries


def _decode(data: bytes) -> tuple[str, tuple[Entry, ...]]:
    """Boot and entries. What it raises for a file that is none of ours, `load` lists."""
    if len(data) > MAX_SIZE:
        raise ValueError("too large")
    whole = json.loads(data.decode("ascii"))
    if whole["version"] != VERSION or not isinstance(whole["boot"], str):
        raise ValueError("not of this version")
    return whole["boot"], tuple(_entry(one) for one in whole["throttled"])


def _entry(written: object) -> Entry:
    if not isinstance(written, dict):
        raise ValueError("not an entry")
    for name, value in written.items():
        if type(value) is not (int if name in _NUMBERS else str):
            raise ValueError(name)
        if isinstance(value, int) and value < 0:
            raise ValueError(name)
    entry = Entry(**written)
    if not _KEY.fullmatch(entry.key) or not HOW.fullmatch(entry.how):
        raise ValueError("key or how")
    return entry
