"""A chain on its way to the disk, in this process: a writer that dies at every single step."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from asys.audit.chain import public_of
from asys.audit.entries import Checkpoint, CleanEnd, SessionClosed, SessionOpened
from asys.audit.records import EntryType
from asys.audit.segments import AUDIT, find_segments, segment_name
from asys.audit.verify import OPEN, TAMPERED, WHOLE, verify
from asys.node.audit import stream as stream_module
from asys.node.audit.place import Place, Vanished
from asys.node.audit.ring import Ring
from asys.node.audit.stream import Keeping, Stream
from support.audit import KEY, entries, records, sequence

OPENED = SessionOpened(0, KEY, 3, 99, "label", "peer").body()[4:]
CLOSED = SessionClosed(0, 99).body()[4:]


class Died(BaseException):
    """A writer was killed here."""


class Writers:
    """The writers of one ring, one after the other."""

    def __init__(self, directory: Path, keeping: Keeping | None = None) -> None:
        self.directory = directory
        self.keeping = keeping or Keeping()
        self.ring = Ring.create("test", 30_000)
        self.said: list[str] = []
        self.seq = 0
        self.place: Any = None
        self.stream: Any = None

    def new(self) -> None:
        """Another writer takes over."""
        self.die()
        self.place = Place(self.directory, append_only=False, say=self.said.append)
        self.place.take()
        self.stream = Stream(self.place, AUDIT, self.ring, self.keeping, self.said.append)
        self.stream.attach()

    def die(self) -> None:
        """The kernel closes what the writer had open."""
        if self.stream is not None:
            self.stream.let_go()
            self.stream = None
        if self.place is not None:
            self.place.leave()

    def new_ring(self) -> None:
        """Another asyd."""
        self.die()
        self.ring.close()
        self.ring = Ring.create("test", 30_000)

    def put(self, count: int, session: int = 0) -> None:
        """Records of a session, with the next Seqs."""
        for _ in range(count):
            self.seq += 1
            assert self.ring.record(session, 5, b"hash", 0x20, 0x84, self.seq, b"dige", 0x9000)

    def open(self, session: int) -> None:
        assert self.ring.put(EntryType.SESSION_OPENED, session, OPENED)

    def close(self, session: int) -> None:
        assert self.ring.put(EntryType.SESSION_CLOSED, session, CLOSED)

    def drain(self, *, end: bool = False) -> None:
        """Until there is nothing to do."""
        while self.stream.step(end=end):
            pass

    def expected(self) -> list[int]:
        return list(range(1, self.seq + 1))


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[Writers]:
    made = Writers(tmp_path / "audit")
    yield made
    made.die()
    made.ring.close()


@pytest.fixture
def quick() -> Iterator[Path]:
    """A directory in memory, where it is to be had: thousands of syncs cost nothing there."""
    memory = Path("/dev/shm")  # noqa: S108  a directory of a random name within
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


def test_what_was_put_is_written_once_in_order_and_ends_clean(writers: Writers) -> None:
    writers.new()
    writers.open(0)
    writers.put(9000)
    writers.drain()
    assert writers.stream.idle
    assert verify(writers.directory).code == OPEN
    writers.drain(end=True)
    assert writers.stream.ended
    assert sequence(writers.directory) == writers.expected()
    verdict = verify(writers.directory)
    assert (verdict.code, verdict.notes) == (WHOLE, ())
    kinds = [type(entry) for entry in entries(writers.directory)]
    assert kinds[-3:] == [SessionClosed, CleanEnd, Checkpoint]


def test_another_asyd_goes_on_in_the_same_segment_with_other_session_numbers(
    writers: Writers,
) -> None:
    for _ in range(3):
        writers.new()
        writers.open(0)
        writers.put(10)
        writers.open(1)
        writers.put(10, session=1)
        writers.drain(end=True)
        writers.new_ring()
    assert sequence(writers.directory) == writers.expected()
    assert [one.number for one in find_segments(writers.directory, AUDIT)] == [1]
    opened = [e.session for e in entries(writers.directory) if isinstance(e, SessionOpened)]
    assert len(set(opened)) == 6
    first = bytes.fromhex((writers.directory / "audit.pub").read_text())
    assert verify(writers.directory, key=first).code == WHOLE


def test_a_segment_that_is_full_ends_with_a_checkpoint_and_the_next_names_who_is_there(
    tmp_path: Path,
) -> None:
    writers = Writers(tmp_path / "audit", Keeping(segment_bytes=3000))
    writers.new()
    for session in range(4):
        writers.open(session)
    writers.close(2)
    for _ in range(12):
        writers.put(50, session=3)
        writers.drain()
    writers.drain(end=True)
    segments = find_segments(tmp_path / "audit", AUDIT)
    assert len(segments) > 3
    assert sequence(writers.directory) == writers.expected()
    assert verify(writers.directory).code == WHOLE
    for segment in segments[:-1]:
        segment.path.unlink()
    heads = [e.session for e in entries(writers.directory) if isinstance(e, SessionOpened)]
    assert heads == [0, 1, 3]
    assert verify(writers.directory).code == WHOLE
    writers.die()
    writers.ring.close()


def test_old_segments_go_but_never_the_last_two(tmp_path: Path) -> None:
    writers = Writers(tmp_path / "audit", Keeping(segment_bytes=500, days=2))
    writers.new()
    for _ in range(6):
        writers.put(30)
        writers.drain()
    before = find_segments(writers.directory, AUDIT)
    assert len(before) == 6
    now = time.time()
    for segment in before[:-3]:
        os.utime(segment.path, (now - 3 * 86_400,) * 2)
    writers.stream.expire(now)
    assert find_segments(writers.directory, AUDIT) == before[3:]
    writers.stream.expire(now + 10 * 86_400)
    assert find_segments(writers.directory, AUDIT) == before[4:]
    writers.drain(end=True)
    assert verify(writers.directory).code == WHOLE
    writers.die()
    writers.ring.close()


def test_with_zero_days_nothing_ever_goes(tmp_path: Path) -> None:
    writers = Writers(tmp_path / "audit", Keeping(segment_bytes=500, days=0))
    writers.new()
    for _ in range(6):
        writers.put(30)
        writers.drain()
    writers.stream.expire(time.time() + 1e9)
    assert len(find_segments(writers.directory, AUDIT)) == 6
    writers.die()
    writers.ring.close()


# -- death


NAMES = ("open", "write", "fdatasync", "fsync", "rename", "pwrite", "fchmod", "unlink", "mkdir")


class Deadly:
    """Lets a process die before or after its n-th change of the disk, or in the middle of it."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int) -> None:
        self.left = at
        for name in NAMES:
            patch.setattr(os, name, self._around(name, getattr(os, name)))
        held: Any = Ring.__dict__["position"]

        def hold(ring: Ring, position: Any) -> None:
            self.step()
            held.fset(ring, position)
            self.step()

        patch.setattr(Ring, "position", held.setter(hold))

    def _around(self, name: str, really: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.step()
            if name == "write" and len(arguments[1]) > 1:
                half = len(arguments[1]) // 2
                done = really(arguments[0], arguments[1][:half])
                self.step()
                return done  # as the kernel may
            result = really(*arguments, **options)
            try:
                self.step()
            except Died:
                if name == "open":
                    os.close(result)
                raise
            return result

        return call

    def step(self) -> None:
        if self.left == 0:
            raise Died
        self.left -= 1


def story(writers: Writers) -> Iterator[Callable[[], object]]:
    """What happens in a life: sessions, rotation, checkpoints, an end."""
    yield lambda: writers.open(0)
    yield lambda: writers.put(40)
    for session in range(1, 4):
        yield partial(writers.open, session)
        yield partial(writers.put, 30, session)
    yield lambda: writers.close(1)
    yield lambda: writers.put(30)


def live(writers: Writers, deaths: Callable[[], int]) -> int:
    """Goes through the story; after each step everything is written, in spite of the deaths."""
    died = 0

    def through(what: Callable[[], object]) -> None:
        nonlocal died
        while True:
            with pytest.MonkeyPatch.context() as patch:
                Deadly(patch, deaths())
                try:
                    if writers.stream is None:
                        writers.new()
                    what()
                    return
                except Died:
                    died += 1
            writers.die()

    for act in story(writers):
        act()
        through(writers.drain)
    through(lambda: writers.drain(end=True))
    return died


@pytest.mark.parametrize("checkpoint_entries", [1, 10_000])
def test_a_writer_that_dies_at_any_step_loses_nothing_and_writes_nothing_twice(
    quick: Path, checkpoint_entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "CHECKPOINT_ENTRIES", checkpoint_entries)
    for at in range(10_000):
        directory = quick / "audit"
        writers = Writers(directory, Keeping(segment_bytes=1500))
        once = iter([at])
        died = live(writers, partial(next, once, 1 << 30))
        check(writers)
        writers.ring.close()
        shutil.rmtree(directory)
        if not died:
            assert at > 100
            return
    raise AssertionError("it never ends")


def test_writers_that_die_again_and_again_still_get_everything_written(quick: Path) -> None:
    total = 0
    for life in range(80):
        writers = Writers(quick / "audit", Keeping(segment_bytes=1500))
        # Some do not even get to the first append; only a few get through a whole rotation.
        lives = ((life * 7 + number * 29) % 149 + 3 for number in count())
        total += live(writers, lives.__next__)
        check(writers)
        writers.ring.close()
        shutil.rmtree(writers.directory)
    assert total > 200


def check(writers: Writers) -> None:
    """All is there once, in order, of the right sessions, and whole."""
    verdict = verify(writers.directory)
    assert verdict.code == WHOLE, (verdict, writers.said)
    assert sequence(writers.directory) == writers.expected()
    sessions = [session for session, _ in records(writers.directory)]
    assert sessions == [0] * 40 + [1] * 30 + [2] * 30 + [3] * 30 + [0] * 30
    assert writers.stream.ended
    closed = [e.session for e in entries(writers.directory) if isinstance(e, SessionClosed)]
    assert sorted(closed) == [0, 1, 2, 3]
    assert not (writers.directory / "audit.key.next").exists()
    names = {path.name for path in writers.directory.iterdir()}
    segments = {one.path.name for one in find_segments(writers.directory, AUDIT)}
    assert names == segments | {"audit.key", "audit.pub"}
    held = (writers.directory / "audit.key").read_bytes()
    assert public_of(held) == verdict.next_key
    writers.die()


# -- what others do to the files


def test_a_torn_last_entry_stays_and_a_new_segment_goes_on(writers: Writers) -> None:
    writers.new()
    writers.put(20)
    writers.drain()
    writers.new_ring()
    path = writers.directory / segment_name(AUDIT, 1)
    os.truncate(path, path.stat().st_size - 5)
    writers.seq = 0
    writers.new()
    writers.put(5)
    writers.drain(end=True)
    assert sequence(writers.directory) == [1, 2, 3, 4, 5]
    assert len(find_segments(writers.directory, AUDIT)) == 2
    assert verify(writers.directory).code == WHOLE


def test_a_sync_that_fails_is_done_again_in_another_segment(
    writers: Writers, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers.new()
    writers.put(20)
    writers.drain()
    writers.put(10)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda fd: (_ for _ in ()).throw(OSError(5, "EIO")))
        with pytest.raises(OSError, match="EIO"):
            writers.stream.step()
    assert writers.stream.astray
    writers.stream.attach()
    writers.drain(end=True)
    assert verify(writers.directory).code == WHOLE
    seen = sequence(writers.directory)
    # What could not be synced may be there or not, so it is there again.
    assert list(dict.fromkeys(seen)) == writers.expected()
    assert len(find_segments(writers.directory, AUDIT)) == 2


def test_a_segment_that_is_removed_under_the_writer_shows(writers: Writers) -> None:
    writers.new()
    writers.put(20)
    writers.drain()
    (writers.directory / segment_name(AUDIT, 1)).unlink()
    writers.put(10)
    with pytest.raises(OSError, match="changed or removed"):
        writers.stream.step()
    writers.stream.attach()
    writers.drain(end=True)
    assert sequence(writers.directory) == list(range(21, 31))
    segments = find_segments(writers.directory, AUDIT)
    assert [one.number for one in segments] == [2]
    verdict = verify(writers.directory)
    assert any("before are gone" in note for note in verdict.notes)


def test_the_last_of_several_segments_that_is_removed_is_missing(tmp_path: Path) -> None:
    writers = Writers(tmp_path / "audit", Keeping(segment_bytes=500))
    writers.new()
    for _ in range(3):
        writers.put(30)
        writers.drain()
    (writers.directory / segment_name(AUDIT, 3)).unlink()
    writers.put(10)
    with pytest.raises(OSError, match="changed or removed"):
        writers.stream.step()
    writers.stream.attach()
    writers.drain(end=True)
    verdict = verify(writers.directory)
    assert verdict.code == TAMPERED
    assert "audit-00000003.seg is missing" in verdict.words
    writers.die()
    writers.ring.close()


@pytest.mark.parametrize("change", ["longer", "shorter", "bit"])
def test_a_segment_that_is_changed_between_two_writers_shows(writers: Writers, change: str) -> None:
    writers.new()
    for _ in range(3):
        writers.put(20)
        writers.drain()
    writers.die()
    path = writers.directory / segment_name(AUDIT, 1)
    data = bytearray(path.read_bytes())
    if change == "longer":
        data += b"\x06\x00\x08" + bytes(8)
    elif change == "shorter":
        del data[-300:]
    else:
        data[100] ^= 1
    path.write_bytes(data)
    writers.new()
    writers.put(20)
    writers.drain(end=True)
    assert sequence(writers.directory)[-20:] == list(range(61, 81))
    assert verify(writers.directory).code == TAMPERED


def test_after_tampering_another_asyd_still_records(writers: Writers) -> None:
    writers.new()
    writers.put(20)
    writers.drain(end=True)
    writers.new_ring()
    path = writers.directory / segment_name(AUDIT, 1)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    writers.new()
    assert "tampered" in " ".join(writers.said)
    writers.put(20)
    writers.drain(end=True)
    assert sequence(writers.directory)[-20:] == list(range(21, 41))
    assert verify(writers.directory).code == TAMPERED


@pytest.mark.parametrize("known", [True, False], ids=["same-writer", "another-writer"])
def test_a_directory_that_is_taken_away_is_made_again_and_the_chain_goes_on(
    writers: Writers, known: bool
) -> None:
    writers.new()
    stream = writers.stream
    writers.open(0)
    writers.put(20)
    writers.drain()
    before = writers.ring.position
    assert before is not None
    shutil.rmtree(writers.directory)
    writers.put(5)
    with pytest.raises(OSError, match=r"removed|taken away|No such file"):
        stream.step()
    with pytest.raises(Vanished):
        writers.place.check()
    if known:
        writers.place.take()
        stream.attach()
    else:
        writers.new()
    writers.drain(end=True)
    assert sequence(writers.directory) == list(range(21, 26))
    verdict = verify(writers.directory, anchor=(before.entries, before.h))
    assert verdict.code == WHOLE, verdict


def test_a_writer_that_comes_back_behind_another_goes_on_behind_it(writers: Writers) -> None:
    writers.new()
    writers.open(0)
    writers.put(10)
    writers.drain()
    first = writers.ring
    writers.die()
    writers.ring = Ring.create("test", 30_000)
    writers.new()
    writers.open(0)
    writers.put(10)
    writers.drain(end=True)
    writers.die()
    writers.ring.close()
    writers.ring = first
    writers.new()
    writers.put(10)
    writers.drain(end=True)
    assert sequence(writers.directory) == writers.expected()
    assert verify(writers.directory).code == WHOLE


def test_keys_that_are_taken_away_are_said_to_be(writers: Writers) -> None:
    writers.new()
    writers.put(10)
    writers.drain(end=True)
    writers.new_ring()
    (writers.directory / "audit.key").unlink()
    writers.new()
    assert "audit.key is not the key" in " ".join(writers.said)
    writers.put(10)
    writers.drain(end=True)
    assert verify(writers.directory).code == TAMPERED


def test_two_writers_do_not_share_a_directory(writers: Writers, tmp_path: Path) -> None:
    writers.new()
    said: list[str] = []

    class Waits(BaseException):
        pass

    def waits(words: str) -> None:
        said.append(words)
        raise Waits

    with pytest.raises(Waits):
        Place(writers.directory, append_only=False, say=waits).take()
    assert "another writer still has" in said[0]
