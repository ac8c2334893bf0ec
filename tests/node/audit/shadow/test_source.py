"""What is read of a chain, from wherever a collector stands; and what of it is not a chain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.audit.chain import HEADER_SIZE
from asys.audit.entries import Payload
from asys.audit.push import MAX_BYTES, Stands
from asys.audit.segments import AUDIT, segment_name
from asys.node.audit.ring import Position
from asys.node.audit.shadow.source import Astray, Source
from support.audit_files import AuditFiles
from support.shadow_collector import Kept
from support.shadow_files import Written, same, shipped

NOWHERE = Stands(AUDIT, 0, 0, 0, bytes(32))


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    written = Written(tmp_path / "audit")
    yield written
    written.ring.close()


def source_of(written: AuditFiles) -> Source:
    return Source(written.directory, written.kind)


def file_of(written: AuditFiles, number: int) -> Path:
    return written.directory / segment_name(written.kind, number)


def test_all_of_it(written: Written) -> None:
    written.some(3)
    source, kept = source_of(written), Kept()
    assert source.begin()
    shipped(source, written.mark(), kept)
    same(kept, written)
    assert source.read(written.mark()) == []
    written.act(0, 9, 0x20)
    shipped(source, written.mark(), kept)
    same(kept, written)
    source.leave()
    assert source.cursor is None
    assert source.read(written.mark()) == []


def test_nothing_behind_the_mark_is_read(written: Written) -> None:
    """What is there may not be synced yet."""
    written.some(1)
    mark = written.mark()
    written.act(0, 9, 0x20)
    source, kept = source_of(written), Kept()
    source.begin()
    shipped(source, mark, kept)
    assert (kept.count, kept.h) == (mark.entries, mark.h)


def test_there_is_nothing_yet(written: Written) -> None:
    source = source_of(written)
    assert not source.begin()
    written.some(1)
    assert not source.begin(2)
    assert source.begin(1)


def test_from_every_place(written: Written) -> None:
    written.some(3, entries=3)
    places = written.places()
    assert len(places) == written.chain.entries + 1
    source = source_of(written)
    for place in places[1:]:
        assert source.stand(place, written.mark())
        cursor = source.cursor
        assert cursor is not None
        assert cursor[2:] == (place.count, place.h)
        assert cursor[:2] == (place.segment, place.offset)


@given(data=st.data())
def test_a_place_that_is_none(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    written = Written(tmp_path_factory.mktemp("place") / "audit")
    written.some(2, entries=2)
    place = data.draw(st.sampled_from(written.places()[1:]))
    segment, offset, count, h = place.segment, place.offset, place.count, place.h
    match data.draw(st.integers(0, 3)):
        case 0:
            segment = data.draw(st.integers(1, 5).filter(lambda one: one != place.segment))
        case 1:
            offset += data.draw(st.integers(-40, 40).filter(bool))
        case 2:
            count += data.draw(st.integers(-count, 5).filter(bool))
        case _:
            h = bytes(32)
    stands = Stands(AUDIT, segment, max(offset, 1), count, h)
    assert not source_of(written).stand(stands, written.mark())
    written.ring.close()


def test_a_long_entry_goes_in_pieces(written: Written) -> None:
    written.segment()
    session = written.open()
    for size in (MAX_BYTES - 12, MAX_BYTES - 11, 65_526):
        written.add(Payload(session, 1, 0x60, bytes(size)))
    written.act(session, 1, 0x20)
    source, kept = source_of(written), Kept()
    source.begin()
    sizes = []
    while pieces := source.read(written.mark()):
        sizes.append([len(piece.put.data) for piece in pieces])
        for piece in pieces:
            kept.put(piece.put)
    same(kept, written)
    assert sizes[1:4] == [[MAX_BYTES], [MAX_BYTES, 1], [MAX_BYTES, 65_538 - MAX_BYTES]]
    assert all(size <= MAX_BYTES for piece in sizes for size in piece)


# -- what a crash leaves


@pytest.mark.parametrize("torn", [b"\1\0", b"\0" * 300, b"\5\0\x90" + bytes(80)])
def test_what_was_never_finished_is_passed_over(written: Written, torn: bytes) -> None:
    written.some(1)
    before = file_of(written, 1).read_bytes()
    written.append(torn)
    written.some(1)
    source, kept = source_of(written), Kept()
    source.begin()
    shipped(source, written.mark(), kept)
    assert bytes(kept.segments[1]) == before
    assert (kept.count, kept.h) == (written.chain.entries, written.chain.h)


@pytest.mark.parametrize("head", [b"", b"ASAU\1", bytes(41), bytes(7)])
def test_a_head_that_was_never_finished_has_its_number(written: Written, head: bytes) -> None:
    written.some(1)
    written.segment(checkpoint=False)
    whole = written.path.read_bytes()
    written.path.write_bytes(head)
    source, kept = source_of(written), Kept()
    source.begin()
    closed = written.mark(closed=True)
    shipped(source, closed, kept)
    assert 2 not in kept.segments  # the writer may still begin it
    written.some(1)
    shipped(source, written.mark(), kept)
    assert bytes(kept.segments[2]) == whole
    assert (kept.count, kept.h) == (written.chain.entries, written.chain.h)
    # Where the collector stands in there, the next one tells.
    stands = Stands(AUDIT, 2, HEADER_SIZE, *_behind(written, 3))
    assert source.stand(stands, written.mark())
    assert source.cursor is not None
    assert source.cursor[:2] == (3, 0)


def _behind(written: Written, number: int) -> tuple[int, bytes]:
    """Count and h at the head of a segment."""
    source = source_of(written)
    assert source.begin(number)
    cursor = source.cursor
    assert cursor is not None
    return cursor.entries, cursor.h


# -- what is gone


def test_segments_that_have_expired(written: Written) -> None:
    written.some(4)
    places = written.places()
    for number in (1, 2):
        file_of(written, number).unlink()
    source, kept = source_of(written), Kept()
    known = [source.stand(place, written.mark()) for place in places[1:]]
    [last] = [
        index
        for index, place in enumerate(places[1:])
        if place.segment == 2 and places[index + 2].segment == 3
    ]
    assert known == [index >= last for index in range(len(known))]
    assert source.begin()
    shipped(source, written.mark(), kept)
    same(kept, written, first=3)


def test_a_first_segment_that_does_not_tell_what_was_before_is_left_out(written: Written) -> None:
    written.some(1)
    written.segment(checkpoint=False)
    written.act(0, 1, 0x20)
    written.some(1)
    file_of(written, 1).unlink()
    source = source_of(written)
    assert source.begin()
    assert source.cursor is not None
    assert source.cursor.segment == 3


def test_a_directory_that_was_taken_away_when_all_was_sent(written: Written) -> None:
    written.some(2)
    last = written.places()[-1]
    closed = written.mark(closed=True)
    for number in (1, 2):
        file_of(written, number).unlink()
    source, kept = source_of(written), Kept()
    assert source.stand(last, closed)
    assert source.read(closed) == []
    written.some(1)
    kept.segment, kept.count, kept.h = 2, last.count, last.h
    kept.segments[2] = bytearray(last.offset)
    shipped(source, written.mark(), kept)
    same(kept, written, first=3)


def test_what_goes_while_it_is_read(written: Written) -> None:
    written.some(3)
    source = source_of(written)
    source.begin()
    source.read(written.mark())
    for number in (1, 2):
        file_of(written, number).unlink()
    with pytest.raises(Astray, match="not there any more") as caught:
        shipped(source, written.mark(), Kept())
    assert caught.value.start == 3


def shipped_quietly(source: Source, mark: Position) -> None:
    while source.read(mark):
        pass


# -- what somebody has changed


@pytest.mark.parametrize("number", [1, 2])
def test_a_change_is_found_at_a_checkpoint(written: Written, number: int) -> None:
    written.some(3)
    path = file_of(written, number)
    data = bytearray(path.read_bytes())
    data[-160] ^= 1  # in the last run, before the last checkpoint
    path.write_bytes(data)
    source = source_of(written)
    source.begin()
    with pytest.raises(Astray, match="a checkpoint does not fit") as caught:
        shipped_quietly(source, written.mark())
    assert caught.value.start == number + 1
    assert source.begin(caught.value.start)
    kept = Kept()
    shipped(source, written.mark(), kept)
    same(kept, written, first=number + 1)


def test_a_change_is_found_at_the_head_of_the_next(written: Written) -> None:
    written.some(1)
    written.act(0, 99, 0x20)
    path = file_of(written, 1)
    data = path.read_bytes()
    written.some(1)
    path.write_bytes(data[:-1] + bytes((data[-1] ^ 1,)))
    source = source_of(written)
    source.begin()
    with pytest.raises(Astray, match="its head does not go on") as caught:
        shipped_quietly(source, written.mark())
    assert caught.value.start == 2


def test_a_change_is_found_where_the_writer_is(written: Written) -> None:
    written.some(1)
    written.act(0, 99, 0x20)
    data = written.path.read_bytes()
    for bad in (data[:-1] + bytes((data[-1] ^ 1,)), data[:-1], data[:-24]):
        written.path.write_bytes(bad)
        source = source_of(written)
        mark = written.mark()._replace(offset=len(data))
        source.begin()
        with pytest.raises(Astray, match="not what the writer wrote") as caught:
            shipped_quietly(source, mark)
        assert caught.value.start == 2


def test_a_bad_segment_is_no_beginning(written: Written) -> None:
    written.some(2)
    stands = written.places()[-1]
    path = file_of(written, 2)
    data = path.read_bytes()
    source = source_of(written)
    elsewhere = written.mark()._replace(offset=1)
    for bad in (b"XXXX" + data[4:], data[:41] + b"\7" + data[42:], data[:60] + b"\1" + data[61:]):
        path.write_bytes(bad)
        assert not source.begin(2)
        assert not source.stand(stands, elsewhere)
    path.write_bytes(data[:41])
    assert not source.begin(2)
    first = file_of(written, 1)
    first.write_bytes(first.read_bytes()[:9] + bytes(31) + b"\1")
    assert not source.begin(1)
    first.write_bytes(b"XXXX")
    assert not source.begin(1)
    path.write_bytes(data[:-30] + bytes(20) + b"\1" * 10)
    assert not source.stand(stands, elsewhere)
