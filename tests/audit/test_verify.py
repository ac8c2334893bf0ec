"""What verify finds: every change, with and without a key or an anchor, and what it cannot know."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asys.audit.chain import HEADER_SIZE, CheckpointKeys, header
from asys.audit.entries import CleanEnd, Gap, Run
from asys.audit.records import EntryType
from asys.audit.segments import (
    READS,
    SegmentReader,
    find_segments,
    segment_name,
)
from asys.audit.verify import OPEN, TAMPERED, WHOLE, Tail, verify
from support.audit_files import START_NS, AuditFiles, usual

FIRST, SECOND, THIRD = (segment_name("audit", number) for number in (1, 2, 3))


def entries_of(directory: Path, number: int) -> list[bytes]:
    """The entries of a segment, each with type and length."""
    (segment,) = (one for one in find_segments(directory, "audit") if one.number == number)
    with SegmentReader(segment) as reader:
        assert reader.read_header()
        return [data for _, data in reader.batch()]


class Sample:
    """A whole audit of three segments, as bytes by file name, and the entries of each segment."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            self.files = usual(Path(name) / "audit")
            directory = self.files.directory
            self.data = {path.name: path.read_bytes() for path in directory.iterdir()}
            self.entries = {
                one.path.name: entries_of(directory, one.number)
                for one in find_segments(directory, "audit")
            }
        self.names = sorted(self.entries)
        self.anchor = (self.files.chain.entries, self.files.chain.h)
        self.first_key = self.files.first_key

    def joined(self, name: str, entries: list[bytes]) -> bytes:
        """A segment with other entries behind its own head."""
        return self.data[name][:HEADER_SIZE] + b"".join(entries)


SAMPLE = Sample()


@contextmanager
def changed(**by_name: bytes | None) -> Iterator[Path]:
    """The sample with other bytes, or nothing, in place of files; the names are s1, s2, s3, ..."""
    files: dict[str, bytes | None] = dict(SAMPLE.data)
    files |= {SAMPLE.names[int(name[1:]) - 1]: data for name, data in by_name.items()}
    with tempfile.TemporaryDirectory() as name:
        for file, data in files.items():
            if data is not None:
                Path(name, file).write_bytes(data)
        yield Path(name)


def codes(directory: Path) -> tuple[int, int]:
    """The verdict on a directory without and with the anchor of the whole sample."""
    return verify(directory).code, verify(directory, anchor=SAMPLE.anchor).code


places = st.integers(1, 3).flatmap(
    lambda number: st.tuples(
        st.just(number), st.integers(0, len(SAMPLE.data[SAMPLE.names[number - 1]]) - 1)
    )
)
spots = st.integers(1, 3).flatmap(
    lambda number: st.tuples(
        st.just(number), st.integers(0, len(SAMPLE.entries[SAMPLE.names[number - 1]]) - 1)
    )
)


# -- whole


def test_a_whole_audit_is_whole() -> None:
    with changed() as directory:
        for key in (None, SAMPLE.first_key):
            verdict = verify(directory, key=key)
            assert verdict.code == WHOLE
            assert verdict.words == (
                "whole to entry 26, clean end of 2026-09-21 14:13:20 UTC; 3 segments"
            )
            assert (verdict.entries, verdict.h) == SAMPLE.anchor
            assert verdict.anchor == SAMPLE.files.chain.anchor
            assert verdict.tail == Tail(0, 0)
            assert verdict.next_key == SAMPLE.files.keys.public
            assert verdict.notes == ()


def test_every_moment_of_the_past_is_an_anchor() -> None:
    with changed() as directory, tempfile.TemporaryDirectory() as other:
        files = AuditFiles(Path(other) / "audit")
        anchors = [(0, files.chain.h)]
        files.segment()
        for _ in range(3):
            files.add(Gap(1, 2, 3))
            anchors.append((files.chain.entries, files.chain.h))
        for anchor in anchors:
            verdict = verify(files.directory, anchor=anchor)
            assert verdict.code == WHOLE
            assert verdict.words == (
                f"whole to the anchor behind entry {anchor[0]}; 1 segment; no checkpoint covers "
                "what is behind the last one: 3 entries, 81 bytes"
            )
        assert verify(directory, anchor=anchors[2]).code == TAMPERED


# -- every change


@settings(max_examples=400, deadline=None)
@given(places, st.integers(0, 7))
def test_every_flipped_bit_is_found(place: tuple[int, int], bit: int) -> None:
    number, at = place
    data = bytearray(SAMPLE.data[SAMPLE.names[number - 1]])
    data[at] ^= 1 << bit
    with changed(**{f"s{number}": bytes(data)}) as directory:
        without, with_anchor = codes(directory)
    assert without in ((TAMPERED, OPEN) if number == 3 else (TAMPERED,))
    assert with_anchor == TAMPERED


@settings(max_examples=200, deadline=None)
@given(places)
def test_every_cut_is_found_or_an_open_tail(place: tuple[int, int]) -> None:
    number, at = place
    short = SAMPLE.data[SAMPLE.names[number - 1]][:at]
    with changed(**{f"s{number}": short}) as directory:
        assert codes(directory) == (OPEN if number == 3 else TAMPERED, TAMPERED)
    gone = {f"s{later}": None for later in range(number + 1, 4)}
    with changed(**{f"s{number}": short}, **gone) as directory:
        assert codes(directory) == (OPEN, TAMPERED)
        assert verify(directory, key=SAMPLE.first_key).code == OPEN


@settings(max_examples=200, deadline=None)
@given(spots)
def test_every_entry_that_is_taken_out_is_found(spot: tuple[int, int]) -> None:
    number, index = spot
    name = SAMPLE.names[number - 1]
    entries = list(SAMPLE.entries[name])
    del entries[index]
    with changed(**{f"s{number}": SAMPLE.joined(name, entries)}) as directory:
        last = number == 3 and index == len(entries)
        assert codes(directory) == (OPEN if last else TAMPERED, TAMPERED)


@settings(max_examples=200, deadline=None)
@given(spots, st.integers(0, 30))
def test_every_entry_that_stands_twice_is_found(spot: tuple[int, int], to: int) -> None:
    number, index = spot
    name = SAMPLE.names[number - 1]
    entries = list(SAMPLE.entries[name])
    again = min(to, len(entries))
    entries.insert(again, entries[index])
    with changed(**{f"s{number}": SAMPLE.joined(name, entries)}) as directory:
        appended = number == 3 and again == len(entries) - 1
        without, with_anchor = codes(directory)
    if not appended:
        assert (without, with_anchor) == (TAMPERED, TAMPERED)
    else:  # behind the clean end: the anchor vouches for what is before
        assert without in (OPEN, TAMPERED)


@settings(max_examples=200, deadline=None)
@given(spots, spots)
def test_entries_that_change_places_are_found(one: tuple[int, int], two: tuple[int, int]) -> None:
    lists = {name: list(entries) for name, entries in SAMPLE.entries.items()}
    first, second = lists[SAMPLE.names[one[0] - 1]], lists[SAMPLE.names[two[0] - 1]]
    if first[one[1]] == second[two[1]]:
        return
    first[one[1]], second[two[1]] = second[two[1]], first[one[1]]
    names = {f"s{n}": SAMPLE.joined(name, lists[name]) for n, name in enumerate(SAMPLE.names, 1)}
    with changed(**names) as directory:
        assert codes(directory) == (TAMPERED, TAMPERED)


@settings(max_examples=100, deadline=None)
@given(st.permutations([0, 1, 2]))
def test_segments_that_change_places_are_found(order: list[int]) -> None:
    names = {f"s{n}": SAMPLE.data[SAMPLE.names[at]] for n, at in enumerate(order, 1)}
    with changed(**names) as directory:
        expected = WHOLE if order == [0, 1, 2] else TAMPERED
        assert codes(directory) == (expected, expected)


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=200))
def test_bytes_behind_the_end_are_never_whole(data: bytes) -> None:
    with changed(s3=SAMPLE.data[THIRD] + data) as directory:
        assert verify(directory).code in (OPEN, TAMPERED)


def test_a_segment_in_the_middle_that_is_gone_is_found() -> None:
    with changed(s2=None) as directory:
        verdict = verify(directory)
        assert (verdict.code, verdict.words) == (
            TAMPERED,
            f"{SECOND} is missing, and {THIRD} is there",
        )


# -- words


def test_a_changed_entry_is_named_by_the_checkpoint_that_covers_it() -> None:
    entries = list(SAMPLE.entries[SECOND])
    entries[3] = entries[3][:-1] + bytes((entries[3][-1] ^ 1,))
    with changed(s2=SAMPLE.joined(SECOND, entries)) as directory:
        verdict = verify(directory)
    at = HEADER_SIZE + sum(map(len, entries[:5]))
    assert verdict.code == TAMPERED
    assert verdict.words == (
        f"{SECOND}, offset {at} (entry 6 of the file, 14 of the chain): the checkpoint does not "
        f"fit what is before it: something since the checkpoint at {SECOND}, offset {HEADER_SIZE}, "
        "was changed, taken out or put in"
    )


def test_a_change_behind_the_last_checkpoint_shows_at_the_next_segment() -> None:
    entries = SAMPLE.entries[FIRST][:-1]
    with changed(s1=SAMPLE.joined(FIRST, entries)) as directory:
        words = verify(directory).words
    assert words.startswith(f"{SECOND}, offset 9: the head does not go on from entry 7: something")
    assert words.endswith("was changed, or cut off the segment before")


@pytest.mark.parametrize(
    ("at", "byte", "words"),
    [
        (0, 0x42, f"{FIRST}, offset 0: it does not begin with ASAU"),
        (4, 2, f"{FIRST}, offset 4: its version is 2; this program knows 1"),
        (8, 9, f"{FIRST}, offset 5: its head says segment 9, its name another one"),
        (9, 1, f"{FIRST}, offset 9: the first segment must go on from 32 zero bytes"),
        (41, 99, f"{FIRST}, offset 41 (entry 1 of the file, 1 of the chain): 63 is no type"),
    ],
)
def test_a_bad_head_is_named(at: int, byte: int, words: str) -> None:
    data = bytearray(SAMPLE.data[FIRST])
    data[at] = byte
    with changed(s1=bytes(data)) as directory:
        verdict = verify(directory)
    assert verdict.code == TAMPERED
    assert verdict.words.startswith(words)


def test_a_cut_says_how_much_the_anchor_misses() -> None:
    with changed(s3=SAMPLE.joined(THIRD, SAMPLE.entries[THIRD][:-2])) as directory:
        verdict = verify(directory, anchor=SAMPLE.anchor)
        assert verdict.words == (
            "the anchor stands behind entry 26, and the chain ends behind entry 24: 2 entries are "
            "gone from its end"
        )
        verdict = verify(directory)
        assert verdict.tail.entries == 2
        assert verdict.tail.bytes == sum(map(len, SAMPLE.entries[THIRD][-4:-2]))
        assert verdict.words.startswith(
            f"open tail behind the last checkpoint: 2 entries, {verdict.tail.bytes} bytes; 3 seg"
        )


def test_an_anchor_of_another_chain_is_no_anchor() -> None:
    count, h = SAMPLE.anchor
    with changed() as directory:
        words = verify(directory, anchor=(count, bytes(31) + b"\1")).words
        assert words.startswith(f"{THIRD}, offset ")
        assert f"not the anchor's: something since the checkpoint at {THIRD}" in words
        verdict = verify(directory, anchor=(count - 1, h))
        assert verdict.code == TAMPERED


# -- keys


def test_a_checkpoint_that_somebody_else_signed_is_found(tmp_path: Path) -> None:
    files = usual(tmp_path / "audit", end=False)
    files.keys = CheckpointKeys.generate()
    files.checkpoint()
    for key in (None, files.first_key):
        verdict = verify(files.directory, key=key)
        assert verdict.code == TAMPERED
        assert "entry 25 of the chain" not in verdict.words
        assert verdict.words.endswith(
            "the checkpoint is not signed with the key that the one before it names"
        )


def test_a_whole_audit_of_somebody_else_is_found_by_the_key(tmp_path: Path) -> None:
    mine, other = usual(tmp_path / "mine"), usual(tmp_path / "other")
    assert verify(other.directory).code == WHOLE
    shutil.copy(mine.directory / "audit.pub", other.directory)
    verdict = verify(other.directory)
    assert verdict.code == TAMPERED
    assert verdict.words.endswith(
        "the checkpoint is not signed with the key that the chain began with"
    )
    verdict = verify(other.directory, key=mine.first_key)
    assert verdict.code == TAMPERED
    other.directory.joinpath("audit.pub").unlink()
    verdict = verify(other.directory, key=mine.first_key)
    assert verdict.code == TAMPERED
    assert verdict.words.startswith(f"the key {mine.first_key.hex()} signed no checkpoint here")


def test_any_key_that_signed_something_links_the_rest(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path / "audit")
    files.segment()
    later = files.keys.public
    files.add(Gap(1, 2, 3))
    files.checkpoint()
    files.end()
    for key in (files.first_key, later):
        verdict = verify(files.directory, key=key)
        assert (verdict.code, verdict.notes) == (WHOLE, ())


def test_a_run_of_pieces_is_found_also_in_an_open_tail(tmp_path: Path) -> None:
    files = usual(tmp_path / "audit", end=False)
    for body in (bytes(3), bytes(4), bytes(27)):
        whole = files.path.read_bytes()
        files.append(files.chain.add_body(EntryType.RUN, body))
        verdict = verify(files.directory)
        assert verdict.code == TAMPERED
        assert verdict.words.endswith("these are no whole records")
        files.path.write_bytes(whole)


def test_without_any_key_it_says_that_nothing_shows_who_signed() -> None:
    with changed() as directory:
        directory.joinpath("audit.pub").unlink()
        verdict = verify(directory)
        assert verdict.code == WHOLE
        assert verdict.notes == (
            f"{FIRST}, offset 41: nothing here shows who signed this first checkpoint",
        )
        assert verify(directory, key=SAMPLE.first_key).notes == ()
        directory.joinpath("audit.pub").write_text("no key\n")
        assert "audit.pub holds no public key" in verify(directory).notes


def test_a_key_that_has_signed_nothing_yet_proves_nothing() -> None:
    with changed() as directory:
        verdict = verify(directory, key=SAMPLE.files.keys.public)
        assert verdict.code == OPEN
        assert "not proven" in verdict.words
        assert "the given key has signed nothing yet, so it proves nothing" in verdict.notes
        whole = verify(directory, key=SAMPLE.files.keys.public, anchor=SAMPLE.anchor)
        assert whole.code == WHOLE


def test_the_writers_own_key_shows_a_cut_back_to_a_clean_end(tmp_path: Path) -> None:
    files = usual(tmp_path / "audit", segments=1)
    files.keep_key()
    assert verify(files.directory).code == WHOLE
    files.segment()
    files.add(Gap(1, 2, 3))
    files.end()
    files.keep_key()
    assert verify(files.directory).code == WHOLE
    files.path.unlink()
    verdict = verify(files.directory)
    assert verdict.code == TAMPERED
    assert verdict.words.startswith("the writer's key, audit.key, is named by no checkpoint here")
    files.directory.joinpath("audit.key").unlink()
    assert (
        verify(files.directory).code == WHOLE
    )  # what is left is a clean end: only an anchor helps


def test_the_writers_key_may_be_one_behind(tmp_path: Path) -> None:
    """It is replaced when the checkpoint is on the disk; a crash may come in between."""
    files = usual(tmp_path / "audit", segments=1, end=False)
    files.keep_key()
    files.checkpoint()
    assert verify(files.directory).code == OPEN
    early = AuditFiles(tmp_path / "early", publish=False)
    early.segment(checkpoint=False)
    early.keep_key()
    early.checkpoint()
    assert verify(early.directory).code == OPEN


@pytest.mark.parametrize("data", [bytes(32), b"short", b""])
def test_a_key_that_is_being_erased_is_no_key(data: bytes) -> None:
    with changed() as directory:
        directory.joinpath("audit.key").write_bytes(data)
        assert verify(directory).code == WHOLE


# -- segments that are gone, or were never finished


def test_first_segments_that_were_rotated_away_are_no_tampering(tmp_path: Path) -> None:
    files = usual(tmp_path / "audit", segments=2, end=False)
    later_key = files.keys.public
    for _ in range(2):
        files.segment()
        files.add(Gap(1, 2, 3))
    anchor = (files.chain.entries, files.chain.h)
    files.end()
    for name in (FIRST, SECOND):
        files.directory.joinpath(name).unlink()
    verdict = verify(files.directory)
    assert verdict.code == WHOLE
    assert (verdict.entries, verdict.h) == (files.chain.entries, files.chain.h)
    assert verdict.notes == (
        f"{THIRD}, offset 41: nothing here shows who signed this first checkpoint",
        f"it begins with {THIRD}: the segments before are gone, rotated away or taken away",
    )
    assert verify(files.directory, anchor=anchor).code == WHOLE
    linked = verify(files.directory, key=later_key)
    assert linked.code == WHOLE
    assert len(linked.notes) == 1
    assert verify(files.directory, key=files.first_key).code == TAMPERED
    old = verify(files.directory, anchor=(3, bytes(32)))
    assert old.code == OPEN
    assert "the anchor's entry was rotated away, so it proves nothing; take a newer one" in (
        old.notes
    )


def test_an_anchor_at_the_place_where_the_rest_begins_counts(tmp_path: Path) -> None:
    files = usual(tmp_path / "audit", segments=1)
    count, h = files.chain.entries, files.chain.h
    files.segment()
    files.directory.joinpath(FIRST).unlink()
    assert verify(files.directory, anchor=(count, h)).code == WHOLE
    assert verify(files.directory, anchor=(count, bytes(32))).code == TAMPERED
    assert verify(files.directory, anchor=(count - 1, bytes(32))).code == OPEN


def test_an_anchor_counts_where_no_checkpoint_does(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path / "audit")
    files.segment()
    files.add(CleanEnd(1))
    files.segment(checkpoint=False)
    files.add(Gap(1, 2, 3))
    anchor = (files.chain.entries, files.chain.h)
    files.add(Gap(1, 2, 3))
    files.directory.joinpath(FIRST).unlink()
    assert verify(files.directory).entries is None
    assert verify(files.directory).anchor is None
    verdict = verify(files.directory, anchor=anchor)
    assert (verdict.code, verdict.entries) == (WHOLE, files.chain.entries)
    files.checkpoint()
    assert verify(files.directory, anchor=(anchor[0] + 1, anchor[1])).code == TAMPERED


def test_what_was_never_finished_is_an_open_tail_and_then_left_behind(tmp_path: Path) -> None:
    files = usual(tmp_path / "audit", segments=1, end=False)
    for torn in (b"\x01", b"\x01\x00\x1c\x00", bytes(700)):
        whole = files.path.read_bytes()
        files.append(torn)
        verdict = verify(files.directory)
        assert verdict.code == OPEN
        assert verdict.notes == (
            f"{FIRST}, offset {len(whole)}: {len(torn)} bytes of an entry that was never finished",
        )
        assert verdict.entries == files.chain.entries
        files.path.write_bytes(whole)
    files.append(b"\x01\x00")
    for head in (b"", b"ASAU\x01\x00", bytes(20), header(2, files.chain.h)[:40]):
        files.directory.joinpath(SECOND).write_bytes(head)
        verdict = verify(files.directory)
        assert verdict.code == OPEN
        assert verdict.notes[-1] == f"{SECOND}: its head was never finished, so it holds nothing"
    files.chain.segment = 2
    files.segment()
    files.end()
    verdict = verify(files.directory, key=files.first_key)
    assert verdict.code == WHOLE
    assert len(verdict.notes) == 2


@pytest.mark.parametrize("head", [b"ASAX", b"ASAU\x01\x00\x00\x00\x02" + b"\x99" * 20])
def test_an_unfinished_head_must_be_that_head(tmp_path: Path, head: bytes) -> None:
    files = usual(tmp_path / "audit", segments=1)
    files.directory.joinpath(SECOND).write_bytes(head)
    assert verify(files.directory).code == TAMPERED


def test_who_has_begun_a_segment_has_not_ended(tmp_path: Path) -> None:
    files = usual(tmp_path / "audit", segments=1)
    files.segment(checkpoint=False)
    verdict = verify(files.directory)
    assert (verdict.code, verdict.tail) == (OPEN, Tail(0, HEADER_SIZE))


def test_zeros_amid_a_segment_are_no_unfinished_entry(tmp_path: Path) -> None:
    files = usual(tmp_path / "audit", segments=1, end=False)
    size = files.path.stat().st_size
    files.append(bytes(600_000) + b"\x01")
    verdict = verify(files.directory)
    assert verdict.code == TAMPERED
    assert verdict.words == f"{FIRST}, offset {size}: 00 is no type of entry"


# -- the directory


def test_an_empty_directory_proves_nothing(tmp_path: Path) -> None:
    verdict = verify(tmp_path)
    assert verdict.code == OPEN
    assert "nothing was recorded, or everything is gone" in verdict.words
    assert verify(tmp_path, anchor=(0, bytes(32))).code == OPEN
    assert verify(tmp_path, anchor=SAMPLE.anchor).code == TAMPERED


def test_other_files_are_passed_over() -> None:
    with changed() as directory:
        for name in (
            "audit-1.seg",
            "audit-00000004.seg.bak",
            "audit-000000004.seg",
            "audit-00000000.seg",
            "reads-00000009.seg",
            ".audit-00000004.seg",
            "audit-00000004.SEG",
        ):
            directory.joinpath(name).write_bytes(b"garbage")
        directory.joinpath("audit-0000000x.seg").mkdir()
        assert verify(directory).code == WHOLE


def test_what_cannot_be_read_is_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        verify(tmp_path / "none")
    files = usual(tmp_path / "audit", segments=1)
    files.directory.joinpath(SECOND).mkdir()
    with pytest.raises(OSError, match=r"."):
        verify(files.directory)
    files.directory.joinpath(SECOND).rmdir()
    os.mkfifo(files.directory / SECOND)
    with pytest.raises(OSError, match="is no regular file; move it away"):
        verify(files.directory)


def test_a_segment_that_is_rotated_away_meanwhile_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = usual(tmp_path / "audit")
    real = os.open
    begun: list[str] = []

    def rotating(path: str, flags: int) -> int:
        if not begun:
            begun.append(path)
            files.directory.joinpath(FIRST).unlink()
        return real(path, flags)

    monkeypatch.setattr("asys.audit.segments.os.open", rotating)
    verdict = verify(files.directory)
    assert verdict.code == WHOLE
    assert verdict.notes[-1].startswith(f"it begins with {SECOND}")


def test_the_chain_of_readings_stands_for_itself(tmp_path: Path) -> None:
    usual(tmp_path / "audit")
    reads = AuditFiles(tmp_path / "audit", READS)
    reads.segment()
    reads.end()
    assert verify(reads.directory, kind=READS, key=reads.first_key).code == WHOLE
    assert verify(reads.directory).code == WHOLE
    reads.path.write_bytes(b"x")
    assert verify(reads.directory, kind=READS).code == TAMPERED
    assert verify(reads.directory).code == WHOLE


def test_an_audit_larger_than_what_is_read_at_once(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path / "audit")
    files.segment()
    session = files.open()
    packed = files.record(1, 0x20, 0x9000).pack()
    for count in (1, 2700, 1000, 1, 2730, 2000) * 4:
        files.add(Run(session, packed * count))
    files.end()
    assert files.path.stat().st_size > 600_000
    assert verify(files.directory, key=files.first_key).code == WHOLE
    data = bytearray(files.path.read_bytes())
    data[len(data) // 2] ^= 1
    files.path.write_bytes(bytes(data))
    assert verify(files.directory).code == TAMPERED


def test_the_sample_has_what_these_tests_speak_of() -> None:
    assert SAMPLE.names == [FIRST, SECOND, THIRD]
    kinds = {data[0] for entries in SAMPLE.entries.values() for data in entries}
    assert kinds == {
        EntryType.RUN,
        EntryType.SESSION_OPENED,
        EntryType.SESSION_CLOSED,
        EntryType.CHECKPOINT,
        EntryType.CLEAN_END,
    }
    assert SAMPLE.files.now_ns > START_NS
