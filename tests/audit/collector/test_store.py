"""The store alone: nothing is acknowledged before it is synced, and what fails is taken back."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.audit import push
from asys.audit.collector import store
from asys.audit.collector.incoming import NOTHING, NotTaken, take
from asys.audit.collector.pushed import Pushed
from asys.audit.push import Ack, Open, Put, Reason, Refused, Stands
from asys.audit.verify import TAMPERED, verify
from support.audit_files import AuditFiles, usual
from support.collect import puts


def told(directory: Path, most: int = push.MAX_BYTES) -> list[Put]:
    """All that the node has to say."""
    return [put for put, _ in puts(directory, "audit", 0, 0, most)]


def said(pushed: Pushed, *messages: push.FromNode) -> list[push.FromCollector | None]:
    """The answers."""
    answers = pushed.answer([one.pack() for one in messages])
    return [push.parse_from_collector(one) if one else None for one in answers]


def begun(directory: Path) -> Pushed:
    """A node that has connected."""
    pushed = Pushed(directory)
    pushed.connect()
    return pushed


def test_nothing_is_acknowledged_before_it_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = usual(tmp_path / "own")
    synced: dict[int, int] = {}
    fsync = os.fsync

    def noted(fd: int) -> None:
        fsync(fd)
        info = os.fstat(fd)
        synced[info.st_ino] = info.st_size

    monkeypatch.setattr(os, "fsync", noted)
    pushed = begun(tmp_path / "web")
    answers = said(pushed, Open("audit"), *told(files.directory, 150))
    assert answers[-1] == Ack("audit", files.chain.entries, files.chain.h)
    for path in tmp_path.joinpath("web", "1").iterdir():
        assert synced[path.stat().st_ino] == path.stat().st_size
    for directory in (tmp_path, tmp_path / "web", tmp_path / "web" / "1"):
        assert directory.stat().st_ino in synced
    pushed.close()


@pytest.mark.parametrize("at", range(12))
def test_a_sync_that_fails_takes_back_what_it_was_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    files = usual(tmp_path / "own")
    fsync, count = os.fsync, 0

    def failing(fd: int) -> None:
        nonlocal count
        count += 1
        if count == at + 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(fd)

    pushed = begun(tmp_path / "web")
    answers = said(pushed, Open("audit"))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing)
        for put in told(files.directory, 150):
            answers += said(pushed, put, put)[:1]
    acks = [one for one in answers if isinstance(one, Ack)]
    pushed.connect()
    (stands,) = said(pushed, Open("audit"))
    assert isinstance(stands, Stands)
    assert stands.count >= (acks[-1].count if acks else 0)
    rest = [put for put, _ in puts(files.directory, "audit", stands.segment, stands.offset)]
    if rest:
        assert said(pushed, *rest)[-1] == Ack("audit", files.chain.entries, files.chain.h)
    pushed.close()
    assert verify(tmp_path / "web" / "1").anchor == files.chain.anchor


def test_a_write_that_fails_halfway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = usual(tmp_path / "own", segments=1)
    write, failed = os.write, 0

    def short(fd: int, data: bytes) -> int:
        nonlocal failed
        failed += 1
        if failed % 2 == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data[:50])

    first, *more = told(files.directory, 200)
    pushed = begun(tmp_path / "web")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", short)
        assert said(pushed, Open("audit"), first)[1] == Refused("audit", Reason.DISK)
    assert not tmp_path.joinpath("web", "1").exists()
    pushed.connect()
    kept = said(pushed, Open("audit"), first)[1]
    assert isinstance(kept, Ack)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", short)
        assert said(pushed, more[0])[0] == Refused("audit", Reason.DISK)
    assert verify(tmp_path / "web" / "1").anchor == kept.anchor
    pushed.connect()
    assert said(pushed, Open("audit"), *more)[-1] == Ack(
        "audit", files.chain.entries, files.chain.h
    )
    pushed.close()


def test_generations_are_counted_by_the_day(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path / "own")
    files.segment()
    (put,) = told(files.directory)
    now = [float(10**9)]
    chain = store.ChainStore(tmp_path / "web", "audit", lambda _: None, lambda: now[0])
    chain.open(anew=True)
    for _day in range(2):
        for _ in range(store.GENERATIONS_A_DAY):
            chain.open(anew=True)
            chain.put(put)
            chain.sync()
            for generation in tmp_path.joinpath("web").iterdir():
                if generation.stat().st_mtime > now[0] + 1000:
                    os.utime(generation, (now[0], now[0]))
        with pytest.raises(NotTaken) as refused:
            chain.open(anew=True)
        assert refused.value.reason == Reason.GENERATIONS
        now[0] += 86_401
    chain.close()


def test_both_chains_share_generations(tmp_path: Path) -> None:
    files = usual(tmp_path / "own")
    others = AuditFiles(tmp_path / "own", "reads")
    others.segment()
    audit = told(files.directory)
    (reads,) = [put for put, _ in puts(files.directory, "reads", 0, 0)]
    pushed = begun(tmp_path / "web")
    said(pushed, Open("audit"), Open("reads"), reads, *audit)
    said(pushed, Open("reads", anew=True), Open("audit", anew=True), *audit, reads)
    pushed.close()
    for generation in ("1", "2"):
        there = tmp_path / "web" / generation
        assert verify(there).anchor == files.chain.anchor
        assert verify(there, kind="reads").anchor == others.chain.anchor


@given(st.binary(max_size=400), st.integers(0, 3), st.sampled_from([0, 41, 100]))
def test_any_bytes_are_taken_or_refused(data: bytes, segment: int, offset: int) -> None:
    try:
        taken = take(NOTHING, Put("audit", segment, offset, data))
    except NotTaken:
        return
    assert taken.standing.offset == len(data)


@given(st.data())
def test_a_changed_chain_is_never_taken_for_another(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """What is taken after a flip has another chain value from there on, or is refused."""
    own = tmp_path_factory.mktemp("own")
    files = usual(own, segments=2)
    original = told(own)
    which = data.draw(st.integers(0, len(original) - 1))
    put = original[which]
    at = data.draw(st.integers(0, len(put.data) - 1))
    flipped = bytearray(put.data)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    standing = NOTHING
    try:
        for index, one in enumerate(original):
            changed = Put("audit", one.segment, one.offset, bytes(flipped))
            standing = take(standing, changed if index == which else one).standing
    except NotTaken:
        return
    assert standing.h != files.chain.h


def test_what_stands_before_the_newest_segment_that_counts(tmp_path: Path) -> None:
    """After a restart the chain is followed from the last segment that tells its count."""
    files = usual(tmp_path / "own")
    files.segment(checkpoint=False)
    files.segment(checkpoint=False)
    pushed = begun(tmp_path / "web")
    said(pushed, Open("audit"), *told(files.directory))
    pushed.close()
    again = begun(tmp_path / "web")
    (stands,) = said(again, Open("audit"))
    assert stands == Stands("audit", 5, 41, files.chain.entries, files.chain.h)
    again.close()
    assert verify(tmp_path / "web" / "1").code != TAMPERED
