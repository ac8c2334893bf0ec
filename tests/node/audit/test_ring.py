"""The ring: what goes in comes out, in order, once, whatever the sizes; and it never waits."""

from __future__ import annotations

import os
import platform
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.audit.records import Record
from asys.node.audit import memory
from asys.node.audit.memory import membarrier, settle
from asys.node.audit.ring import (
    ENDS,
    KIND_RECORD,
    MAX_BODY,
    MESSAGE,
    RESERVE,
    SLOT,
    Position,
    Ring,
)


@pytest.fixture
def ring() -> Iterator[Ring]:
    made = Ring.create("test", 100)
    yield made
    made.close()


def moved(ring: Ring, tail: int) -> None:
    """As a writer does when it has written so many slots."""
    ring.position = Position(tail, 0, 1, 41, 0, bytes(32))


def put_record(ring: Ring, seq: int = 7, *, reserved: bool = False) -> bool:
    return ring.record(3, 5, b"hash", 0x20, 0x84, seq, b"dige", 0x9000, reserved=reserved)


def messages(data: bytes) -> list[tuple[int, int, bytes]]:
    """Kind, session and body of what whole slots hold."""
    found, at = [], 0
    while at < len(data):
        kind, length, session = MESSAGE.unpack_from(data, at)
        found.append((kind, session, data[at + MESSAGE.size : at + MESSAGE.size + length]))
        at += -(-(MESSAGE.size + length) // SLOT) * SLOT
    return found


def test_a_record_is_one_slot_and_its_bytes_are_those_of_the_file(ring: Ring) -> None:
    assert put_record(ring)
    record = Record(5, b"hash", 0x20, 0x84, 7, b"dige", 0x9000)
    assert messages(ring.peek(0, 10)) == [(KIND_RECORD, 3, record.pack())]
    assert (ring.head, ring.tail) == (1, 0)


@given(
    sizes=st.lists(st.one_of(st.integers(0, 80), st.integers(0, 3000)), max_size=40),
    most=st.integers(100, 200),
)
def test_messages_come_out_as_they_went_in_also_across_the_end(sizes: list[int], most: int) -> None:
    ring = Ring.create("test", 100)
    try:
        # Far along, just before the end: the counters never begin anew.
        start = ring.slots * 3 - 5
        ring._head = ring._words[16] = start
        moved(ring, start)
        put, taken, tail = [], [], start
        for number, size in enumerate(sizes):
            body = os.urandom(size)
            if not ring.put(4, number, body):
                raise AssertionError("there was room")
            put.append((4, number, body))
            while tail < ring.head:
                data = ring.peek(tail, most)
                taken += messages(data)
                tail += len(data) // SLOT
            moved(ring, tail)
        assert taken == put
    finally:
        ring.close()


def test_a_full_ring_says_so_and_takes_again_what_fits_when_something_was_written(
    ring: Ring,
) -> None:
    for _ in range(100):
        assert put_record(ring)
    assert not put_record(ring)
    assert not ring.put(3, 0, bytes(24))
    assert ring.head == 100
    moved(ring, 1)
    assert not ring.put(3, 0, bytes(25))  # would need two slots
    assert put_record(ring)
    assert not put_record(ring)


def test_the_reserve_is_for_what_follows_from_something_that_was_taken(ring: Ring) -> None:
    for _ in range(100):
        assert put_record(ring)
    for _ in range(RESERVE):
        assert put_record(ring, reserved=True)
    assert not put_record(ring, reserved=True)
    moved(ring, RESERVE)
    assert not put_record(ring)
    moved(ring, RESERVE + 1)
    assert put_record(ring)


def test_a_body_that_no_entry_could_hold_is_refused(ring: Ring) -> None:
    with pytest.raises(ValueError, match="longer than 65535"):
        ring.put(4, 1, bytes(MAX_BODY + 1))
    assert ring.head == 0


def test_two_mappings_are_one_ring(ring: Ring) -> None:
    other = Ring(os.dup(ring.fd))
    assert put_record(ring)
    assert other.head == 1
    assert other.peek(0, 9) == ring.peek(0, 9)
    other.flags = 1
    assert ring.flags == 1
    assert ring.writers == 0
    other.take()
    assert ring.writer == os.getpid()
    assert ring.writers == 1
    other.synced(77)
    assert ring.synced_ns == 77
    other.close()


def test_a_position_is_as_it_was_put_whichever_of_its_places_it_took(ring: Ring) -> None:
    assert [ring.position] == [None]
    for number in range(1, 5):
        position = Position(number, 2, 3, 4, 5, os.urandom(32), True, 6, 7, 8, os.urandom(32), ENDS)
        ring.position = position
        assert ring.position == position
        assert ring.tail == number
    assert position.arrived == Position(7, 2, 3, 10, 8, position.next_h, True)


def test_a_writer_that_died_between_position_and_tail_leaves_no_trace(ring: Ring) -> None:
    put_record(ring)
    moved(ring, 1)
    ring._words[32] = 0
    ring.take()
    ring.take()
    assert ring.tail == 1
    assert ring.writers == 2


def test_what_is_no_ring_is_not_taken_for_one() -> None:
    fd = memory.allocate("test", 1 << 20)
    try:
        os.pwrite(fd, struct.pack("=QQ", 1, 1), 0)
        with pytest.raises(ValueError, match="no ring"):
            Ring(fd)
    finally:
        os.close(fd)


def test_nobody_takes_memory_from_under_the_other(ring: Ring) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(ring.fd, 0)


def test_without_memfd_it_is_a_file_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    ring = Ring.create("test", 10)
    assert put_record(ring)
    assert os.fstat(ring.fd).st_nlink == 0
    ring.close()


def test_the_barrier_is_one_that_this_kernel_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    settle()
    if platform.machine() == "x86_64":
        assert membarrier(324)
    assert not membarrier(100_000)
    monkeypatch.setattr(platform, "machine", lambda: "unheard-of")
    settle()
