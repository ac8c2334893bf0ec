"""Slots become entries, and entries tell how many slots they were."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from asys.audit.chain import HEAD_SIZE, Chain
from asys.audit.entries import (
    Checkpoint,
    CleanEnd,
    Gap,
    Payload,
    Read,
    Reads,
    Refused,
    Run,
    SessionClosed,
    SessionOpened,
    parse,
)
from asys.audit.records import EntryType
from asys.node.audit.encode import encode, slots_of, split
from asys.node.audit.ring import SLOT, Ring

BASE = 1000


def fill(ring: Ring, choices: list[int]) -> None:
    """Messages of all kinds, as the choices say."""
    for number in choices:
        session = number % 3
        if number < 60:
            assert ring.record(session, number, b"hash", 0x20, 0x84, number, b"dige", 0x9000)
        elif number < 70:
            body = SessionOpened(0, bytes(32), 1, 2, "x" * number, "peer").body()[4:]
            assert ring.put(EntryType.SESSION_OPENED, session, body)
        elif number < 80:
            assert ring.put(EntryType.PAYLOAD, session, os.urandom(5 + number * 7))
        elif number < 85:
            assert ring.put(EntryType.GAP, 0, Gap(1, 2, 3).body())
        elif number < 90:
            assert ring.put(EntryType.REFUSED, 0, Refused(1, 2, 3, 4).body())
        elif number < 95:
            reads = Reads(0, tuple(Read(1, 2, 3, 4) for _ in range(number)))
            assert ring.put(EntryType.READS, session, reads.body()[4:])
        else:
            assert ring.put(EntryType.SESSION_CLOSED, session, SessionClosed(0, 9).body()[4:])


@given(st.lists(st.integers(0, 99), max_size=60), st.integers(1, 400))
def test_every_slot_is_in_one_entry_whatever_the_batches(choices: list[int], most: int) -> None:
    ring = Ring.create("test", 6000)
    try:
        fill(ring, choices)
        chain, data, tail = Chain(b"h" * 32, 7, 1), b"", 0
        while tail < ring.head:
            encoded = encode(chain, ring.peek(tail, max(most, 150)), BASE)
            assert not encoded.bad
            assert encoded.slots == sum(map(slots_of, split(encoded.data)))
            assert len(encoded.data) <= encoded.slots * SLOT
            data += encoded.data
            tail += encoded.slots
        entries = [parse(one[0], one[HEAD_SIZE:]) for one in split(data)]
        assert chain.entries == 7 + len(entries)
        assert b"".join(split(data)) == data
        other = Chain(b"h" * 32, 7, 1)
        assert b"".join(other.add(entry) for entry in entries) == data
        assert other.h == chain.h
        seen = [r.seq for e in entries if isinstance(e, Run) for r in e.records]
        assert seen == [number for number in choices if number < 60]
        for entry in entries:
            if isinstance(entry, Run | SessionOpened | Payload | Reads | SessionClosed):
                assert BASE <= entry.session <= BASE + 2
    finally:
        ring.close()


def test_a_run_is_of_one_session_and_keeps_the_order() -> None:
    ring = Ring.create("test", 100)
    for number, session in enumerate([1, 1, 2, 1, 1, 1]):
        ring.record(session, 0, b"hash", 0x20, 0x84, number, b"dige", 0x9000)
    entries = [parse(e[0], e[HEAD_SIZE:]) for e in split(encode(Chain(), ring.peek(0, 9), 0).data)]
    runs = [(e.session, [r.seq for r in e.records]) for e in entries if isinstance(e, Run)]
    assert runs == [(1, [0, 1]), (2, [2]), (1, [3, 4, 5])]
    ring.close()


def test_a_number_of_a_session_stays_within_32_bits() -> None:
    ring = Ring.create("test", 100)
    ring.record(5, 0, b"hash", 0x20, 0x84, 1, b"dige", 0x9000)
    (framed,) = split(encode(Chain(), ring.peek(0, 9), (1 << 40) + (1 << 32) - 2).data)
    assert framed[HEAD_SIZE : HEAD_SIZE + 4] == (3).to_bytes(4, "big")
    ring.close()


def test_asyd_cannot_have_an_end_or_a_checkpoint_written_or_anything_that_is_no_entry() -> None:
    ring = Ring.create("test", 1000)
    forged = CleanEnd(5).body(), Checkpoint(1, bytes(32), 2, bytes(32), bytes(64)).body()
    assert ring.put(EntryType.CLEAN_END, 0, forged[0])
    assert ring.put(EntryType.CHECKPOINT, 0, forged[1])
    assert ring.put(EntryType.SESSION_OPENED, 0, b"short")
    assert ring.put(0x77, 0, os.urandom(300))
    assert ring.put(EntryType.GAP, 0, Gap(1, 2, 3).body())
    chain = Chain()
    encoded = encode(chain, ring.peek(0, 900), 0)
    assert (encoded.bad, encoded.slots, chain.entries) == (4, ring.head, 1)
    assert [framed[0] for framed in split(encoded.data)] == [EntryType.GAP]
    ring.close()


def test_the_writers_own_entries_are_no_slots() -> None:
    chain = Chain()
    assert slots_of(chain.add(CleanEnd(1))) == 0
    assert slots_of(chain.add(Checkpoint(1, bytes(32), 2, bytes(32), bytes(64)))) == 0


def test_what_is_cut_at_the_end_is_not_split_off() -> None:
    chain = Chain()
    data = chain.add(CleanEnd(1)) + chain.add(Gap(1, 2, 3))
    for cut in range(len(data)):
        assert len(list(split(data[:cut]))) == (0 if cut < 11 else 1)
