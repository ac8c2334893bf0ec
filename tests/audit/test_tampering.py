"""Whatever somebody does to either chain: it is found, or it looks like an open tail."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asys.audit.chain import HEADER_SIZE
from asys.audit.entries import Read, Reads, Refused
from asys.audit.segments import AUDIT, KINDS, READS, SegmentReader, find_segments, segment_name
from asys.audit.verify import OPEN, TAMPERED, WHOLE, verify
from support.audit_files import START_NS, AuditFiles

SEGMENTS: Final = 4

HALF: Final = 2
"""The anchor amid the chain stands at the end of this segment."""

Files = list[bytes]
"""The segments of a chain, in order."""


class Sample:
    """A chain that ends cleanly, its entries, and anchors at its end and amid it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.names = [segment_name(kind, number) for number in range(1, SEGMENTS + 1)]
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            files = AuditFiles(directory, kind)
            self.middle = (0, b"")
            for number in range(1, SEGMENTS + 1):
                files.segment()
                self._fill(files)
                if number == HALF:
                    self.middle = (files.chain.entries, files.chain.h)
            files.end()
            self.end = (files.chain.entries, files.chain.h)
            self.key = files.first_key
            self.public = (directory / f"{kind}.pub").read_bytes()
            self.data = [(directory / name).read_bytes() for name in self.names]
            self.entries: list[list[bytes]] = []
            for segment in find_segments(directory, kind):
                with SegmentReader(segment) as reader:
                    assert reader.read_header()
                    self.entries.append([one.data for one in reader.batch()])

    def _fill(self, files: AuditFiles) -> None:
        session = files.open()
        if self.kind == AUDIT:
            for seq in range(1, 4):
                files.act(session, seq, 0x20, 0x6982 if seq == 2 else 0x9000)
            files.checkpoint()
            files.act(session, 4, 0x22)
        else:
            files.add(Reads(session, (Read(START_NS // 10**9, 1, 0x9000, 7),)))
            files.add(Refused(4, 3, START_NS, START_NS, b"abcd"))
            files.checkpoint()
            files.add(Reads(session, tuple(Read(one, 2, 0x9000, 1) for one in range(3))))
        files.close(session)

    def put(self, directory: Path, files: Files | None = None) -> None:
        """Writes the chain, or what became of it; an empty one is removed."""
        (directory / f"{self.kind}.pub").write_bytes(self.public)
        for name, data in zip(self.names, self.data if files is None else files, strict=False):
            if data:
                (directory / name).write_bytes(data)


SAMPLES: Final = {kind: Sample(kind) for kind in KINDS}


# -- what somebody does

Draw = Callable[[st.SearchStrategy[Any]], Any]
"""Chooses something."""


def joined(sample: Sample, entries: list[list[bytes]]) -> Files:
    """Other entries behind the heads that are there."""
    heads = [data[:HEADER_SIZE] for data in sample.data]
    return [head + b"".join(some) for head, some in zip(heads, entries, strict=True)]


@st.composite
def places(draw: st.DrawFn, sample: Sample) -> tuple[int, int]:
    """A segment, and a byte in it."""
    number = draw(st.integers(0, SEGMENTS - 1))
    return number, draw(st.integers(0, len(sample.data[number]) - 1))


@st.composite
def spots(draw: st.DrawFn, sample: Sample) -> tuple[int, int]:
    """A segment, and an entry in it."""
    number = draw(st.integers(0, SEGMENTS - 1))
    return number, draw(st.integers(0, len(sample.entries[number]) - 1))


def flipped(draw: Draw, sample: Sample) -> Files:
    number, at = draw(places(sample))
    data = bytearray(sample.data[number])
    data[at] ^= 1 << draw(st.integers(0, 7))
    return [bytes(data) if n == number else one for n, one in enumerate(sample.data)]


def without_bytes(draw: Draw, sample: Sample) -> Files:
    number, at = draw(places(sample))
    at = max(at, 1)  # first segments that are gone may have been rotated away
    end = draw(st.integers(min(at + 1, len(sample.data[number])), len(sample.data[number])))
    data = sample.data[number]
    return [data[:at] + data[end:] if n == number else one for n, one in enumerate(sample.data)]


def with_bytes(draw: Draw, sample: Sample) -> Files:
    number, at = draw(places(sample))
    more = draw(st.binary(min_size=1, max_size=60))
    data = sample.data[number]
    return [
        data[:at] + more + data[at:] if n == number else one for n, one in enumerate(sample.data)
    ]


def cut(draw: Draw, sample: Sample) -> Files:
    number, at = draw(places(sample))
    at = max(at, 1)
    gone = draw(st.booleans())
    return [
        one if n < number else one[:at] if n == number else b"" if gone else one
        for n, one in enumerate(sample.data)
    ]


def removed(draw: Draw, sample: Sample) -> Files:
    entries = [list(some) for some in sample.entries]
    for number, index in sorted(
        draw(st.lists(spots(sample), min_size=1, max_size=3, unique=True)), reverse=True
    ):
        del entries[number][index]
    return joined(sample, entries)


def moved(draw: Draw, sample: Sample) -> Files:
    entries = [list(some) for some in sample.entries]
    number, index = draw(spots(sample))
    one = entries[number].pop(index)
    to = draw(st.integers(0, SEGMENTS - 1))
    entries[to].insert(draw(st.integers(0, len(entries[to]))), one)
    return joined(sample, entries)


def swapped(draw: Draw, sample: Sample) -> Files:
    entries = [list(some) for some in sample.entries]
    (n, i), (m, j) = draw(spots(sample)), draw(spots(sample))
    entries[n][i], entries[m][j] = entries[m][j], entries[n][i]
    return joined(sample, entries)


def doubled(draw: Draw, sample: Sample) -> Files:
    entries = [list(some) for some in sample.entries]
    number, index = draw(spots(sample))
    to = draw(st.integers(0, SEGMENTS - 1))
    entries[to].insert(draw(st.integers(0, len(entries[to]))), entries[number][index])
    return joined(sample, entries)


def segments_swapped(draw: Draw, sample: Sample) -> Files:
    return [sample.data[at] for at in draw(st.permutations(range(SEGMENTS)))]


def segment_gone(draw: Draw, sample: Sample) -> Files:
    number = draw(st.integers(1, SEGMENTS - 1))  # the first may have been rotated away
    return [b"" if n == number else one for n, one in enumerate(sample.data)]


WAYS: Final = (
    flipped,
    without_bytes,
    with_bytes,
    cut,
    removed,
    moved,
    swapped,
    doubled,
    segments_swapped,
    segment_gone,
)


@contextmanager
def both_chains(kind: str, files: Files) -> Iterator[Path]:
    """A directory in which one chain was changed, and the other was not."""
    with tempfile.TemporaryDirectory() as name:
        for one, sample in SAMPLES.items():
            sample.put(Path(name), files if one == kind else None)
        yield Path(name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_change_is_found_or_an_open_tail(
    way: Callable[[Draw, Sample], Files], kind: str, data: st.DataObject
) -> None:
    sample = SAMPLES[kind]
    files = way(data.draw, sample)
    changed = files != sample.data
    # What was only put behind the end leaves all that the anchors speak of.
    to_end = [one[: len(other)] for one, other in zip(files, sample.data, strict=True)]
    to_middle = files[:HALF] == sample.data[:HALF]
    with both_chains(kind, files) as directory:
        verdict = verify(directory, kind=kind)
        by_key = verify(directory, kind=kind, key=sample.key).code
        by_end = verify(directory, kind=kind, anchor=sample.end).code
        by_middle = verify(directory, kind=kind, anchor=sample.middle).code
        other = READS if kind == AUDIT else AUDIT
        assert verify(directory, kind=other).code == WHOLE
    bare = verdict.code
    if not changed:
        assert (bare, by_key, by_end, by_middle) == (WHOLE,) * 4
        return
    if bare == WHOLE and to_end == sample.data and files[-1] == sample.data[-1]:
        # A piece of an entry behind the end of an earlier segment, as a crash leaves it: it is no
        # part of the chain, of which nothing is missing.
        assert [note for note in verdict.notes if "never finished" in note]
        assert (by_key, by_end, by_middle) == (WHOLE,) * 3
        return
    assert bare in (TAMPERED, OPEN)
    assert by_key in (TAMPERED, OPEN)
    if to_end != sample.data:
        assert by_end == TAMPERED
    if not to_middle:
        assert by_middle == TAMPERED


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", range(SEGMENTS))
def test_a_piece_behind_a_segment_is_told_and_only_the_last_one_has_an_open_end(
    kind: str, number: int
) -> None:
    sample = SAMPLES[kind]
    files = [data + b"\0" * (n == number) for n, data in enumerate(sample.data)]
    with both_chains(kind, files) as directory:
        verdict = verify(directory, kind=kind)
    assert verdict.code == (OPEN if number == SEGMENTS - 1 else WHOLE)
    [note] = [note for note in verdict.notes if "never finished" in note]
    assert note.startswith(f"{sample.names[number]}, offset {len(sample.data[number])}: 1 bytes")


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_anywhere_looks_like_a_crash_and_no_anchor_is_deceived(kind: str) -> None:
    """Every single byte at which the last segment may be cut, and every one before it gone."""
    sample = SAMPLES[kind]
    for number in range(SEGMENTS):
        for at in range(1, len(sample.data[number]), 7):
            files = [*sample.data[:number], sample.data[number][:at]]
            with both_chains(kind, files) as directory:
                for later in sample.names[number + 1 :]:
                    (directory / later).unlink(missing_ok=True)
                assert verify(directory, kind=kind).code == OPEN
                assert verify(directory, kind=kind, anchor=sample.end).code == TAMPERED
                expected = WHOLE if number >= HALF else TAMPERED
                assert verify(directory, kind=kind, anchor=sample.middle).code == expected


def test_an_exchange_of_the_chains_is_found() -> None:
    """The files of one under the names of the other."""
    with tempfile.TemporaryDirectory() as name:
        for kind, other in ((AUDIT, READS), (READS, AUDIT)):
            (Path(name) / f"{kind}.pub").write_bytes(SAMPLES[kind].public)
            for ours, theirs in zip(SAMPLES[kind].names, SAMPLES[other].data, strict=True):
                (Path(name) / ours).write_bytes(theirs)
        for kind in KINDS:
            verdict = verify(Path(name), kind=kind)
            assert verdict.code == TAMPERED
            assert "not signed with the key that the chain began with" in verdict.words
