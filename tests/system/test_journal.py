"""The journal as a source of log entries: files that a real journald has written."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asys.isa import LogDetail, LogSource, LogSummary, SummaryFlags
from asys.node.platform.logs import logbook
from asys.node.platform.logs import wire as log_wire
from asys.node.platform.logs.journal import JournalSource
from asys.node.platform.logs.place import LogPlace
from asys.node.platform.logs.sd_journal import Library
from asys.node.platform.logs.worker import Reader
from asys.protocol.status import SW
from support.log_box import LogBox, descriptors, own_boot_id
from support.systemd_box import systemd_box_missing

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def log_box() -> Iterator[LogBox]:
    missing = systemd_box_missing()
    if missing:
        pytest.skip(f"a systemd of its own {missing}")
    box = LogBox()
    try:
        box.start()
        box.limits("8M")
        yield box
    finally:
        box.stop()


@pytest.fixture
def source(log_box: LogBox) -> Iterator[JournalSource]:
    before = descriptors()
    made = JournalSource(own_boot_id(), str(log_box.journal))
    yield made
    made.close()
    made.close()
    assert descriptors() == before


def entry(unit: str, message: bytes, **fields: bytes) -> dict[str, bytes]:
    return {"SYSLOG_IDENTIFIER": unit.encode(), "MESSAGE": message, **fields}


def summarize(
    source: JournalSource, priority: int = 7, window_s: int = 3600
) -> tuple[LogSummary, list[bytes]]:
    payload, cursors = logbook.summarize(source, window_s, priority, 32)
    return LogSummary.unpack(payload), cursors


def of(source: JournalSource, unit: str, priority: int = 7, window_s: int = 3600) -> list[object]:
    """Priority, repeats of each event of one unit."""
    found, _ = summarize(source, priority, window_s)
    return [(int(one.priority), one.repeats) for one in found.events if one.unit.raw == unit]


def cursor_of(source: JournalSource, unit: str) -> bytes:
    found, cursors = summarize(source)
    [cursor] = [
        cursor for one, cursor in zip(found.events, cursors, strict=True) if one.unit.raw == unit
    ]
    return cursor


def detail(source: JournalSource, cursor: bytes, before: int = 0, after: int = 0) -> LogDetail:
    payload = logbook.detail(source, cursor, before, after)
    assert payload is not None
    return LogDetail.unpack(payload)


def test_entries_merge_and_what_is_less_severe_is_left_out(
    log_box: LogBox, source: JournalSource
) -> None:
    log_box.write(
        *(entry("merge", b"again", PRIORITY=b"%d" % one) for one in (3, 4, 4, 2)),
        entry("merge", b"other", PRIORITY=b"3"),
        entry("merge", b"chat", PRIORITY=b"7"),
    )
    assert of(source, "merge", 3) == [(2, 2), (3, 1)]
    assert of(source, "merge", 4) == [(2, 4), (3, 1)]
    chat = next(one for one in source.newest_first(7, None) if one.unit == b"merge")
    assert (chat.priority, chat.message) == (7, b"chat")


def test_an_entry_without_a_priority_counts_as_info(log_box: LogBox, source: JournalSource) -> None:
    log_box.write(entry("none", b"one"), entry("none", b"two", PRIORITY=b"high"))
    assert of(source, "none", 5) == []
    assert of(source, "none", 6) == [(6, 1), (6, 1)]


def test_since_boot_and_windows(log_box: LogBox, source: JournalSource) -> None:
    log_box.write(entry("window", b"x", PRIORITY=b"1"))
    assert of(source, "window", window_s=0) == [(1, 1)]
    other = JournalSource(bytes(16), str(log_box.journal))
    assert summarize(other, window_s=0)[0].matched == 0
    assert of(other, "window") == [(1, 1)]
    other.close()
    later = time.time_ns() + 10_000_000_000
    payload, _ = logbook.summarize(source, 5, 7, 32, now_ns=lambda: later)
    assert LogSummary.unpack(payload).matched == 0


def test_bytes_that_are_no_text_and_messages_of_a_megabyte(
    log_box: LogBox, source: JournalSource
) -> None:
    log_box.write(
        entry("bytes", b"\xff\xfe\x00 \x1b[31m\nred", PRIORITY=b"0"),
        entry("large", b"m" * (1 << 20), PRIORITY=b"0"),
        entry("large", b"m" * (1 << 20), PRIORITY=b"0"),
        # They differ where nobody looks any more.
        entry("long", b"n" * 9000 + b"1", PRIORITY=b"0"),
        entry("long", b"n" * 9000 + b"2", PRIORITY=b"0"),
        entry("long", b"n" * 8000 + b"3", PRIORITY=b"0"),
    )
    assert of(source, "large", 0) == [(0, 2)]
    assert of(source, "long", 0) == [(0, 1), (0, 2)]
    [strange] = detail(source, cursor_of(source, "bytes")).entries
    assert strange.message.raw == "\ufffd\ufffd\x00 \x1b[31m\nred"
    [large] = detail(source, cursor_of(source, "large")).entries
    assert large.message.raw == "m" * 1024
    assert large.flags == 1


def test_names_of_units(log_box: LogBox, source: JournalSource) -> None:
    log_box.write(
        {"MESSAGE": b"nobody says who", "PRIORITY": b"0"},
        entry("é" * 30, b"long name", PRIORITY=b"0"),
        entry("", b"empty name", PRIORITY=b"0"),
        {"PRIORITY": b"0", "SYSLOG_IDENTIFIER": b"wordless"},
    )
    found, _ = summarize(source, 0)
    units = [one.unit.raw for one in found.events]
    assert "é" * 16 in units
    assert os.path.basename(os.path.realpath(shutil.which("python3") or "python"))[:6] in "".join(
        units
    )
    assert "wordless" in units


def test_neighbours_in_the_whole_journal(log_box: LogBox, source: JournalSource) -> None:
    log_box.write(
        entry("before", b"two before", PRIORITY=b"7"),
        entry("else", b"one before"),
        entry("event", b"the event", PRIORITY=b"2"),
        entry("else", b"one after", PRIORITY=b"6"),
        entry("after", b"two after"),
    )
    cursor = cursor_of(source, "event")
    found = detail(source, cursor, 2, 2)
    assert [one.message.raw for one in found.entries] == [
        "two before",
        "one before",
        "the event",
        "one after",
        "two after",
    ]
    assert (found.index, found.count) == (2, 5)
    assert found.entries[2].pid > 0
    assert found.entries[2].priority == 2
    alone = detail(source, cursor)
    assert (alone.index, alone.count) == (0, 1)
    most = detail(source, cursor, 30, 30)
    assert most.entries[most.index].message.raw == "the event"
    assert most.index <= 30


@pytest.mark.parametrize("cursor", [b"", b"x", b"kmsg:00:1", b"s=1;i=1;b=1;m=1;t=1;x=1"])
def test_what_is_no_entry(source: JournalSource, cursor: bytes) -> None:
    assert logbook.detail(source, cursor, 1, 1) is None


def test_rotation_and_vacuum_while_it_is_open(log_box: LogBox, source: JournalSource) -> None:
    log_box.write(entry("rotated", b"x", PRIORITY=b"1"))
    cursor = cursor_of(source, "rotated")
    log_box.run("journalctl", "--rotate")
    log_box.write(entry("rotated", b"x", PRIORITY=b"1"), entry("younger", b"y", PRIORITY=b"1"))
    assert of(source, "rotated", 1) == [(1, 2)]
    assert detail(source, cursor).entries[0].message.raw == "x"
    younger = cursor_of(source, "younger")
    log_box.run("journalctl", "--rotate")
    log_box.run("journalctl", "--vacuum-files=1")
    log_box.write(entry("youngest", b"z", PRIORITY=b"1"))
    for gone in (cursor, younger):
        assert logbook.detail(source, gone, 3, 3) is None
    assert of(source, "rotated", 1) == []
    assert of(source, "youngest", 1) == [(1, 1)]
    # Nothing that has been removed is still open.
    targets = [os.readlink(f"/proc/self/fd/{fd}") for fd in _open_files()]
    assert not [one for one in targets if ".journal" in one and "deleted" in one]


def _open_files() -> list[str]:
    return [fd for fd in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{fd}")]


def copied(log_box: LogBox, path: Path) -> list[Path]:
    """The journal's files, as they are now, in a directory that a test may harm."""
    log_box.run("journalctl", "--rotate")
    shutil.copytree(log_box.journal, path, dirs_exist_ok=True)
    return sorted(path.glob("*.journal"))


def test_a_damaged_file_does_not_keep_the_others(log_box: LogBox, tmp_path: Path) -> None:
    log_box.write(*(entry("harmed", b"%d" % one, PRIORITY=b"1") for one in range(200)))
    files = copied(log_box, tmp_path)
    archived = max((one for one in files if "@" in one.name), key=lambda one: one.stat().st_mtime)
    size = archived.stat().st_size
    with archived.open("r+b") as file:
        for offset in range(4096, size, 512):
            file.seek(offset)
            file.write(b"\xa5" * 256)
    log_box.write(entry("whole", b"fine", PRIORITY=b"1"))
    shutil.copy(log_box.journal / "system.journal", tmp_path / "system.journal")
    source = JournalSource(own_boot_id(), str(tmp_path))
    for _ in range(3):
        found, cursors = summarize(source)
        assert "whole" in [one.unit.raw for one in found.events]
        for cursor in cursors:
            logbook.detail(source, cursor, 30, 30)
    source.close()


def test_no_journal_at_all(tmp_path: Path) -> None:
    source = JournalSource(own_boot_id(), str(tmp_path))
    found, cursors = summarize(source)
    assert (found.matched, found.count, cursors) == (0, 0, [])
    assert (found.source, found.flags) == (LogSource.JOURNAL, SummaryFlags(0))
    source.close()
    # Closed or not, a question opens it anew.
    assert summarize(source)[0].count == 0
    source.close()
    with pytest.raises(OSError, match="No such file"):
        JournalSource(own_boot_id(), str(tmp_path / "none"))


def test_an_error_closes_it_and_the_next_question_opens_it_anew(
    log_box: LogBox, source: JournalSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_box.write(entry("again", b"x", PRIORITY=b"1"))
    cursor = cursor_of(source, "again")
    library = source._library
    for function in ("previous", "next", "process", "get_realtime_usec"):
        with monkeypatch.context() as patched:
            patched.setattr(library, function, lambda *_: -5)
            if function == "process":
                assert of(source, "again", 1) == [(1, 1)]  # it is opened anew at once
                continue
            with pytest.raises(OSError, match="Input/output"):
                logbook.detail(source, cursor, 1, 1) if function == "next" else summarize(source)
        assert of(source, "again", 1) == [(1, 1)]
    with monkeypatch.context() as patched:
        patched.setattr(library, "get_data", lambda *_: -74)  # a field that is damaged
        assert detail(source, cursor).entries[0].message.raw == ""
    before = descriptors()
    with monkeypatch.context() as patched:
        patched.setattr(Library, "__init__", lambda _: None)
        patched.setattr(Library, "__getattr__", lambda _, name: getattr(library, name))
        patched.setattr(library, "get_fd", lambda *_: -24)
        with pytest.raises(OSError, match="Too many open files"):
            JournalSource(own_boot_id(), str(log_box.journal))
    assert descriptors() == before


def test_the_program_answers_from_this_machine_s_journal_if_it_has_one() -> None:
    reader = Reader(LogPlace.JOURNAL.value)
    answer = log_wire.read_answer(reader.answer(log_wire.summary(60, 7, 1)))
    assert answer.sw == SW.SUCCESS
    assert LogSummary.unpack(answer.payload).source == LogSource.JOURNAL
    gone = log_wire.read_answer(reader.answer(log_wire.detail(b"s=1;i=1", 1, 1)))
    assert gone.sw == SW.INVALID_PAYLOAD
    assert "not there any more" in gone.reason


def test_the_program_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Library) -> None:
        raise OSError("libsystemd.so.0: cannot open shared object file")

    monkeypatch.setattr(Library, "__init__", missing)
    reader = Reader(LogPlace.JOURNAL.value)
    answer = log_wire.read_answer(reader.answer(log_wire.summary(60, 7, 1)))
    assert (answer.sw, answer.payload) == (SW.NOT_SUPPORTED, b"")
    monkeypatch.undo()
    answer = log_wire.read_answer(reader.answer(log_wire.summary(60, 7, 1)))
    assert answer.sw == SW.SUCCESS
