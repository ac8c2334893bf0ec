"""Records and entries: every type there and back, and bytes that are none."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.audit.entries import (
    MAX_READS,
    MAX_RUN,
    BadEntry,
    Checkpoint,
    CleanEnd,
    Entry,
    Gap,
    NodeKey,
    Payload,
    Read,
    Reads,
    Refused,
    Run,
    SessionClosed,
    SessionOpened,
    parse,
)
from asys.audit.records import (
    RECORD_SIZE,
    EntryType,
    Record,
    Refusal,
    digest,
    iter_unpack,
    unpack,
)

U8 = st.integers(0, 0xFF)
U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFFFFFF)
U64 = st.integers(0, 2**64 - 1)


def raw(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
RECORDS = st.builds(Record, U64, raw(4), U8, U8, U32, raw(4), U16)
ENTRIES: dict[EntryType, st.SearchStrategy[Entry]] = {
    EntryType.RUN: st.builds(Run.of, U32, st.lists(RECORDS, min_size=1, max_size=5)),
    EntryType.SESSION_OPENED: st.builds(SessionOpened, U32, raw(32), U32, U64, TEXT, TEXT),
    EntryType.GAP: st.builds(Gap, U64, U64, U64),
    EntryType.PAYLOAD: st.builds(Payload, U32, U32, U8, st.binary(max_size=200)),
    EntryType.CHECKPOINT: st.builds(Checkpoint, U64, raw(32), U64, raw(32), raw(64)),
    EntryType.CLEAN_END: st.builds(CleanEnd, U64),
    EntryType.SESSION_CLOSED: st.builds(SessionClosed, U32, U64),
    EntryType.REFUSED: st.builds(Refused, U8, U32, U64, U64, raw(4)),
    EntryType.NODE_KEY: st.builds(NodeKey, U8, U64, raw(32), raw(32), U32),
    EntryType.READS: st.builds(
        Reads, U32, st.lists(st.builds(Read, U32, U8, U16, U32), min_size=1).map(tuple)
    ),
}


def test_every_type_has_an_entry() -> None:
    assert set(ENTRIES) == set(EntryType)


@given(st.one_of(*ENTRIES.values()))
def test_entries_go_there_and_back(entry: Entry) -> None:
    assert parse(entry.type, entry.body()) == entry


@given(RECORDS)
def test_records_go_there_and_back(record: Record) -> None:
    data = record.pack()
    assert len(data) == RECORD_SIZE
    assert unpack(data) == record
    assert list(iter_unpack(data * 3)) == [record] * 3
    assert list(Run.of(1, [record, record]).records) == [record] * 2


@given(raw(24))
def test_every_24_bytes_are_a_record(data: bytes) -> None:
    assert unpack(data).pack() == data


def test_a_record_byte_by_byte() -> None:
    record = Record(0x0102030405060708, b"hash", 0x22, 0x04, 0x0A0B0C0D, b"dige", 0x9000)
    assert record.pack().hex() == "0102030405060708" + "68617368" + "2204" + "0a0b0c0d" + (
        "64696765" + "9000"
    )


def test_the_digest_is_a_cut_of_the_long_hash() -> None:
    assert digest(b"nginx") == hashlib.blake2b(b"nginx").digest()[:4]
    assert digest(b"nginx") != hashlib.blake2b(b"nginx", digest_size=4).digest()


BODIES = {
    Gap(1, 2, 3): "0000000000000001" + "0000000000000002" + "0000000000000003",
    Payload(1, 2, 0x60, b"\xab"): "00000001" + "00000002" + "60" + "ab",
    CleanEnd(5): "0000000000000005",
    SessionClosed(6, 7): "00000006" + "0000000000000007",
    Refused(4, 9, 1, 2, b"abcd"): "04" + "00000009" + f"{1:016x}" + f"{2:016x}" + "61626364",
    Reads(1, (Read(2, 3, 0x9000, 4),)): "00000001" + "00000002" + "03" + "9000" + "00000004" + "00",
    SessionOpened(1, b"\x11" * 32, 2, 3, "web", "é"): "00000001"
    + "11" * 32
    + "00000002"
    + f"{3:016x}"
    + "03776562"
    + "02c3a9",
    Checkpoint(1, b"\x22" * 32, 2, b"\x33" * 32, b"\x44" * 64): f"{1:016x}"
    + "22" * 32
    + f"{2:016x}"
    + "33" * 32
    + "44" * 64,
}


@pytest.mark.parametrize("entry", BODIES, ids=lambda entry: entry.type.name)
def test_bodies_byte_by_byte(entry: Entry) -> None:
    assert entry.body().hex() == BODIES[entry]


@given(st.one_of(st.sampled_from([int(one) for one in EntryType]), U8), st.binary(max_size=120))
def test_bytes_are_an_entry_or_a_bad_one(type_: int, body: bytes) -> None:
    try:
        entry = parse(type_, body)
    except BadEntry:
        return
    if entry.type is EntryType.READS:  # its reserved bytes are ignored
        assert len(entry.body()) == len(body)
    else:
        assert entry.body() == body


@given(st.data())
def test_a_body_cut_or_lengthened_is_another_or_none(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(list(EntryType)))
    entry = data.draw(ENTRIES[kind])
    body = entry.body()
    cut = body[: data.draw(st.integers(0, len(body) - 1))]
    for other in (cut, body + data.draw(st.binary(min_size=1, max_size=30))):
        try:
            assert parse(kind, other) != entry
        except BadEntry:
            continue


@pytest.mark.parametrize("type_", [0, 11, 255])
def test_an_unknown_type_is_bad(type_: int) -> None:
    with pytest.raises(BadEntry, match=f"{type_:02X} is no type of entry"):
        parse(type_, b"")


@pytest.mark.parametrize(
    ("type_", "body", "words"),
    [
        (EntryType.RUN, bytes(4), "4 bytes are not a run of whole records"),
        (EntryType.RUN, bytes(29), "29 bytes are not a run of whole records"),
        (EntryType.GAP, bytes(23), "23 bytes are no gap entry"),
        (EntryType.CLEAN_END, bytes(9), "9 bytes are no clean end entry"),
        (EntryType.READS, bytes(4), "4 bytes are no whole lines of reads"),
        (EntryType.SESSION_OPENED, bytes(48), "the label of a session is cut short"),
        (EntryType.SESSION_OPENED, bytes(48) + b"\x01", "the label of a session is cut short"),
        (EntryType.SESSION_OPENED, bytes(49), "the peer of a session is cut short"),
        (EntryType.SESSION_OPENED, bytes(51), "1 bytes follow the peer of a session"),
        (EntryType.SESSION_OPENED, bytes(48) + b"\x01\xff\x00", "the label .* is not UTF-8"),
    ],
)
def test_bad_bodies_say_what_is_wrong(type_: int, body: bytes, words: str) -> None:
    with pytest.raises(BadEntry, match=words):
        parse(type_, body)


BAD: list[Any] = [
    Run(0, b""),
    Run(0, bytes(23)),
    Run(0, bytes(24) * (MAX_RUN + 1)),
    Run(2**32, bytes(24)),
    SessionOpened(0, bytes(31), 0, 0, "", ""),
    SessionOpened(0, bytes(32), 0, 0, "x" * 256, ""),
    SessionOpened(0, bytes(32), 0, 0, "", "\ud800"),
    Gap(-1, 0, 0),
    Payload(0, 0, 256, b""),
    Payload(0, 0, 0, bytes(65_527)),
    Checkpoint(0, bytes(31), 0, bytes(32), bytes(64)),
    Checkpoint(0, bytes(32), 0, bytes(33), bytes(64)),
    Checkpoint(0, bytes(32), 0, bytes(32), bytes(63)),
    Refused(0, 0, 0, 0, b"abc"),
    Reads(0, ()),
    Reads(0, (Read(0, 0, 0, 0),) * (MAX_READS + 1)),
    Reads(0, (Read(0, 0, 65_536, 0),)),
]


@pytest.mark.parametrize("entry", BAD, ids=lambda entry: entry.type.name)
def test_what_does_not_fit_is_refused(entry: Entry) -> None:
    with pytest.raises(ValueError, match=r"."):
        entry.body()


@pytest.mark.parametrize(
    "entry",
    [Run(0, bytes(24) * MAX_RUN), Payload(0, 0, 0, bytes(65_526))],
    ids=lambda entry: str(entry.type.name),
)
def test_the_largest_fit(entry: Entry) -> None:
    assert parse(entry.type, entry.body()) == entry


@pytest.mark.parametrize(
    "change",
    [
        {"key_hash": b"abc"},
        {"digest": b"abcde"},
        {"time_ns": 2**64},
        {"seq": -1},
        {"sw": 65_536},
        {"ins": 256},
    ],
)
def test_a_record_that_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"bytes each|does not fit"):
        Record(1, b"abcd", 2, 3, 4, b"abcd", 5)._replace(**change).pack()


@pytest.mark.parametrize("size", [0, 23, 25])
def test_pieces_are_no_records(size: int) -> None:
    with pytest.raises(ValueError, match="24 bytes"):
        unpack(bytes(size))
    if size:
        with pytest.raises(ValueError, match="not a number of records"):
            iter_unpack(bytes(size))


def test_no_entry_shows_payloads_in_its_repr() -> None:
    assert "secret" not in repr(Payload(1, 2, 0x60, b"secret"))


def test_reasons_keep_their_numbers() -> None:
    assert [one.value for one in Refusal] == [1, 2, 3, 4, 5, 6]
