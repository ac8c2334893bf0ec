"""How a writer that starts again finds the end of its chain."""

from __future__ import annotations

from pathlib import Path

import pytest

from asys.audit.chain import GENESIS, Chain, CheckpointKeys, public_of
from asys.audit.entries import Gap
from asys.audit.segments import AUDIT, SegmentReader, find_segments, segment_name
from asys.audit.trace import Tampered, resume
from asys.audit.verify import OPEN, WHOLE, verify
from support.audit_files import AuditFiles, usual


def same(one: Chain, other: Chain) -> bool:
    return (one.h, one.entries, one.segment) == (other.h, other.entries, other.segment)


def test_nothing_there_is_a_new_chain(tmp_path: Path) -> None:
    chain, signer, tail = resume(tmp_path, AUDIT)
    assert (chain.h, chain.entries, chain.segment, signer, tail) == (GENESIS, 0, 0, None, 0)


@pytest.mark.parametrize("end", [True, False])
def test_it_goes_on_where_it_was(tmp_path: Path, end: bool) -> None:
    files = usual(tmp_path / "audit", end=end)
    found = resume(files.directory, AUDIT)
    assert same(found.chain, files.chain)
    assert found.signer == files.keys.public
    assert found.tail_entries == (0 if end else 2)
    files.append(b"\x01\x02\x03")  # a crash amid an entry
    assert verify(files.directory).code == OPEN
    files.chain = resume(files.directory, AUDIT).chain
    files.segment()
    files.end()
    assert verify(files.directory, key=files.first_key).code == WHOLE


def test_it_reads_only_as_far_back_as_it_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = usual(tmp_path / "audit")
    files.segment(checkpoint=False)
    files.add(Gap(1, 2, 3))
    read: list[int] = []
    real = SegmentReader.read_header

    def noting(reader: SegmentReader) -> bool:
        read.append(reader.segment.number)
        return real(reader)

    monkeypatch.setattr(SegmentReader, "read_header", noting)
    assert same(resume(files.directory, AUDIT).chain, files.chain)
    assert set(read) == {3, 4}


def test_heads_that_were_never_finished_keep_their_number(tmp_path: Path) -> None:
    files = usual(tmp_path / "audit", segments=1)
    files.directory.joinpath(segment_name(AUDIT, 2)).write_bytes(b"ASAU")
    found = resume(files.directory, AUDIT)
    assert (found.chain.entries, found.chain.segment) == (files.chain.entries, 2)
    only = tmp_path / "only"
    only.mkdir()
    only.joinpath(segment_name(AUDIT, 1)).write_bytes(b"")
    files = AuditFiles(tmp_path / "only")
    files.chain = resume(only, AUDIT).chain
    files.segment()
    files.end()
    assert files.path.name == segment_name(AUDIT, 2)
    assert verify(only, key=files.first_key).code == WHOLE


def test_the_key_to_go_on_with_is_the_one_that_was_named(tmp_path: Path) -> None:
    """A crash between a checkpoint and the change of the key file leaves two keys."""
    files = usual(tmp_path / "audit", end=False)
    before, following = files.keys.private, files.keys.following
    assert resume(files.directory, AUDIT).signer == public_of(before)
    files.checkpoint()
    assert resume(files.directory, AUDIT).signer == public_of(following)
    files.keys = CheckpointKeys(following)
    files.segment()
    files.end()
    assert verify(files.directory, key=files.first_key).code == WHOLE


def test_a_rotated_chain_keeps_its_count(tmp_path: Path) -> None:
    files = usual(tmp_path / "audit", end=False)
    for segment in find_segments(files.directory, AUDIT)[:2]:
        segment.path.unlink()
    assert same(resume(files.directory, AUDIT).chain, files.chain)


def test_an_end_that_is_damaged_is_not_gone_on_from(tmp_path: Path) -> None:
    files = usual(tmp_path / "audit", segments=1, end=False)
    files.append(b"\x55\x00\x00")
    with pytest.raises(Tampered, match="55 is no type of entry"):
        resume(files.directory, AUDIT)
    rotated = AuditFiles(tmp_path / "rotated")
    rotated.segment()
    rotated.segment(checkpoint=False)
    find_segments(rotated.directory, AUDIT)[0].path.unlink()
    with pytest.raises(Tampered, match="nothing here tells how many entries came before"):
        resume(rotated.directory, AUDIT)
