"""The parameter journal on its way: from what sessions call, through its ring, to its files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.audit.parameters import (
    DIRECTORY,
    MAX_PAYLOAD,
    Lost,
    Parameters,
    file_name,
    heading,
    parse_line,
)
from asys.audit.records import digest
from asys.node.audit import parameters as module
from asys.node.audit.journaled_log import JournaledLog
from asys.node.audit.log import DEGRADED
from asys.node.audit.parameters import (
    ENTRY,
    ENTRY_HEAD,
    LOST,
    LOST_BODY,
    Journal,
    ParameterKeeping,
    lines_of,
)
from asys.node.audit.place import Place
from asys.node.audit.ring import RESERVE, Position, Ring
from asys.protocol.apdu import Frame
from support.audit import KEY, small_rings
from support.clock import ManualClock
from support.loop_disk import LoopDisk, fill, loop_disk_missing

HASH = digest(KEY)
NOW = 1_700_000_000 * 10**9
DAY = 86_400


@pytest.fixture
def ring() -> Iterator[Ring]:
    made = Ring.create("test-parameters", 2000)
    yield made
    made.close()


def found(lines: bytes) -> list[Parameters | Lost]:
    return [parse_line(line) for line in lines.splitlines()]


# -- asyd's side


class Rig:
    """A log that keeps parameters, and the rings that it fills."""

    def __init__(self, journal: Ring) -> None:
        self.clock = ManualClock()
        self.doing, self.reading = small_rings(200)
        self.journal = journal
        self.log = JournaledLog(self.clock, self.doing, self.reading, journal)
        self.session = self.log.open_session(KEY, "label", 1, "peer")

    def act(self, seq: int, payload: bytes = b"", *, refused: bool = False) -> None:
        self.log.frame = Frame(0x84, 0x20, 1, 2, payload)
        if not refused:
            assert self.log.intent(self.session, 0x84, 0x20, seq, payload)
            self.clock.skip(0.5)
        self.log.frame = Frame(0x84, 0x20, 1, 2, payload)
        sw = 0x6982 if refused else 0x9000
        self.log.outcome(self.session, 0x84, 0x20, seq, payload, sw, intended=not refused)

    def taken(self) -> list[Parameters | Lost]:
        """As a writer that gets all of it to the disk."""
        lines, slots = lines_of(self.journal.peek(self.journal.tail, 10_000))
        assert self.journal.tail + slots == self.journal.head
        self.journal.position = Position(self.journal.head, 0, 1, 1, 0, bytes(32))
        return found(lines)


@pytest.fixture
def rig(ring: Ring) -> Iterator[Rig]:
    made = Rig(ring)
    yield made
    made.doing.close()
    made.reading.close()


def test_an_instruction_has_one_entry_with_the_time_of_its_first_record(rig: Rig) -> None:
    rig.act(1, b"first")
    rig.clock.skip(1.0)
    rig.act(2, b"second", refused=True)
    assert rig.taken() == [
        Parameters(NOW, HASH, 0x84, 0x20, 1, 2, 1, 5, b"first"),
        Parameters(NOW + 1_500_000_000, HASH, 0x84, 0x20, 1, 2, 2, 6, b"second"),
    ]


def test_a_long_payload_is_cut(rig: Rig) -> None:
    payload = os.urandom(MAX_PAYLOAD + 1)
    rig.act(1, payload)
    rig.act(2, payload[:-1])
    one, two = rig.taken()
    assert isinstance(one, Parameters)
    assert isinstance(two, Parameters)
    assert (one.payload, one.length, one.is_cut) == (payload[:-1], MAX_PAYLOAD + 1, True)
    assert (two.payload, two.length, two.is_cut) == (payload[:-1], MAX_PAYLOAD, False)


def test_what_nobody_can_match_is_not_kept(rig: Rig) -> None:
    """An intent that was not taken; the end of a task; a session that nobody knows."""
    while rig.log.intent(rig.session, 0x84, 0x20, 1, b""):
        pass
    rig.log.frame = Frame(0x84, 0x20, 1, 2, b"")
    assert not rig.log.intent(rig.session, 0x84, 0x20, 2, b"")
    rig.log.task_end(rig.session, 0x20, 1, bytes(4), 2)
    rig.log.frame = Frame(0x84, 0x20, 1, 2, b"")
    rig.log.outcome(99, 0x84, 0x20, 3, b"", 0x6400)
    assert rig.taken() == []


def test_a_full_ring_refuses_nothing_and_shows_as_a_gap(rig: Rig) -> None:
    payload = bytes(1000)
    kept = 0
    while rig.journal.head + 33 <= rig.journal.slots - RESERVE:
        rig.act(kept + 1, payload)
        kept += 1
    first = rig.clock.time_ns()
    rig.act(1000, payload)
    rig.act(1001, payload)  # both run, and neither is kept
    last = rig.clock.time_ns() - 500_000_000
    assert not rig.log.flags
    entries = rig.taken()
    assert [one.seq for one in entries if isinstance(one, Parameters)] == list(range(1, kept + 1))
    rig.act(1002)
    gaps = [one for one in (*entries, *rig.taken()) if isinstance(one, Lost)]
    assert sum(one.entries for one in gaps) == rig.log.left_out == 2
    assert (gaps[0].first_ns, gaps[-1].last_ns) == (first, last)


@pytest.mark.parametrize("way", ["tick", "close"])
def test_a_gap_is_told_also_when_nothing_comes_after_it(rig: Rig, way: str) -> None:
    payload = bytes(MAX_PAYLOAD)
    for seq in range(20):
        rig.act(seq, payload)
    kept = len(rig.taken())
    assert kept < 20
    if way == "tick":
        rig.clock.advance(0.1)
    else:
        rig.log.close()
    assert [type(one) for one in rig.taken()] == [Lost]


def test_a_gap_that_has_no_room_is_tried_again(rig: Rig) -> None:
    for seq in range(20):
        rig.act(seq, bytes(MAX_PAYLOAD))
    while rig.journal.put(9, 0, b""):
        pass
    for ring in (rig.doing, rig.reading):
        ring.position = Position(ring.head, 0, 1, 41, 0, bytes(32))
    rig.clock.advance(1.0)
    rig.act(20)
    entries = rig.taken()
    rig.clock.advance(0.1)  # nothing comes any more
    entries += rig.taken()
    kept = sum(isinstance(one, Parameters) for one in entries)
    lost = sum(one.entries for one in entries if isinstance(one, Lost))
    assert 0 < kept < 21
    assert kept + lost == 21


def test_only_a_journal_that_fails_raises_the_flag(rig: Rig) -> None:
    seen = [rig.log.flags]
    for flag in (1, 0):
        rig.journal.flags = flag
        seen.append(rig.log.flags)
    assert seen == [0, DEGRADED, 0]


# -- the form in the ring


entries = st.builds(
    lambda time_ns, codes, seq, payload: Parameters(
        time_ns,
        codes[:4],
        codes[4],
        codes[5],
        codes[6],
        codes[7],
        seq,
        len(payload),
        payload,
    ),
    st.integers(0, 1 << 63),
    st.binary(min_size=8, max_size=8),
    st.integers(0, 0xFFFFFFFF),
    st.binary(max_size=200),
)
gaps = st.builds(Lost, st.integers(1, 1 << 63), st.integers(0, 1 << 63), st.integers(0, 1 << 63))


def put(ring: Ring, one: Parameters | Lost) -> None:
    if isinstance(one, Lost):
        assert ring.put(LOST, 0, LOST_BODY.pack(*one))
    else:
        assert ring.put(ENTRY, 0, ENTRY_HEAD.pack(*one[:8]) + one.payload)


@given(st.lists(st.one_of(entries, gaps), max_size=30), st.integers(0, 300))
def test_slots_become_lines_and_a_message_that_is_cut_waits(
    wanted: list[Parameters | Lost], most: int
) -> None:
    ring = Ring.create("test-parameters", 2000)
    try:
        ends = []
        for one in wanted:
            put(ring, one)
            ends.append(ring.head)
        lines, slots = lines_of(ring.peek(0, most))
        whole = sum(end <= most for end in ends)
        assert found(lines) == wanted[:whole]
        assert slots == ([0, *ends])[whole]
        rest, more = lines_of(ring.peek(slots, 10_000))
        assert found(rest) == wanted[whole:]
        assert slots + more == ring.head
    finally:
        ring.close()


# -- the files


class Files:
    """A place with a journal, and an asyd that puts entries into its ring."""

    def __init__(self, directory: Path, ring: Ring) -> None:
        self.ring = ring
        self.words: list[str] = []
        self.place = Place(directory, append_only=False, say=self.words.append)
        self.place.take(parents=True)
        self.directory = directory / DIRECTORY
        self.journal = self.made()
        self.seq = 0

    def made(self, keeping: ParameterKeeping | None = None) -> Journal:
        """A writer that takes over."""
        made = Journal(self.place, self.ring, keeping or ParameterKeeping(), self.words.append)
        made.take()
        return made

    def put(self, count: int = 1) -> None:
        for _ in range(count):
            self.seq += 1
            put(self.ring, Parameters(self.seq, HASH, 4, 0x20, 0, 0, self.seq, 3, b"abc"))

    @property
    def names(self) -> list[str]:
        return sorted(os.listdir(self.directory))

    @property
    def seqs(self) -> list[int]:
        """Of all entries in all files, in order."""
        return [
            one.seq
            for name in self.names
            for one in found((self.directory / name).read_bytes().partition(b"\n")[2])
            if isinstance(one, Parameters)
        ]

    def path(self, number: int) -> Path:
        return self.directory / file_name(number)

    def all(self) -> list[int]:
        return list(range(1, self.seq + 1))


@pytest.fixture
def files(tmp_path: Path, ring: Ring) -> Iterator[Files]:
    made = Files(tmp_path / "audit", ring)
    yield made
    made.journal.let_go()
    made.place.leave()


def test_nothing_is_made_for_nothing(files: Files) -> None:
    assert not files.journal.step()
    files.journal.finish()
    assert not files.directory.exists()
    silent = Journal(files.place, None, ParameterKeeping(), files.words.append)
    silent.take()
    assert not silent.step()
    silent.finish()
    silent.expire(time.time())
    assert files.words == []


def test_entries_are_written_for_their_owner_alone(files: Files) -> None:
    files.put(3)
    assert files.journal.step()
    assert not files.journal.step()
    assert files.seqs == files.all()
    assert files.directory.stat().st_mode & 0o777 == 0o700
    assert files.path(1).stat().st_mode & 0o777 == 0o600
    assert files.ring.tail == files.ring.head


def test_it_is_synced_within_its_time_and_at_its_end(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(module, "sync", synced.append)
    files.put()
    files.journal.step()
    assert not synced
    monkeypatch.setattr(module, "SYNC_SECONDS", 0.0)
    files.put()
    files.journal.step()  # the time counts from the first write that was not synced
    files.journal.finish()
    assert len(synced) == 1
    files.put()
    files.journal.step()
    assert len(synced) == 2
    files.journal.finish()
    assert len(synced) == 2


@pytest.mark.parametrize("torn", [b"", b"17 abc", b"1 61626364 04 20 00 00 4 3 616263\n"])
def test_a_writer_that_takes_over_goes_on_where_the_ring_says(files: Files, torn: bytes) -> None:
    """What was written and is not counted in the ring is written again, and stands once."""
    files.put(3)
    files.journal.step()
    with files.path(1).open("ab") as file:
        file.write(torn)
    files.journal.let_go()
    files.journal = files.made()
    files.put(3)
    files.journal.step()
    assert files.seqs == files.all()
    assert files.names == [file_name(1)]


@pytest.mark.parametrize("torn", [b"", b"17 abc"])
def test_another_asyd_goes_on_behind_the_last_whole_line(files: Files, torn: bytes) -> None:
    files.put(3)
    files.journal.finish()
    files.ring.close()
    with files.path(1).open("ab") as file:
        file.write(torn)
    files.ring = Ring.create("test-parameters", 2000)
    files.journal = files.made()
    files.put(3)
    files.journal.finish()
    assert files.seqs == files.all()
    assert files.names == [file_name(1)]


def shortened(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2] + lines[3:]))


def replaced(path: Path) -> None:
    new = path.with_name("new")
    new.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    new.rename(path)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def removed(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [shortened, replaced, emptied, removed])
@pytest.mark.parametrize("open_", [True, False])
def test_a_file_that_somebody_has_changed_is_left_as_it_is(
    files: Files, change: Callable[[Path], None], open_: bool
) -> None:
    files.put(3)
    files.journal.step()
    change(files.path(1))
    left = files.path(1).read_bytes() if files.path(1).exists() else None
    if not open_:
        files.journal.let_go()
        files.journal = files.made()
    files.put(2)
    files.journal.step()
    if left is not None and not (change is replaced and not open_):
        assert files.path(1).read_bytes() == left
        assert files.names == [file_name(1), file_name(2)]
    assert files.seqs[-2:] == [4, 5]


def test_a_directory_that_is_removed_is_made_again(files: Files) -> None:
    files.put(3)
    files.journal.step()
    files.path(1).unlink()
    files.directory.rmdir()
    files.put(3)
    files.journal.step()
    assert files.seqs == [4, 5, 6]
    assert not files.ring.flags


def test_a_new_file_begins_when_one_is_large_or_a_day_old(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.journal = files.made(ParameterKeeping(file_bytes=100))
    for _ in range(6):
        files.put(5)
        files.journal.step()
    assert len(files.names) == 6
    assert files.seqs == files.all()
    now = time.time()
    monkeypatch.setattr("asys.node.audit.parameters.time.time", lambda: now + DAY + 60)
    files.put()
    files.journal.step()
    assert len(files.names) == 7
    monkeypatch.setattr("asys.node.audit.parameters.time.time", lambda: now - 60)
    files.put()
    files.journal.step()
    assert len(files.names) == 8
    assert files.seqs == files.all()


def test_what_is_too_old_goes_also_when_nobody_writes_any_more(files: Files) -> None:
    files.journal = files.made(ParameterKeeping(file_bytes=1))
    for _ in range(3):
        files.put()
        files.journal.step()
    now = time.time()
    os.utime(files.path(1), (now - 8 * DAY, now - 8 * DAY))
    (files.directory / "notes").write_text("an admin's")
    files.journal.expire(now)
    assert files.names == ["notes", file_name(2), file_name(3)]
    assert files.words == [f"parameters/{file_name(1)} is older than 7 days: removed"]
    files.journal.expire(now + 9 * DAY)  # also the one that it has open
    assert files.names == ["notes"]
    files.put()
    files.journal.step()
    assert files.names == ["notes", file_name(4)]
    files.journal.let_go()
    silent = Journal(files.place, None, ParameterKeeping(days=1), files.words.append)
    silent.expire(now + 3 * DAY)
    assert files.names == ["notes"]
    silent.let_go()


def test_there_are_never_too_many_files(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 4)
    files.journal = files.made(ParameterKeeping(file_bytes=1))
    for _ in range(9):
        files.put()
        files.journal.step()
    assert files.seqs == [6, 7, 8, 9]
    assert f"parameters/{file_name(1)} is one too many: removed" in files.words


def test_numbers_go_on_behind_what_is_there(files: Files) -> None:
    files.directory.mkdir()
    files.path(7).write_bytes(b"no journal\n")
    files.path(8).mkdir()
    files.put()
    files.journal.step()
    assert files.path(9).exists()
    assert files.path(7).read_bytes() == b"no journal\n"


def test_a_file_from_before_is_not_gone_on_in_when_it_is_old(files: Files) -> None:
    files.directory.mkdir()
    files.path(1).write_bytes(heading(int(time.time()) - DAY - 1))
    files.put()
    files.journal.step()
    assert files.names == [file_name(1), file_name(2)]


def again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)


def test_an_error_shows_and_what_waits_is_written_later(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.directory.write_text("in the way")
    files.put(3)
    for _ in range(3):
        assert not files.journal.step()
    assert files.ring.flags
    assert files.ring.tail == 0
    assert len(files.words) == 1
    assert files.words[0].startswith("the parameter journal cannot be written: ")
    again(monkeypatch)
    assert not files.journal.step()
    assert len(files.words) == 1
    files.directory.unlink()
    assert files.journal.step()
    assert not files.ring.flags
    assert files.words[1:] == ["the parameter journal is written again"]
    assert files.seqs == files.all()


def test_at_the_end_an_error_is_told_and_nobody_waits(files: Files) -> None:
    files.directory.write_text("in the way")
    files.put()
    files.journal.finish()
    assert len(files.words) == 1
    files.journal.expire(time.time())
    assert files.words[1].startswith("old parameters cannot be removed: ")


@pytest.mark.root
@pytest.mark.skipif(bool(loop_disk_missing()), reason=loop_disk_missing())
def test_a_full_disk_leaves_no_half_of_a_line(
    tmp_path: Path, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    again(monkeypatch)
    place = tmp_path / "disk"
    place.mkdir()
    with LoopDisk(place) as disk:
        files = Files(disk.small / "audit", ring)
        try:
            files.put(3)
            files.journal.step()
            fill(disk.small)
            files.put(700)
            assert not files.journal.step()
            assert ring.flags
            (disk.small / "filler").unlink()
            assert files.journal.step()
            assert files.seqs == files.all()
            assert files.names == [file_name(1)]
            # The head of a file has to fit as well.
            files.journal.let_go()
            files.path(1).unlink()
            fill(disk.small)
            files.put()
            assert not files.journal.step()
            assert files.names == []
            (disk.small / "filler").unlink()
            assert files.journal.step()
            assert len(files.seqs) == 1
        finally:
            files.journal.let_go()
            files.place.leave()


@pytest.mark.root
@pytest.mark.skipif(bool(loop_disk_missing()), reason=loop_disk_missing())
def test_a_disk_of_its_own_is_refused(tmp_path: Path, ring: Ring) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    with LoopDisk(place) as disk:
        files = Files(disk.small / "audit", ring)
        try:
            files.directory.mkdir()
            disk._run("mount", "-t", "tmpfs", "asys-test", "small/audit/parameters")
            files.put()
            assert not files.journal.step()
            assert ring.flags
            assert "it must be on the file system of the audit" in files.words[0]
            disk._run("umount", "small/audit/parameters")
        finally:
            files.journal.let_go()
            files.place.leave()
