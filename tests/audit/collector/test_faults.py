"""A collector that is killed, whose disk is full, hangs or loses its power."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from asys.audit import push
from asys.audit.chain import GENESIS
from asys.audit.verify import OPEN, TAMPERED, WHOLE, verify
from asys.protocol.keys import PrivateKey
from support.audit_files import AuditFiles, usual
from support.collect import COMMAND, NODE, Collector, Ended, authorize, collecting, puts
from support.loop_disk import LoopDisk, fill, loop_disk_missing

OTHER = PrivateKey.generate()

needs_loop_disk = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount"),
    pytest.mark.skipif(bool(loop_disk_missing()), reason=loop_disk_missing() or "-"),
]


class Chain:
    """A node's own directory that grows, and every chain value that it has had."""

    def __init__(self, directory: Path) -> None:
        self.files = AuditFiles(directory)
        self.values = {0: GENESIS}
        self._segment()

    def grow(self, random: random.Random) -> None:
        """A few entries more."""
        for _ in range(random.randrange(5, 40)):
            if random.random() < 0.05:
                self._segment()
            else:
                self.files.open()
            self._note()

    def _segment(self) -> None:
        self.files.segment()
        self._note()

    def _note(self) -> None:
        self.values[self.files.chain.entries] = self.files.chain.h

    def check(self, there: push.Stands | push.Ack, least: int) -> None:
        """It stands on this chain, and nowhere before what was acknowledged."""
        assert there.count >= least
        assert self.values[there.count] == there.h


def interrupted(
    collector: Collector, chain: Chain, random: random.Random, least: int, victim: int
) -> int:
    """Pushes a piece at a time; -9 comes amid that. Gives the last count that was acknowledged."""
    own = chain.files.directory
    with collector.node() as node:
        at = node.open()
        chain.check(at, least)
        told = [put for put, _ in puts(own, "audit", at.segment, at.offset, 300)]
        moment = random.randrange(len(told) + 1)
        acknowledged = least
        waiting = 0
        try:
            for index, put in enumerate(told):
                node.send(put)
                waiting += 1
                if index == moment:
                    os.kill(victim, signal.SIGKILL)
                if waiting == push.MAX_PIPELINED:
                    acknowledged = _ack(node.answer(), chain, acknowledged)
                    waiting -= 1
            if moment == len(told):
                os.kill(victim, signal.SIGKILL)
            while True:
                acknowledged = _ack(node.answer(), chain, acknowledged)
        except Ended:
            return acknowledged


def _ack(found: push.FromCollector, chain: Chain, least: int) -> int:
    assert isinstance(found, push.Ack)
    chain.check(found, least)
    return found.count


@pytest.mark.parametrize("seed", range(4))
def test_kill_9_at_random_places(tmp_path: Path, seed: int) -> None:
    """25 times each, of the process that writes or of the one that listens."""
    dice = random.Random(seed)  # noqa: S311  a test that can be repeated
    chain = Chain(tmp_path / "own")
    kept = tmp_path / "kept"
    authorize(kept, {NODE: "web"})
    there = kept / "web" / "1"
    acknowledged = died = 0
    collector = Collector(kept, "127.0.0.1:0")
    try:
        for _ in range(25):
            chain.grow(dice)
            listens = dice.random() < 0.2
            victim = collector.process.pid if listens else collector.writer
            acknowledged = interrupted(collector, chain, dice, acknowledged, victim)
            if acknowledged or there.exists():
                verdict = verify(there)
                assert verdict.code != TAMPERED, verdict.words
                assert (verdict.entries or 0) >= acknowledged
            if listens:
                collector.kill()
                died = 0
                collector = Collector(kept, "127.0.0.1:0")
            else:
                died += 1
                collector.wait_for("is there again", times=died)
        chain.files.end()
        with collector.node() as node:
            assert node.bring(chain.files.directory).anchor == chain.files.chain.anchor
    finally:
        collector.kill()
    assert [path.name for path in kept.joinpath("web").iterdir()] == ["1"]
    assert verify(there).code == WHOLE
    for path in there.iterdir():
        assert path.read_bytes() == chain.files.directory.joinpath(path.name).read_bytes()


@pytest.mark.parametrize(
    "tail", [b"\x01", b"\x02\x00\x44" + bytes(20), bytes(5), bytes(70_000), b"\x05\x00\x90x"]
)
def test_a_cut_tail_is_cut_off_before_it_goes_on(tmp_path: Path, tail: bytes) -> None:
    own, kept = tmp_path / "own", tmp_path / "kept"
    files = usual(own)
    with collecting(kept) as collector, collector.node() as node:
        node.bring(own)
    path = kept / "web" / "1" / files.path.name
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    headless = path.with_name("audit-00000004.seg")
    files.segment()
    headless.write_bytes(files.path.read_bytes()[: len(tail) % 41])
    with collecting(kept) as collector:
        with collector.node() as node:
            assert node.open().offset == len(whole)
            assert path.read_bytes() == whole
            assert not headless.exists()
            assert node.bring(own).anchor == files.chain.anchor
        collector.wait_for("cut off")
    assert verify(kept / "web" / "1").anchor == files.chain.anchor


def test_what_was_changed_on_the_collector_stays_and_the_next_generation_begins(
    tmp_path: Path,
) -> None:
    own, kept = tmp_path / "own", tmp_path / "kept"
    files = usual(own)
    with collecting(kept) as collector, collector.node() as node:
        node.bring(own)
    path = kept / "web" / "1" / files.path.name
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    with collecting(kept) as collector:
        with collector.node() as node:
            assert node.bring(own).anchor == files.chain.anchor
        collector.wait_for("WAS CHANGED OR DAMAGED HERE")
    assert path.read_bytes() == data
    assert verify(kept / "web" / "1").code == TAMPERED
    assert verify(kept / "web" / "2").anchor == files.chain.anchor


@pytest.mark.parametrize("how", ["append", "remove"])
def test_somebody_else_writes_while_it_runs(tmp_path: Path, how: str) -> None:
    own, kept = tmp_path / "own", tmp_path / "kept"
    files = usual(own, end=False)
    with collecting(kept) as collector:
        with collector.node() as node:
            node.bring(own)
            path = kept / "web" / "1" / files.path.name
            if how == "append":
                with path.open("ab") as file:
                    file.write(b"\x06\x00\x09")
            else:
                path.unlink()
            size = files.path.stat().st_size
            files.open()
            found = node.ask(push.Put("audit", 3, size, files.path.read_bytes()[size:]))
            assert found == push.Refused("audit", push.Reason.DISK)
        collector.wait_for("somebody else has changed")
        with collector.node() as node:
            assert node.bring(own).anchor == files.chain.anchor
    assert verify(kept / "web" / "1").anchor == files.chain.anchor


def test_the_process_that_writes_dies(tmp_path: Path) -> None:
    own = tmp_path / "own"
    files = usual(own)
    with collecting(tmp_path / "kept") as collector:
        with collector.node() as node:
            node.bring(own)
            os.kill(collector.writer, signal.SIGKILL)
            assert node.ended()
        collector.wait_for("is there again")
        with collector.node() as node:
            assert node.open().count == files.chain.entries


class TestDisk:
    pytestmark = needs_loop_disk

    def test_full(self, tmp_path: Path) -> None:
        own = tmp_path / "own"
        place = tmp_path / "place"
        place.mkdir()
        files = AuditFiles(own)
        files.segment()
        for _ in range(3000):
            files.open()
        with LoopDisk(place) as disk, collecting(disk.small / "kept") as collector:
            with collector.node() as node:
                node.open()
                first = next(puts(own, "audit", 0, 0))[0]
                there = node.ask(first)
                assert isinstance(there, push.Ack)
                fill(disk.small)
                found: push.FromCollector = there
                for put, _ in puts(own, "audit", 1, len(first.data)):
                    found = node.ask(put)
                    if not isinstance(found, push.Ack):
                        break
                    there = found
                assert found == push.Refused("audit", push.Reason.DISK)
                assert node.ended()
            collector.wait_for("No space left")
            kept = disk.small / "kept" / "web" / "1"
            assert verify(kept).anchor == there.anchor
            with collector.node() as node:  # what is there can still be asked for
                assert node.open().count == there.count
            with collector.node(NODE) as node:  # nor can a generation begin
                node.open(anew=True)
                assert isinstance(node.ask(first), push.Refused)
            assert [path.name for path in kept.parent.iterdir()] == ["1"]
            (disk.small / "filler").unlink()
            with collector.node() as node:
                assert node.bring(own).anchor == files.chain.anchor
            assert verify(kept).anchor == files.chain.anchor

    def test_hung(self, tmp_path: Path) -> None:
        own, place = tmp_path / "own", tmp_path / "place"
        place.mkdir()
        files = usual(own)
        with LoopDisk(place) as disk:
            kept = disk.path / "kept"
            authorize(kept, {NODE: "web", OTHER: "db"})
            (disk.small / "db").mkdir()
            (kept / "db").symlink_to(disk.small / "db")  # a node with a disk of its own
            collector = Collector(kept, "127.0.0.1:0")
            try:
                with collector.node() as node, disk.hung():
                    node.open()
                    for put, _ in puts(own, "audit", 0, 0):
                        node.send(put)
                    collector.wait_for("web: THE DISK HANGS")
                    with collector.node(OTHER) as other:
                        assert other.bring(own).anchor == files.chain.anchor
                    writer = collector.writer
                    collector.process.send_signal(signal.SIGTERM)
                    assert collector.process.wait(60) == 0
                    collector.wait_for(f"process {writer} can end only when it answers")
                    command = [sys.executable, "-c", COMMAND, "audit", "collect", "--listen"]
                    command += ["127.0.0.1:0", "--dir", str(kept)]
                    again = subprocess.run(command, capture_output=True, text=True, check=False)
                    assert again.returncode == 2
                    assert "waits for a disk that hangs" in again.stderr
            finally:
                collector.kill()
            collector = Collector(kept, "127.0.0.1:0")
            try:
                with collector.node() as node:
                    assert node.bring(own).anchor == files.chain.anchor
                collector.stop()
            finally:
                collector.process.kill()
            assert verify(kept / "web" / "1").anchor == files.chain.anchor

    def test_what_is_acknowledged_outlives_a_power_cut(self, tmp_path: Path) -> None:
        place = tmp_path / "place"
        place.mkdir()
        files = AuditFiles(tmp_path / "own")
        with LoopDisk(place) as disk, collecting(disk.path / "kept") as collector:
            for _ in range(4):
                files.segment()
                files.open()
                with collector.node() as node:
                    anchor = node.bring(files.directory).anchor
                with disk.after_a_power_cut() as copy:
                    verdict = verify(copy / "kept" / "web" / "1")
                    assert (verdict.code, verdict.anchor) == (OPEN, anchor)
