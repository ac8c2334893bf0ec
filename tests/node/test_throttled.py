"""The book of what asyd has stopped: who is in it, how long, and what is left of it on the disk."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from asys.node.admin.held import EVERYTHING
from asys.node.disk.files import ConfigError
from asys.node.held import throttled, throttled_store
from asys.node.held.throttled import ThrottleBook, Throttling
from asys.node.held.throttled_store import MAX_SIZE, Entry, ThrottledStore
from asys.node.platform.base import (
    NoSuchTarget,
    NotPermitted,
    PlatformError,
    ProcessHandle,
    Throttler,
)
from support.clock import ManualClock
from support.frames import NOT_SUPPORTED
from support.node_rig import Rig
from support.target import Machine, Target

KEY: Final = bytes(range(32))
OTHER: Final = bytes(range(1, 33))
NOW: Final = 1_700_000_000


class Slow:
    """A Throttler that is not quick; keeps what it is asked, and fails if it is told to."""

    quick = False
    lack = ""

    def __init__(self, how: str) -> None:
        self.how = how
        self.asked: list[str] = []
        self.held: set[str] = set()
        self.trouble: PlatformError | None = None

    def stop(self, process: ProcessHandle, users: Collection[int] | None = None) -> str:
        """As Throttler.stop."""
        self._note(f"stop {process.pid}")
        self.held.add("place")
        return "place"

    def release(self, process: ProcessHandle | None, how: str, place: str) -> None:
        """As Throttler.release."""
        self._note(f"release {process.pid if process else None} {how} {place}".rstrip())
        self.held.discard(place)

    def is_held(self, process: ProcessHandle | None, how: str, place: str) -> bool:
        """As Throttler.is_held."""
        return process is not None and (how == "signal" or place in self.held)

    def _note(self, what: str) -> None:
        self.asked.append(what)
        if self.trouble is not None:
            raise self.trouble


class Many(Machine):
    """A machine with any number of processes, that stops them as `slow` says, if it says."""

    def __init__(self, slow: Slow | None = None) -> None:
        super().__init__()
        self.targets: dict[int, Target] = {}
        self.slow = slow

    def process(self, pid: int) -> ProcessHandle:
        """As Platform.process."""
        if pid not in self.targets:
            raise NoSuchTarget(f"there is no process {pid}")
        self.targets[pid].handles += 1
        return self.targets[pid]

    def throttler(self, how: str) -> Throttler:
        """As Platform.throttler."""
        return self.slow or super().throttler(how)

    def add(self, pid: int) -> Target:
        """A process more."""
        self.targets[pid] = Target(pid)
        return self.targets[pid]


class Kept:
    """A Store that keeps what it is given; `trouble` is raised."""

    def __init__(self) -> None:
        self.saved: list[tuple[Entry, ...]] = []
        self.trouble: Exception | None = None

    async def save(self, entries: tuple[Entry, ...]) -> None:
        """As Store.save."""
        if self.trouble is not None:
            raise self.trouble
        self.saved.append(entries)


class Desk:
    """A book with all that it needs."""

    def __init__(
        self, *, lease: float = 0.0, slow: Slow | None = None, entries: tuple[Entry, ...] = ()
    ) -> None:
        self.machine = Many(slow)
        self.clock = ManualClock()
        self.connected = {KEY}
        self.store = Kept()
        options = Throttling("signal", lease, self.store, entries)
        self.book = ThrottleBook(
            self.machine, self.clock, options, connected=lambda key: key in self.connected
        )

    async def stop(self, pid: int, key: bytes = KEY, label: str = "agent") -> Target:
        """An agent stops a process."""
        if pid not in self.machine.targets:
            self.machine.add(pid)
        waiting = self.book.stop(self.machine.process(pid), key, label)
        if waiting is not None:
            await waiting
        return self.machine.targets[pid]

    async def resume(self, pid: int) -> None:
        """An agent lets it go on."""
        waiting = self.book.resume(self.machine.process(pid))
        if waiting is not None:
            await waiting

    def leave(self, key: bytes = KEY) -> None:
        """An agent's last session ends."""
        self.connected.discard(key)
        self.book.left(key)

    async def pass_time(self, seconds: float) -> None:
        """And all that it brings."""
        self.clock.advance(seconds)
        await self.settle()

    async def settle(self) -> None:
        """Everything happens that is due."""
        for _ in range(50):
            self.clock.run_ready()
            await asyncio.sleep(0)

    @property
    def pids(self) -> list[int]:
        """What is in the book."""
        return [one.pid for one in self.book.entries]


@asynccontextmanager
async def desk(
    *, lease: float = 0.0, slow: Slow | None = None, entries: tuple[Entry, ...] = ()
) -> AsyncIterator[Desk]:
    """A book that is closed at the end; no handle may be left open then."""
    one = Desk(lease=lease, slow=slow, entries=entries)
    yield one
    await one.book.close()
    assert all(target.handles == 0 for target in one.machine.targets.values())


def entry(pid: int = 4711, **changes: object) -> Entry:
    """An entry of the agent with KEY."""
    fields: dict[str, object] = {
        "pid": pid,
        "start": 100,
        "name": "target",
        "key": KEY.hex(),
        "label": "agent",
        "since": NOW,
        "how": "signal",
        "place": "",
    }
    return Entry(**{**fields, **changes})  # type: ignore[arg-type]  # a test gives what fits


# -- who is in it


async def test_what_is_stopped_is_in_the_book_until_it_goes_on() -> None:
    async with desk() as at:
        target = await at.stop(7)
        await at.pass_time(60)

        assert target.signals == ["stop"]
        assert at.book.entries == (entry(7, since=NOW),)
        [info] = at.book.listed()
        assert (info.pid, info.name, info.how, info.agent) == (7, "target", "signal", "agent")
        assert (info.since, info.until) == (NOW, 0)

        await at.resume(7)

        assert target.signals == ["stop", "continue"]
        assert at.pids == []


async def test_an_agent_without_a_label_is_shown_by_its_key() -> None:
    async with desk() as at:
        await at.stop(7, label="")

        assert at.book.listed()[0].agent == KEY.hex()[:8]


async def test_stopping_again_changes_nothing_but_whose_it_is() -> None:
    async with desk() as at:
        await at.stop(7)
        await at.settle()
        await at.pass_time(10)
        await at.stop(7)
        await at.settle()

        assert len(at.store.saved) == 1

        await at.stop(7, OTHER, "other")

        assert at.book.entries == (entry(7, key=OTHER.hex(), label="other"),)


async def test_another_process_with_the_pid_has_an_entry_of_its_own() -> None:
    async with desk() as at:
        await at.stop(7)
        at.machine.targets[7] = again = Target(7)
        again.start = 200

        await at.resume(7)  # which is not the one that was stopped
        assert at.pids == [7]

        await at.pass_time(5)
        await at.stop(7)
        assert at.book.entries == (entry(7, start=200, since=NOW + 5),)


async def test_what_cannot_be_stopped_is_not_in_the_book() -> None:
    async with desk() as at:
        at.machine.add(7).error = NotPermitted("no")
        with pytest.raises(NotPermitted):
            await at.stop(7)

        assert at.pids == []


async def test_what_cannot_go_on_stays_in_the_book() -> None:
    async with desk() as at:
        (await at.stop(7)).error = NotPermitted("no")
        with pytest.raises(NotPermitted):
            await at.resume(7)

        assert at.pids == [7]


def test_a_node_that_holds_no_book_does_nothing() -> None:
    machine = Machine()
    rig = Rig(platform=machine)
    agent = rig.session()
    rig.node.throttled = None

    assert agent.ask(agent.throttle(4711)) == [NOT_SUPPORTED]
    assert machine.target.signals == []


# -- looking


async def test_what_has_ended_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with desk() as at:
        for pid in (7, 8, 9, 10):
            await at.stop(pid)
        del at.machine.targets[8]
        at.machine.targets[9].start = 200
        at.machine.targets[10].zombie = True
        at.machine.targets[10].signals.clear()

        await at.book.look()

        assert at.pids == [7]
        assert caplog.text.count("it has ended") == 3


@pytest.mark.parametrize("step", [-1_000_000, 0, 1_000_000])
async def test_what_somebody_else_has_continued_is_dropped_once_it_is_sure(
    caplog: pytest.LogCaptureFixture, step: int
) -> None:
    """However the machine's clock is set meanwhile."""
    caplog.set_level(logging.INFO)
    async with desk() as at:
        (await at.stop(7)).signals.append("continue")
        at.clock.set_unix(step)
        await at.book.look()
        assert at.pids == [7]

        await at.pass_time(throttled.SETTLING)
        await at.book.look()

        assert at.pids == []
        assert "somebody else let it go on" in caplog.text


async def test_what_cannot_be_looked_at_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk() as at:
        target = await at.stop(7)

        def suspended() -> bool:
            raise NotPermitted("no")

        monkeypatch.setattr(target, "suspended", suspended)
        await at.pass_time(throttled.SETTLING)
        await at.book.look()

        assert at.pids == [7]


async def test_one_that_ends_while_it_is_looked_at_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with desk() as at:
        target = await at.stop(7)

        def suspended() -> bool:
            raise NoSuchTarget("gone")

        monkeypatch.setattr(target, "suspended", suspended)
        await at.book.look()

        assert at.pids == []


async def test_a_book_that_grows_is_looked_through_by_itself() -> None:
    async with desk() as at:
        for pid in range(10, 10 + throttled.SPARE):
            await at.stop(pid)
            del at.machine.targets[pid]
        await at.settle()
        assert len(at.pids) == throttled.SPARE

        await at.stop(7)
        await until(lambda: at.pids == [7])


# -- an admin


async def test_an_admin_lets_one_go_or_all() -> None:
    async with desk() as at:
        for pid in (7, 8, 9):
            await at.stop(pid)

        assert await at.book.release(8) == 1
        assert await at.book.release(8) == 0
        assert at.pids == [7, 9]
        assert await at.book.release(EVERYTHING) == 2
        assert await at.book.release(EVERYTHING) == 0
        assert {one.signals[-1] for one in at.machine.targets.values()} == {"continue"}


async def test_one_that_cannot_be_let_go_does_not_keep_the_others() -> None:
    async with desk() as at:
        for pid in (7, 8):
            await at.stop(pid)
        at.machine.targets[7].error = NotPermitted("no")

        with pytest.raises(NotPermitted):
            await at.book.release(EVERYTHING)

        assert at.pids == [7]
        assert at.machine.targets[8].signals == ["stop", "continue"]


async def test_letting_go_what_has_ended_strikes_it_out() -> None:
    async with desk() as at:
        await at.stop(7)
        (await at.stop(8)).error = NoSuchTarget("just now")
        del at.machine.targets[7]

        assert await at.book.release(EVERYTHING) == 2
        assert at.pids == []


async def test_another_process_with_the_pid_is_not_touched() -> None:
    async with desk() as at:
        await at.stop(7)
        at.machine.targets[7] = again = Target(7)
        again.start = 200

        assert await at.book.release(7) == 1
        assert again.signals == []


async def test_one_that_is_stopped_anew_while_it_is_let_go_stays_in_the_book() -> None:
    slow = Slow("freeze")
    async with desk(slow=slow, entries=(entry(7, how="freeze", place="place"),)) as at:
        at.machine.add(7)
        releasing = asyncio.create_task(at.book.release(7))
        await at.stop(7, OTHER, "other")
        await releasing

        assert [one.label for one in at.book.entries] == ["other"]


# -- the lease


async def test_without_a_lease_it_is_for_ever() -> None:
    async with desk() as at:
        target = await at.stop(7)
        at.leave()
        await at.pass_time(365 * 86_400)

        assert target.signals == ["stop"]
        assert at.book.listed()[0].until == 0


async def test_a_process_goes_on_when_its_agent_has_been_away_for_the_lease(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with desk(lease=900) as at:
        target = await at.stop(7)
        await at.pass_time(10_000)
        assert target.signals == ["stop"]
        assert at.book.listed()[0].until == 0

        at.leave()
        await at.pass_time(899)
        assert target.signals == ["stop"]
        assert at.book.listed()[0].until == NOW + 10_000 + 900

        await at.pass_time(1)
        assert target.signals == ["stop", "continue"]
        assert at.pids == []
        assert "agent has had no session for 900 s" in caplog.text


async def test_any_session_of_the_agent_counts() -> None:
    async with desk(lease=900) as at:
        target = await at.stop(7)
        at.leave()
        await at.pass_time(600)
        at.connected.add(KEY)
        await at.pass_time(600)
        assert target.signals == ["stop"]

        at.leave()
        await at.pass_time(600)
        assert target.signals == ["stop"]
        await at.pass_time(300)
        assert target.signals == ["stop", "continue"]


async def test_each_agent_has_a_lease_of_its_own() -> None:
    async with desk(lease=900) as at:
        at.connected.add(OTHER)
        mine, theirs = await at.stop(7), await at.stop(8, OTHER)
        at.leave()
        await at.pass_time(100)
        at.leave(OTHER)

        await at.pass_time(800)
        assert (mine.signals, theirs.signals) == (["stop", "continue"], ["stop"])
        await at.pass_time(100)
        assert theirs.signals == ["stop", "continue"]


async def test_after_a_restart_the_lease_counts_from_the_start() -> None:
    at = Desk(lease=900, entries=(entry(7, since=NOW - 5000),))
    at.connected.clear()
    target = at.machine.add(7)
    target.signals.append("stop")

    await at.pass_time(899)
    assert target.signals == ["stop"]
    await at.pass_time(1)
    assert target.signals == ["stop", "continue"]
    await at.book.close()


async def test_an_agent_that_has_left_before_its_stop_was_done_has_a_lease_all_the_same() -> None:
    async with desk(lease=900) as at:
        at.connected.clear()
        target = await at.stop(7)
        await at.pass_time(900)

        assert target.signals == ["stop", "continue"]


async def test_what_somebody_else_has_continued_gets_no_signal_from_the_lease() -> None:
    async with desk(lease=900) as at:
        target = await at.stop(7)
        target.signals.append("somebody")
        at.leave()
        await at.pass_time(900)

        assert target.signals == ["stop", "somebody"]
        assert at.pids == []


async def test_what_cannot_be_let_go_is_tried_again_after_as_long(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with desk(lease=900) as at:
        target = await at.stop(7)
        at.leave()
        target.error = NotPermitted("not now")
        await at.pass_time(900)
        assert at.pids == [7]
        assert "not now" in caplog.text

        target.error = None
        await at.pass_time(899)
        assert at.pids == [7]
        await at.pass_time(1)
        assert at.pids == []


# -- ways that take longer than a signal


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what a thread does."""
    for _ in range(30_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not happen")


async def test_a_slow_way_is_gone_beside_the_event_loop() -> None:
    slow = Slow("freeze")
    async with desk(slow=slow) as at:
        await at.stop(7)
        assert at.book.entries == (entry(7, how="freeze", place="place"),)
        assert at.book.how == "freeze"

        await at.resume(7)

        assert slow.asked == ["stop 7", "release 7 freeze place"]
        assert at.pids == []


async def test_what_is_in_no_book_is_continued_in_the_present_way() -> None:
    slow = Slow("freeze")
    async with desk(slow=slow) as at:
        at.machine.add(7)
        await at.resume(7)

        assert slow.asked == ["release 7 freeze"]


async def test_a_slow_way_that_fails_leaves_the_book_as_it_was() -> None:
    slow = Slow("freeze")
    async with desk(slow=slow) as at:
        slow.trouble = NotPermitted("no")
        with pytest.raises(NotPermitted):
            await at.stop(7)
        assert at.pids == []

        slow.trouble = None
        await at.stop(7)
        slow.trouble = NotPermitted("no")
        with pytest.raises(NotPermitted):
            await at.resume(7)
        with pytest.raises(NotPermitted):
            await at.book.release(7)
        assert at.pids == [7]


async def test_what_is_under_way_is_done_to_its_end_when_nobody_waits_any_more() -> None:
    slow = Slow("freeze")
    async with desk(slow=slow) as at:
        at.machine.add(7)
        waiting = at.book.stop(at.machine.process(7), KEY, "agent")
        assert waiting is not None
        task = asyncio.get_running_loop().create_task(waiting)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        await at.book.close()

        assert at.pids == [7]
        assert at.store.saved[-1] == at.book.entries


async def test_what_was_stopped_in_another_way_is_let_go_in_that_way() -> None:
    slow = Slow("freeze")
    async with desk(slow=slow, entries=(entry(7),)) as at:
        at.machine.add(7)

        await at.stop(7, OTHER, "other")  # held by a signal already, which is enough
        assert slow.asked == []
        assert at.book.entries == (entry(7, key=OTHER.hex(), label="other"),)

        await at.resume(7)
        assert slow.asked == ["release 7 signal"]


async def test_what_is_no_longer_stopped_in_another_way_is_stopped_in_this_one() -> None:
    slow = Slow("cpu:20")
    async with desk(slow=slow, entries=(entry(7, how="freeze", place="elsewhere"),)) as at:
        at.machine.add(7)
        await at.stop(7)

        assert slow.asked == ["stop 7"]
        assert at.book.entries[0].how == "cpu:20"


async def test_what_a_process_left_behind_is_let_go_too() -> None:
    slow = Slow("freeze")
    async with desk(slow=slow) as at:
        await at.stop(7)
        del at.machine.targets[7]

        assert await at.book.release(7) == 1
        assert slow.asked[-1] == "release None freeze place"


async def test_the_lease_of_a_slow_way() -> None:
    slow = Slow("freeze")
    async with desk(slow=slow, lease=900) as at:
        await at.stop(7)
        at.leave()
        await at.pass_time(900)
        await until(lambda: not at.pids)

        assert slow.asked[-1] == "release 7 freeze place"


# -- the disk


async def test_every_change_gets_to_the_disk_and_none_is_waited_for() -> None:
    async with desk() as at:
        await at.stop(7)
        assert at.store.saved == []
        await at.settle()
        assert [len(one) for one in at.store.saved] == [1]

        for pid in (8, 9, 10):
            await at.stop(pid)
        await at.settle()
        assert len(at.store.saved) == 1
        await at.pass_time(throttled_store.SAVE_INTERVAL)
        assert [len(one) for one in at.store.saved] == [1, 4]


async def test_what_is_as_it_was_is_not_written() -> None:
    async with desk() as at:
        await at.stop(7)
        await at.resume(7)
        await at.settle()

        assert at.store.saved == []


async def test_a_disk_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async with desk() as at:
        at.store.trouble = OSError(28, "No space left on device")
        await at.stop(7)
        await at.settle()
        assert "No space left on device" in caplog.text

        at.store.trouble = None
        await at.pass_time(throttled_store.SAVE_AGAIN)
        assert [len(one) for one in at.store.saved] == [1]


async def test_the_end_writes_what_is_not_written() -> None:
    async with desk() as at:
        await at.stop(7)
        await at.book.close()

        assert at.store.saved == [at.book.entries]
        await at.settle()
        assert len(at.store.saved) == 1


async def test_the_file(tmp_path: Path) -> None:
    entries = (entry(), entry(8, name="\udcff\n", how="cpu:20", place="/a/b"))
    store = ThrottledStore(tmp_path, "this boot")
    assert store.load() == ()

    await store.save(entries)

    assert store.load() == entries
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert ThrottledStore(tmp_path, "another boot").load() == ()


DAMAGED: Final = {
    "no JSON": b"{",
    "not ASCII": b'{"version": 1, "boot": "\xff", "throttled": []}',
    "a list": b"[]",
    "no entries": b'{"version": 1, "boot": "b"}',
    "another version": b'{"version": 2, "boot": "b", "throttled": []}',
    "a boot that is none": b'{"version": 1, "boot": 1, "throttled": []}',
    "an entry that is none": b'{"version": 1, "boot": "b", "throttled": [1]}',
    "deep": b"[" * 100_000,
    "too large": b" " * (MAX_SIZE + 1),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file(tmp_path: Path, damage: str) -> None:
    store = ThrottledStore(tmp_path, "b")
    store.path.write_bytes(DAMAGED[damage])
    store.path.chmod(0o600)

    with pytest.raises(ConfigError, match="damaged"):
        store.load()


WRONG: Final[dict[str, object]] = {
    "pid": "7",
    "start": -1,
    "since": True,
    "name": 7,
    "key": "00",
    "how": "cpu:100",
    "place": None,
    "more": "",
}


@pytest.mark.parametrize("field", WRONG)
async def test_a_damaged_entry(tmp_path: Path, field: str) -> None:
    store = ThrottledStore(tmp_path, "b")
    await store.save((entry(),))
    whole = json.loads(store.path.read_bytes())
    whole["throttled"][0][field] = WRONG[field]
    store.path.write_text(json.dumps(whole))

    with pytest.raises(ConfigError, match="damaged"):
        store.load()
