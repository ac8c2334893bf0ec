"""The book of isolations: whose they are, how long they last, what is left of them on the disk."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from asys.node.admin.held import EVERYTHING, HeldInfo
from asys.node.disk.files import ConfigError
from asys.node.held.isolations import (
    CLOSING_SECONDS,
    MAX_ISOLATIONS,
    SAVE_AGAIN,
    Isolations,
    open_isolations,
    standing,
)
from asys.node.held.isolations_store import MAX_SIZE, Entry, IsolationsStore
from asys.node.platform.base import NotPermitted, SystemFailure, Unsupported
from asys.node.platform.portable import PortablePlatform
from asys.protocol.status import SW
from support.clock import ManualClock
from support.isolator import MadeIsolator
from support.target import Target

KEY = bytes(range(32))
OTHER = bytes(32)
NOW = 1_700_000_000
ENTRY = Entry(4711, 100, "java", KEY.hex(), "web", NOW - 10, 60, False)


def own(key: bytes) -> bool:
    return key == KEY


class MemoryStore:
    """A Store. `error` is what the next writes raise."""

    def __init__(self) -> None:
        self.saved: list[tuple[Entry, ...]] = []
        self.error: OSError | None = None

    async def save(self, entries: tuple[Entry, ...]) -> None:
        """As Store.save."""
        if self.error is not None:
            raise self.error
        self.saved.append(entries)


class Made:
    """A book with all that it needs."""

    def __init__(self, *entries: Entry, lack: str = "") -> None:
        self.isolator = MadeIsolator(lack)
        self.clock = ManualClock(unix_ns=NOW * 10**9)
        self.store = MemoryStore()
        self.book = Isolations(self.isolator, self.clock, store=self.store, entries=entries)

    async def isolate(
        self,
        pid: int = 4711,
        *,
        key: bytes = KEY,
        label: str = "web",
        start: int = 100,
        ttl_s: int = 0,
        keep_loopback: bool = False,
        may_undo: Callable[[bytes], bool] = own,
    ) -> Target:
        target = Target(pid)
        target.start = start
        target.handles = 1
        try:
            await self.book.isolate(
                target, key, label, may_undo, keep_loopback=keep_loopback, ttl_s=ttl_s
            )
        finally:
            assert target.handles == 0
        return target

    async def until(self, condition: Callable[[], object]) -> None:
        """Waits for what threads do; the node's time stands still."""
        while not condition():
            self.clock.run_ready()
            await asyncio.sleep(0.001)


@pytest.fixture
async def made() -> AsyncIterator[Made]:
    one = Made()
    yield one
    one.isolator.held.set()
    await one.book.close()


async def test_an_isolation_and_its_release(made: Made) -> None:
    await made.isolate(keep_loopback=True)
    assert made.isolator.there == {(4711, 100): True}
    assert made.book.listed() == [HeldInfo(4711, "target", "network, loopback kept", "web", NOW, 0)]
    (entry,) = made.book.undoable(4711, own)
    await made.book.let_go([entry])
    assert made.isolator.there == {}
    assert made.book.listed() == []
    await made.book.let_go([entry])  # it does not stand any more
    assert made.isolator.calls == ["isolate 4711", "release 4711"]


async def test_once_more_replaces_the_ttl_and_the_rule(made: Made) -> None:
    await made.isolate(ttl_s=10)
    made.clock.advance(5)
    await made.isolate(ttl_s=20, keep_loopback=True)
    assert made.isolator.there == {(4711, 100): True}
    made.clock.advance(19.9)
    assert made.isolator.there
    assert [one.until for one in made.book.listed()] == [NOW + 25]
    made.clock.advance(0.1)
    await made.until(lambda: not made.isolator.there)
    await made.until(lambda: not made.book.entries)


async def test_once_more_without_a_ttl_is_for_ever(made: Made) -> None:
    await made.isolate(ttl_s=10)
    await made.isolate()
    made.clock.advance(1000)
    await asyncio.sleep(0)
    assert made.isolator.there
    assert made.isolator.calls == ["isolate 4711"] * 2


async def test_each_has_its_own_time(made: Made) -> None:
    await made.isolate(1, ttl_s=30)
    await made.isolate(2, ttl_s=10)
    await made.isolate(3)
    made.clock.advance(10)
    await made.until(lambda: len(made.book.entries) == 2)
    assert set(made.isolator.there) == {(1, 100), (3, 100)}
    made.clock.advance(20)
    await made.until(lambda: len(made.book.entries) == 1)
    assert set(made.isolator.there) == {(3, 100)}


async def test_what_cannot_be_released_in_time_is_tried_again(made: Made) -> None:
    await made.isolate(ttl_s=10)
    made.isolator.error = SystemFailure("no", SW.NODE_BUSY)
    made.clock.advance(10)
    await made.until(lambda: made.isolator.calls[1:] == ["release 4711"])
    assert made.book.entries
    made.isolator.error = None
    made.clock.advance(SAVE_AGAIN)
    await made.until(lambda: not made.book.entries)


async def test_whose_it_is(made: Made) -> None:
    await made.isolate(key=OTHER, may_undo=lambda key: True)
    assert made.book.refusal(4711, 100, own) is SW.DENIED
    assert made.book.refusal(4711, 101, own) is None  # another process with that PID
    assert made.book.refusal(4711, 100, lambda key: key == OTHER) is None
    assert made.book.under(4711)
    assert made.book.undoable(4711, own) == []
    with pytest.raises(NotPermitted):
        await made.isolate()
    assert made.isolator.calls == ["isolate 4711"]


async def test_a_pid_that_was_given_away(made: Made) -> None:
    """Releasing is for every process that was isolated under that PID and is the agent's."""
    await made.isolate(start=100)
    await made.isolate(start=200)
    await made.isolate(start=300, key=OTHER)
    found = made.book.undoable(4711, own)
    assert [one.start for one in found] == [100, 200]
    await made.book.let_go(found)
    assert list(made.isolator.there) == [(4711, 300)]


async def test_there_is_room_for_so_many(made: Made) -> None:
    for pid in range(1, MAX_ISOLATIONS + 1):
        await made.isolate(pid)
    assert made.book.refusal(4711, 100, own) is SW.BLOCKED
    assert made.book.refusal(1, 100, own) is None
    with pytest.raises(SystemFailure) as caught:
        await made.isolate(4711)
    assert caught.value.sw is SW.BLOCKED
    await made.isolate(1, keep_loopback=True)
    assert await made.book.release(EVERYTHING) == MAX_ISOLATIONS
    assert made.isolator.there == {}


@pytest.mark.parametrize(("who", "said"), [("admin", "the admin"), ("agent", "an agent")])
async def test_the_log_says_who_released_it(
    made: Made, caplog: pytest.LogCaptureFixture, who: str, said: str
) -> None:
    await made.isolate(1)
    if who == "admin":
        await made.book.release(1)
    else:
        await made.book.let_go(made.book.under(1))
    assert caplog.messages[-1].endswith(f" is released: {said} released it")


async def test_an_admin_releases_whatever_there_is(made: Made) -> None:
    await made.isolate(1)
    await made.isolate(2, key=OTHER)
    assert await made.book.release(3) == 0
    assert await made.book.release(2) == 1
    assert list(made.isolator.there) == [(1, 100)]


async def test_one_that_cannot_be_released_does_not_keep_the_others(made: Made) -> None:
    await made.isolate(1)
    await made.isolate(2)
    made.isolator.error = SystemFailure("no", SW.NODE_BUSY)
    with pytest.raises(SystemFailure):
        await made.book.release(EVERYTHING)
    assert made.isolator.calls[2:] == ["release 1", "release 2"]
    assert len(made.book.entries) == 2


async def test_what_fails_leaves_no_entry(made: Made) -> None:
    made.isolator.error = SystemFailure("no", SW.NODE_IO_ERROR)
    with pytest.raises(SystemFailure):
        await made.isolate(ttl_s=5)
    assert made.book.entries == ()
    made.clock.advance(10)
    assert made.isolator.calls == ["isolate 4711"]


async def test_it_is_done_also_when_nobody_waits(made: Made) -> None:
    made.isolator.held.clear()
    waiting = asyncio.ensure_future(made.isolate())
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises((asyncio.CancelledError, AssertionError)):
        await waiting
    made.isolator.held.set()
    await made.until(lambda: made.book.entries)
    assert made.isolator.there


# -- what is on the disk


async def test_the_book_is_written_beside(made: Made) -> None:
    await made.isolate()
    assert made.store.saved == []
    made.clock.run_ready()
    await made.until(lambda: made.store.saved)
    (entries,) = made.store.saved
    assert entries == made.book.entries
    assert [one.made for one in entries] == [int(made.clock.now())]
    await made.book.release(4711)
    await made.until(lambda: made.store.saved[1:] == [()])


async def test_a_disk_that_does_not_take_it_is_tried_again(made: Made) -> None:
    made.store.error = OSError(28, "No space left on device")
    await made.isolate()
    made.clock.run_ready()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert made.store.saved == []
    made.store.error = None
    made.clock.advance(SAVE_AGAIN)
    await made.until(lambda: made.store.saved)


async def test_closing_writes_what_is_not_written() -> None:
    made = Made()
    await made.isolate()
    await made.book.close()
    assert len(made.store.saved) == 1
    assert made.isolator.there  # it stays in force
    assert made.isolator.closed
    made.clock.run_ready()
    await asyncio.sleep(0)
    assert len(made.store.saved) == 1


async def test_closing_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asys.node.held.isolations.CLOSING_SECONDS", 0.01)
    assert CLOSING_SECONDS == 2.0
    made = Made()
    made.isolator.held.clear()
    work = asyncio.ensure_future(made.isolate())
    await asyncio.sleep(0)
    await made.book.close()
    assert not made.isolator.closed  # somebody works with it
    made.isolator.held.set()
    await work


def store_in(directory: Path, boot: str = "this") -> IsolationsStore:
    return IsolationsStore(directory, boot)


async def test_what_was_saved_is_read_again(tmp_path: Path) -> None:
    entries = (ENTRY, ENTRY._replace(pid=1, name='\n"é\ud800', key="", keep_loopback=True))
    await store_in(tmp_path).save(entries)
    assert (tmp_path / "isolations.json").stat().st_mode & 0o777 == 0o600
    assert store_in(tmp_path).load() == entries
    assert store_in(tmp_path, "another").load() == ()
    assert store_in(tmp_path / "nowhere").load() == ()


def _written(**changes: object) -> dict[str, object]:
    entry: dict[str, object] = {
        "pid": 1,
        "start": 2,
        "name": "n",
        "key": "",
        "label": "",
        "since": 3,
        "ttl_s": 0,
        "keep_loopback": False,
    }
    return entry | changes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "é",
        json.dumps({"version": 2, "boot": "this", "isolations": []}),
        json.dumps({"version": 1, "boot": 1, "isolations": []}),
        json.dumps({"version": 1, "boot": "this", "isolations": [1]}),
        *(
            json.dumps({"version": 1, "boot": "this", "isolations": [_written(**changes)]})
            for changes in (
                {"pid": -1},
                {"pid": "1"},
                {"pid": True},
                {"keep_loopback": 0},
                {"key": "00"},
                {"more": 1},
            )
        ),
        json.dumps({"version": 1, "boot": "this", "isolations": [{"pid": 1}]}),
        " " * (MAX_SIZE + 1),
        "[" * 100_000,
    ],
)
def test_a_damaged_file_says_what_to_do(tmp_path: Path, text: str) -> None:
    path = tmp_path / "isolations.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=r"is damaged; to go on without it, run: mv "):
        store_in(tmp_path).load()


# -- over a restart


async def test_what_stands_is_found_again() -> None:
    made = Made(ENTRY, ENTRY._replace(pid=1))
    made.isolator.there = {(4711, 100): False}
    await made.book.recover()
    assert made.book.entries == (ENTRY,)  # the other one does not stand any more
    made.clock.run_ready()
    await made.until(lambda: made.store.saved == [(ENTRY,)])
    made.clock.advance(49.9)
    await asyncio.sleep(0.01)
    assert made.isolator.there
    made.clock.advance(0.1)
    await made.until(lambda: not made.isolator.there)
    await made.book.close()


@pytest.mark.parametrize(("since", "left"), [(NOW - 60, 0.0), (NOW - 999, 0.0), (NOW + 500, 60.0)])
async def test_the_time_that_is_left_over_a_restart(since: int, left: float) -> None:
    """Without the moment on the monotonic clock, by the other one; at most the TTL."""
    made = Made(ENTRY._replace(since=since))
    made.isolator.there = {(4711, 100): False}
    await made.book.recover()
    if left:
        made.clock.advance(left - 0.1)
        await asyncio.sleep(0.01)
        assert made.isolator.there
        made.clock.advance(0.1)
    made.clock.run_ready()
    await made.until(lambda: not made.isolator.there)
    await made.book.close()


@pytest.mark.parametrize("step", [-1_000_000, 0, 1_000_000])
async def test_a_clock_that_is_set_over_a_restart_changes_no_ttl(step: int) -> None:
    made = Made(ENTRY._replace(made=990))  # ten seconds ago
    made.clock.set_unix(step)
    made.isolator.there = {(4711, 100): False}
    await made.book.recover()
    made.clock.advance(49.9)
    await asyncio.sleep(0.01)
    assert made.isolator.there
    made.clock.advance(0.1)
    await made.until(lambda: not made.isolator.there)
    await made.book.close()


async def test_one_without_an_entry_is_nobodys() -> None:
    made = Made()
    made.isolator.there = {(7, 8): True}
    await made.book.recover()
    assert made.book.listed() == [
        HeldInfo(7, "name of 7", "network, loopback kept", "unknown", NOW, 0)
    ]
    assert made.book.refusal(7, 8, own) is SW.DENIED
    assert made.book.undoable(7, own) == []
    made.clock.advance(10_000)
    assert made.isolator.there
    assert await made.book.release(7) == 1
    assert made.isolator.there == {}
    await made.book.close()


async def test_an_entry_of_another_process_with_that_pid_is_not_its_own() -> None:
    made = Made(ENTRY)
    made.isolator.there = {(4711, 999): False}
    await made.book.recover()
    assert [(one.start, one.key) for one in made.book.entries] == [(999, "")]
    await made.book.close()


async def test_what_stands_cannot_be_told() -> None:
    made = Made(ENTRY)
    made.isolator.error = SystemFailure("no", SW.NODE_IO_ERROR)
    await made.book.recover()
    assert made.book.lack == "what is isolated is not known: no"
    await made.book.close()


async def test_a_node_that_cannot_isolate_leaves_the_file_as_it_is() -> None:
    made = Made(ENTRY, lack="no privileges")
    await made.book.recover()
    assert made.isolator.calls == []
    assert made.book.lack == "no privileges"
    await made.book.close()
    assert made.store.saved == []


async def test_a_system_that_cannot_isolate_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_isolations(PortablePlatform(), ManualClock(), tmp_path) is None
    monkeypatch.setattr("asys.node.held.isolations.choose_platform", PortablePlatform)
    with pytest.raises(Unsupported, match="on this system"):
        await standing(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_what_stands_without_asyd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolator = MadeIsolator()
    isolator.there = {(7, 8): False}
    monkeypatch.setattr(
        "asys.node.platform.linux.LinuxPlatform.isolator", lambda self, state_dir: isolator
    )
    found = await standing(tmp_path)
    assert [one.pid for one in found.listed()] == [7]
    assert await found.release(7) == 1
    await found.close()
    assert store_in(tmp_path).load() == ()
    isolator.lack = "not here"
    with pytest.raises(Unsupported, match="not here"):
        await standing(tmp_path)
