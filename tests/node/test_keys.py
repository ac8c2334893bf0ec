"""The node's keys in time: when an overlap ends, what is remembered, and a disk that fails."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asys.audit.records import KeyEvent
from asys.node.disk import state
from asys.node.disk.config_dir import ConfigDir
from asys.node.disk.files import ConfigError
from asys.node.disk.moved_store import MovedStore
from asys.node.disk.next_key import NextKey, beginning, do_all, read_next, read_statements
from asys.node.disk.state_writer import REPLACE, Write
from asys.node.keys import RETRY_SECONDS, NodeKeys
from asys.protocol.keys import PrivateKey
from asys.protocol.statement import KeyStatement
from support.clock import ManualClock

ONE, TWO = bytes([1]) * 32, bytes([2]) * 32


class Kept:
    """The keys of a node on a disk, with a clock that only the test moves."""

    def __init__(self, path: Path) -> None:
        self.config = ConfigDir(path / "asyd")
        self.config.load_key()
        self.state = path / "state"
        self.state.mkdir(exist_ok=True)
        self.clock = ManualClock()
        self.events: list[tuple[KeyEvent, KeyStatement]] = []
        self.changes = 0
        self.keys = self.load()

    @property
    def now(self) -> int:
        return self.clock.time_ns() // 10**9

    def load(self) -> NodeKeys:
        loaded = self.config.load_keys(self.now)
        keys = NodeKeys(loaded, self.clock, place=self.config, memory=MovedStore(self.state))
        keys.record = lambda event, statement: self.events.append((event, statement))
        keys.changed = self._changed
        keys.announce()
        return keys

    def _changed(self) -> None:
        self.changes += 1


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    made = Kept(tmp_path)
    yield made
    await made.keys.close()
    state.stop()


@asynccontextmanager
async def failing(
    monkeypatch: pytest.MonkeyPatch, name: str = "", code: int = errno.ENOSPC
) -> AsyncIterator[None]:
    """The disk takes nothing whose path has `name` in it."""
    real = state.carry_out

    async def carry_out(write: Write) -> None:
        if name.encode() in write.path:
            raise OSError(code, os.strerror(code))
        await real(write)

    with monkeypatch.context() as patched:
        patched.setattr(state, "carry_out", carry_out)
        yield


async def settled(keys: NodeKeys) -> None:
    """Whatever is being written has been."""
    while keys._tasks:
        await asyncio.gather(*keys._tasks)


async def test_one_key_until_there_is_a_next_one(kept: Kept) -> None:
    keys, old = kept.keys, kept.keys.key.public
    assert (keys.more, keys.statement, keys.state_of(ONE)) == ((), None, "old")
    assert keys.tell(ONE) is None
    statement = await keys.begin(3600)
    assert keys.key.public == old == statement.old_key
    assert [one.public for one in keys.more] == [statement.new_key]
    assert (statement.made, statement.ends) == (kept.now, kept.now + 3600)
    assert kept.events == [(KeyEvent.BEGAN, statement)]
    assert kept.changes == 1
    with pytest.raises(ConfigError, match="already"):
        await keys.begin(60)
    assert await keys.finish() == statement
    assert (keys.key.public, keys.more) == (statement.new_key, ())
    assert kept.events[1:] == [(KeyEvent.ENDED, statement)]
    assert read_statements(kept.config) == [statement]
    assert kept.load().key.public == statement.new_key


async def test_nothing_to_finish(kept: Kept) -> None:
    with pytest.raises(ConfigError, match="asyd key rotate"):
        await kept.keys.finish()


async def test_without_a_directory_there_is_one_key_for_ever() -> None:
    keys = NodeKeys(PrivateKey.generate(), ManualClock())
    for order in (keys.begin(60), keys.finish()):
        with pytest.raises(ConfigError, match="is a credential of systemd"):
            await order
    keys.look()
    keys.announce()
    await keys.close()


async def test_no_overlap(kept: Kept) -> None:
    statement = await kept.keys.begin(0)
    assert (kept.keys.key.public, kept.keys.next) == (statement.new_key, None)
    assert [event for event, _ in kept.events] == [KeyEvent.BEGAN, KeyEvent.ENDED]
    assert read_next(kept.config) is None


@pytest.mark.parametrize("how", ["timer", "monotonic", "wall"])
async def test_it_ends_by_whichever_clock_is_first(
    kept: Kept, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement = await kept.keys.begin(3600)
    if how == "timer":
        kept.clock.advance(3599.0)
        assert kept.keys.next is not None
        kept.clock.advance(1.0)
    elif how == "monotonic":  # somebody has set the wall clock back
        kept.clock._unix_ns -= 10**9 * 10**6
        kept.clock._now += 3600.0
        assert kept.keys.more == ()
    else:
        kept.clock._unix_ns += 3600 * 10**9
        assert kept.keys.more == ()
    assert kept.keys.key.public == statement.new_key
    await settled(kept.keys)
    assert read_next(kept.config) is None
    kept.clock._unix_ns -= 10**9 * 10**7
    assert kept.load().key.public == statement.new_key


async def test_a_wall_clock_that_is_set_on_is_seen_by_the_timer(kept: Kept) -> None:
    statement = await kept.keys.begin(30 * 86_400)
    kept.clock._unix_ns += 31 * 86_400 * 10**9
    kept.clock.advance(60.0)
    assert kept.keys.key.public == statement.new_key
    await settled(kept.keys)


async def test_who_has_moved_outlasts_a_restart(kept: Kept) -> None:
    keys = kept.keys
    keys.came(ONE, keys.key.public)
    statement = await keys.begin(3600)
    keys.came(ONE, statement.old_key)
    assert keys.state_of(ONE) == "old"
    assert keys.tell(ONE) == keys.tell(ONE) == statement
    assert keys.state_of(ONE) == "told"
    keys.came(ONE, statement.new_key)
    keys.came(ONE, statement.new_key)
    keys.tell(TWO)
    await settled(keys)
    again = kept.load()
    assert (again.state_of(ONE), again.state_of(TWO)) == ("next", "told")
    assert kept.events[-1] == (KeyEvent.BEGAN, statement)  # once more, when it starts
    await again.finish()
    assert (await again.begin(60)).old_key == statement.new_key
    assert again.state_of(ONE) == "old"  # that was another key
    await again.close()


async def test_what_ended_while_asyd_was_away_is_on_record(kept: Kept) -> None:
    statement = await kept.keys.begin(60)
    kept.clock._unix_ns += 61 * 10**9
    again = kept.load()
    assert again.key.public == statement.new_key
    assert kept.events[-1] == (KeyEvent.ENDED, statement)


async def test_one_that_the_command_has_made_is_found(kept: Kept) -> None:
    kept.keys.look()
    assert kept.keys.next is None
    made = NextKey.make(kept.keys.key, kept.now, 60)
    do_all(iter([beginning(kept.config, made)]))
    kept.keys.look()
    assert kept.keys.statement == made.statement
    kept.keys.look()
    assert kept.changes == 1


async def test_one_of_another_node_is_not_found(kept: Kept) -> None:
    made = NextKey.make(PrivateKey.generate(), kept.now, 60)
    do_all(iter([beginning(kept.config, made)]))
    with pytest.raises(ConfigError, match="another key"):
        kept.keys.look()
    with pytest.raises(ConfigError, match="another key"):
        await kept.keys.begin(60)


# -- a disk that fails


@pytest.mark.parametrize("elsewhere", [True, False])
async def test_a_directory_that_may_not_be_written_to(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    """As by a unit with ProtectSystem=strict: the remedy is to move the key."""
    config, own = kept.config, kept.state if elsewhere else None
    keys = NodeKeys(config.load_key(), kept.clock, place=config, elsewhere=own)
    async with failing(monkeypatch, code=errno.EROFS):
        with pytest.raises(ConfigError, match="may not write") as caught:
            await keys.begin(60)
    assert keys.next is None
    remedy = f": mv {config.key_path} {config.public_path} {kept.state}"
    assert str(caught.value).endswith(remedy) == elsewhere


async def test_what_is_not_on_the_disk_never_begins(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with failing(monkeypatch):
        with pytest.raises(ConfigError, match="mend the disk"):
            await kept.keys.begin(60)
    assert (kept.keys.next, kept.events, kept.changes) == (None, [], 0)
    assert read_next(kept.config) is None


async def test_what_came_to_the_disk_too_late_is_taken_back(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A next key that nobody has heard of must not be found at the next start."""
    real = state.carry_out

    async def late(write: Write) -> None:
        assert write.what == REPLACE
        await real(write)
        raise TimeoutError("the disk has not answered")

    with monkeypatch.context() as patched:
        patched.setattr(state, "carry_out", late)
        with pytest.raises(ConfigError, match="has not answered"):
            await kept.keys.begin(60)
    assert read_next(kept.config) is None


async def test_a_disk_that_takes_nothing_back_is_told(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async with failing(monkeypatch):
        with monkeypatch.context() as patched:
            patched.setattr(state, "remove", fails)
            with pytest.raises(ConfigError, match="No space left"):
                await kept.keys.begin(60)
    assert "may be on the disk and is not in force" in caplog.text


@pytest.mark.parametrize("name", ["key_statements", ".next", "id_curve25519"])
async def test_an_end_is_in_force_and_tried_again(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    statement = await kept.keys.begin(3600)
    async with failing(monkeypatch, name):
        with pytest.raises(ConfigError, match="has taken over, but the disk"):
            await kept.keys.finish()
        assert (kept.keys.key.public, kept.keys.more) == (statement.new_key, ())
        kept.clock.advance(RETRY_SECONDS)
        await settled(kept.keys)
        assert read_next(kept.config) is not None
    kept.clock.advance(RETRY_SECONDS)
    await settled(kept.keys)
    assert read_next(kept.config) is None
    assert kept.load().key.public == statement.new_key
    assert [event for event, _ in kept.events] == [KeyEvent.BEGAN, KeyEvent.ENDED]


async def test_memory_that_cannot_be_written_is_no_harm(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(self: MovedStore, *rest: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(MovedStore, "save", fails)
    statement = await kept.keys.begin(3600)
    assert kept.keys.tell(ONE) == statement
    await settled(kept.keys)
    assert "is not on the disk" in caplog.text


async def test_what_is_remembered_too_late_is_dropped(kept: Kept) -> None:
    await kept.keys.begin(3600)
    kept.keys.tell(ONE)
    await kept.keys.finish()
    await settled(kept.keys)
    assert not (kept.state / "key_moved.json").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"version": 2}',
        '{"version": 1, "new_key": 5, "moved": [], "told": []}',
        '{"version": 1, "new_key": "NEW", "moved": ["00"], "told": []}',
        '{"version": 1, "new_key": "NEW", "moved": [7], "told": []}',
        '{"version": 1, "new_key": "NEW"}',
    ],
)
def test_a_memory_that_is_damaged_knows_nobody(tmp_path: Path, text: str) -> None:
    store = MovedStore(tmp_path)
    store.path.write_text(text.replace("NEW", ONE.hex()))
    assert store.load(ONE) == (set(), set())
