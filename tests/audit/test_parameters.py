"""The parameter journal as text, and finding in it what belongs to a record."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.audit import parameters as module
from asys.audit.parameters import (
    DIRECTORY,
    MAX_LINE,
    MAX_PAYLOAD,
    JournalReader,
    Lost,
    Parameters,
    Proof,
    Unreadable,
    file_name,
    file_number,
    heading,
    parse_heading,
    parse_line,
)
from asys.audit.reading import Action, State
from asys.audit.records import digest

HASH = b"abcd"
U8 = st.integers(0, 255)
U32 = st.integers(0, 0xFFFFFFFF)
U64 = st.integers(0, 0xFFFFFFFFFFFFFFFF)

entries = st.builds(
    lambda time_ns, codes, seq, payload, more: Parameters(
        time_ns,
        codes[:4],
        codes[4],
        codes[5],
        codes[6],
        codes[7],
        seq,
        len(payload) + (more if len(payload) == MAX_PAYLOAD else 0),
        payload,
    ),
    U64,
    st.binary(min_size=8, max_size=8),
    U32,
    st.one_of(st.binary(max_size=40), st.just(bytes(MAX_PAYLOAD))),
    st.integers(0, 1 << 20),
)


def entry(time_ns: int, seq: int = 1, payload: bytes = b"x", length: int = -1) -> Parameters:
    length = len(payload) if length < 0 else length
    return Parameters(time_ns, HASH, 4, 0x20, 1, 2, seq, length, payload)


def action(one: Parameters, *, intent: bool = True, of: bytes | None = None) -> Action:
    """What the records say of the instruction of an entry."""
    return Action(
        7,
        None,
        one.key_hash,
        one.ins,
        one.cla,
        one.seq,
        digest(one.payload if of is None else of),
        State.ANSWERED,
        intent_ns=one.time_ns if intent else None,
        outcome_ns=one.time_ns + 5 if intent else one.time_ns,
        sw=0x9000,
    )


class Files:
    """A journal as text."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / DIRECTORY
        self.directory.mkdir()
        self.reader = JournalReader(directory)

    def write(self, number: int, *lines: Parameters | Lost | bytes, head: bytes = b"") -> Path:
        """Appends to a file, which begins as it has to, or with another head."""
        path = self.directory / file_name(number)
        with path.open("ab") as file:
            if not file.tell():
                file.write(head or heading(1_700_000_000))
            for one in lines:
                file.write(one if isinstance(one, bytes) else one.line())
        return path

    def proofs(self, *wanted: Parameters) -> list[Proof]:
        return [self.reader.find(action(one)).proof for one in wanted]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


# -- lines


@given(entries)
def test_entries_go_there_and_back(one: Parameters) -> None:
    line = one.line()
    assert line.endswith(b"\n")
    assert len(line) <= MAX_LINE
    assert parse_line(line[:-1]) == one
    assert one.is_cut == (one.length > MAX_PAYLOAD)


@given(U64, U64, U64)
def test_gaps_go_there_and_back(count: int, first: int, last: int) -> None:
    lost = Lost(count, first, last)
    assert parse_line(lost.line()[:-1]) == lost


def test_a_line_character_by_character() -> None:
    one = Parameters(
        1_790_000_000_000_000_001, b"\x5f\x8d\xca\x00", 0x84, 0x22, 0, 1, 7, 5, b"nginx"
    )
    assert one.line() == b"1790000000000000001 5f8dca00 84 22 00 01 7 5 6e67696e78\n"
    assert one._replace(length=0, payload=b"").line().endswith(b" 7 0 -\n")


def test_no_entry_shows_its_payload_in_its_repr() -> None:
    assert "secret" not in repr(entry(1, payload=b"secret"))


@given(entries, st.data())
def test_a_line_that_is_cut_is_none(one: Parameters, data: st.DataObject) -> None:
    line = one.line()[:-1]
    at = data.draw(st.integers(0, len(line) - 1))
    with pytest.raises(ValueError, match=r"neither an entry nor a gap|are not what is kept"):
        parse_line(line[:at])


@given(st.binary(max_size=100))
def test_any_line_is_read_or_refused(line: bytes) -> None:
    try:
        found = parse_line(line)
    except ValueError:
        return
    assert found.line() == line + b"\n" or isinstance(found, (Parameters, Lost))


def test_heads_and_names() -> None:
    assert parse_heading(heading(12345)[:-1]) == 12345
    with pytest.raises(ValueError, match="its version is 2; this program knows 1"):
        parse_heading(b"asys-parameters 2 12345")
    with pytest.raises(ValueError, match="does not begin"):
        parse_heading(b"ASAU")
    assert file_number(file_name(7)) == 7
    assert file_number(file_name(123_456_789)) == 123_456_789
    for name in ("parameters-1.txt", "parameters-000000001.txt", "parameters-00000000.txt", "x"):
        assert file_number(name) == 0


# -- finding


def test_the_digest_of_the_record_proves_the_payload(files: Files) -> None:
    one, other = entry(100), entry(200, seq=2, payload=b"nginx")
    files.write(1, one, other)
    found = files.reader.find(action(one))
    assert (found.proof, found.parameters) == (Proof.PROVED, one)
    found = files.reader.find(action(other, intent=False, of=b"mysql"))
    assert (found.proof, found.parameters) == (Proof.DIFFERS, other)


def test_a_payload_that_was_cut_proves_nothing(files: Files) -> None:
    whole = bytes(MAX_PAYLOAD + 1)
    one = entry(100, payload=whole[:MAX_PAYLOAD], length=len(whole))
    files.write(1, one)
    found = files.reader.find(action(one, of=whole))
    assert (found.proof, found.parameters) == (Proof.CUT, one)


def test_time_key_instruction_and_seq_must_all_be_those_of_the_record(files: Files) -> None:
    one = entry(100)
    others = [
        one._replace(time_ns=101),
        one._replace(key_hash=b"dcba"),
        one._replace(ins=0x22),
        one._replace(seq=2),
    ]
    files.write(1, *others)
    assert files.proofs(one) == [Proof.MISSING]
    assert files.proofs(*others) == [Proof.PROVED] * 4


def test_an_end_of_a_task_alone_has_no_parameters(files: Files) -> None:
    files.write(1, entry(100))
    alone = Action(7, None, HASH, 0x22, 0, 1, b"1234", State.ENDED, task_ns=100, task=2)
    assert files.reader.find(alone).proof is Proof.MISSING


def test_actions_may_end_in_another_order_and_over_several_files(files: Files) -> None:
    all_ = [entry(100 * n, seq=n) for n in range(1, 61)]
    for number in range(3):
        files.write(number + 1, *all_[20 * number : 20 * number + 20])
    order = [all_[at] for at in (59, 0, 30, 2, 1, 58, 29)]
    assert files.proofs(*order) == [Proof.PROVED] * 7


def test_a_clock_that_was_set_back_finds_its_entries(files: Files) -> None:
    second = 10**9
    before, after = entry(5 * second, seq=1), entry(5 * second - second // 2, seq=2)
    files.write(1, before, after)
    assert files.proofs(after, before) == [Proof.PROVED] * 2


def test_a_journal_that_grows_is_read_on(files: Files, tmp_path: Path) -> None:
    one, two, three = (entry(100 * n, seq=n) for n in (1, 2, 3))
    line = two.line()
    files.write(1, one, line[:20])
    assert files.proofs(one, two) == [Proof.PROVED, Proof.MISSING]
    files.write(1, line[20:])
    assert files.proofs(two, three) == [Proof.PROVED, Proof.MISSING]
    files.write(2, three)
    assert files.proofs(three) == [Proof.PROVED]
    assert files.reader.finish() == []


def test_a_reader_that_is_closed_holds_no_file(files: Files) -> None:
    files.write(1, entry(100))
    before = len(list(Path("/dev/fd").iterdir()))
    assert files.proofs(entry(100)) == [Proof.PROVED]
    assert len(list(Path("/dev/fd").iterdir())) == before + 1
    files.reader.close()
    files.reader.close()
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_there_need_be_no_journal(tmp_path: Path) -> None:
    reader = JournalReader(tmp_path)
    found = [(reader.exists, reader.find(action(entry(100))).proof)]
    Files(tmp_path).write(1, entry(100))
    found.append((reader.exists, reader.find(action(entry(100))).proof))
    assert found == [(False, Proof.MISSING), (True, Proof.PROVED)]


def test_gaps_come_where_they_are_met(files: Files) -> None:
    one, two = entry(100), entry(300, seq=2)
    gaps = [Lost(5, 150, 160), Lost(6, 400, 500)]
    files.write(1, one, gaps[0], two, gaps[1])
    assert files.proofs(one) == [Proof.PROVED]
    assert files.reader.asides() == []
    assert files.proofs(two) == [Proof.PROVED]
    assert files.reader.asides() == gaps[:1]
    assert files.reader.finish() == gaps[1:]


def test_what_cannot_be_read_is_told_once_a_file_and_the_rest_is_read(files: Files) -> None:
    one, two, three = (entry(100 * n, seq=n) for n in (1, 2, 3))
    files.write(1, one, b"garbage\n", b"x" * 3 * MAX_LINE + b"\n", two, b"the piece of a li")
    files.write(2, three, head=b"asys-parameters 9 1\n")
    (files.directory / file_name(3)).mkdir()
    files.write(4, three)
    assert files.proofs(one, two, three) == [Proof.PROVED] * 3
    assert files.reader.finish() == [
        Unreadable("parameters/parameters-00000001.txt, line 3: it is neither an entry nor a gap"),
        Unreadable(
            "parameters/parameters-00000002.txt, line 1: its version is 9; this program knows 1"
        ),
        Unreadable("parameters/parameters-00000003.txt: it is no regular file"),
    ]


def test_a_line_without_an_end_takes_no_memory(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 1000)
    one = entry(100)
    files.write(1, b"x" * 1_000_000 + b"\n", one)
    assert files.proofs(one) == [Proof.PROVED]
    assert len(files.reader.asides()) == 1


def test_a_file_that_cannot_be_opened_is_told(files: Files) -> None:
    files.write(1, entry(100))
    os.symlink("loop", files.directory / "loop")
    (files.directory / file_name(2)).symlink_to("loop")
    files.write(3, entry(200))
    assert files.proofs(entry(200)) == [Proof.PROVED]
    [told] = files.reader.asides()
    assert isinstance(told, Unreadable)
    assert told.words.startswith("parameters/parameters-00000002.txt: Too many levels")


def test_a_file_that_is_gone_when_it_is_looked_for_is_passed_over(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write(1, entry(100))
    files.write(2, entry(200))
    real = os.open

    def removing(path: Path, flags: int) -> int:
        path.unlink(missing_ok=True) if path.name == file_name(1) else None
        return real(path, flags)

    monkeypatch.setattr("asys.audit.parameters.os.open", removing)
    assert files.proofs(entry(100), entry(200)) == [Proof.MISSING, Proof.PROVED]
    assert files.reader.finish() == []


def test_what_is_remembered_is_bounded(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 10)
    all_ = [entry(100 * n, seq=n) for n in range(1, 31)]
    files.write(1, *all_)
    assert files.proofs(all_[29], all_[19], all_[20]) == [
        Proof.PROVED,
        Proof.MISSING,
        Proof.PROVED,
    ]
    monkeypatch.setattr(module, "MAX_BYTES", 10_000)
    monkeypatch.setattr(module, "MAX_ENTRIES", 1000)
    more = [entry(10_000 + n, seq=n, payload=bytes(1000)) for n in range(1, 31)]
    files.write(1, *more)
    assert files.proofs(more[29], more[0], more[28]) == [
        Proof.PROVED,
        Proof.MISSING,
        Proof.PROVED,
    ]


def test_an_entry_that_stands_twice_counts_once(files: Files) -> None:
    files.write(1, entry(100), entry(100), entry(200, seq=2))
    assert files.proofs(entry(200, seq=2), entry(100), entry(100)) == [
        Proof.PROVED,
        Proof.PROVED,
        Proof.MISSING,
    ]
