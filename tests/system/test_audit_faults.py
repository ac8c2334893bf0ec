"""The audit on a disk that is full, hangs, is read-only, vanishes or loses its power.

Everything is real: the kernel's file systems, the writer's processes and their deaths.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import pytest

from asys.audit.chain import parse_anchor
from asys.audit.entries import Gap
from asys.audit.segments import READS, find_segments
from asys.audit.verify import OPEN, WHOLE, verify
from asys.node.audit.log import DEGRADED
from asys.node.audit.stream import Keeping
from asys.node.audit.supervisor import Supervisor
from asys.node.audit.writer import WriterOptions
from asys.node.clock import LoopClock
from support.audit import (
    ENVIRONMENT,
    KEY,
    PATIENCE,
    PRODUCER,
    audited,
    ended,
    entries,
    everything_written,
    records,
    sequence,
    until,
)
from support.loop_disk import LoopDisk, fill, loop_disk_missing

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(loop_disk_missing()), reason=loop_disk_missing()),
]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    with LoopDisk(tmp_path) as made:
        yield made


def options(directory: Path, segment_bytes: int = 100_000) -> WriterOptions:
    keeping = Keeping(segment_bytes=segment_bytes)
    return WriterOptions(directory, append_only=False, keeping=keeping)


class Acting:
    """A session that acts; `seq` is the last Seq that was taken."""

    def __init__(self, audit: Supervisor, seq: int = 0) -> None:
        self.audit = audit
        self.seq = seq
        self.session = audit.log.open_session(KEY, "label", 1, "peer")

    def act(self, count: int) -> bool:
        """Intents; False when there is no room for one."""
        for _ in range(count):
            if not self.audit.log.intent(self.session, 0x84, 0x20, self.seq + 1, b""):
                return False
            self.seq += 1
        return True

    async def written(self) -> None:
        """Returns when all of it is on the disk, and the node knows."""
        await until(lambda: everything_written(self.audit) and not self.audit.log.flags)

    @property
    def all(self) -> list[int]:
        return list(range(1, self.seq + 1))


async def degraded(audit: Supervisor) -> None:
    await until(lambda: audit.log.flags == DEGRADED)


# -- a disk that is full


async def test_a_full_disk_loses_nothing_and_is_forgotten_when_there_is_room(
    disk: LoopDisk, caplog: pytest.LogCaptureFixture
) -> None:
    directory = disk.small / "audit"
    async with audited(options(directory)) as audit:
        acting = Acting(audit)
        for _ in range(3):
            assert acting.act(1000)
            await acting.written()
            fill(disk.small)
            # More than the pages that the segment has already.
            assert acting.act(2000)
            audit.log.read(acting.session, 1, 0x9000)
            await degraded(audit)
            assert acting.act(2000)
            os.kill(audit.log.doing.writer, signal.SIGKILL)
            assert acting.act(2000)
            (disk.small / "filler").unlink()
            await acting.written()
    assert sequence(directory) == acting.all
    assert verify(directory).code == verify(directory, kind=READS).code == WHOLE
    assert "No space left on device" in caplog.text


async def test_a_disk_that_is_full_from_the_start_is_waited_for(disk: LoopDisk) -> None:
    directory = disk.small / "audit"
    fill(disk.small)
    async with audited(options(directory)) as audit:
        acting = Acting(audit)
        assert acting.act(1000)
        await degraded(audit)
        (disk.small / "filler").unlink()
        await acting.written()
    assert sequence(directory) == acting.all
    assert verify(directory).code == WHOLE


async def test_a_full_ring_refuses_what_would_act_until_the_disk_takes_it(disk: LoopDisk) -> None:
    directory = disk.small / "audit"
    fill(disk.small)
    audit = Supervisor(
        options(directory), LoopClock(asyncio.get_running_loop()), doing=2000, reading=100
    )
    audit.start()
    try:
        acting = Acting(audit)
        assert not acting.act(3000)
        taken = acting.seq
        assert 1900 < taken <= 2000
        for seq in acting.all:  # what was taken is answered, and for that there is room
            audit.log.outcome(acting.session, 0x84, 0x20, seq, b"", 0x9000, intended=True)
        for _ in range(7):
            audit.log.outcome(acting.session, 0x84, 0x20, 0, b"", 0x6400)
        assert audit.log.flags == DEGRADED
        (disk.small / "filler").unlink()
        await acting.written()
        assert acting.act(10)
    finally:
        await audit.close(PATIENCE)
    found = [(record.seq, record.sw) for _, record in records(directory)]
    assert found[: 2 * taken] == [(seq, 0) for seq in range(1, taken + 1)] + [
        (seq, 0x9000) for seq in range(1, taken + 1)
    ]
    assert found[2 * taken :] == [(seq, 0) for seq in range(taken + 1, taken + 11)]
    assert [entry.count for entry in entries(directory) if isinstance(entry, Gap)] == [7]
    assert verify(directory).code == WHOLE


# -- a disk that hangs


async def test_nobody_waits_for_a_disk_that_hangs(disk: LoopDisk) -> None:
    directory = disk.path / "audit"
    async with audited(options(directory)) as audit:
        acting = Acting(audit)
        for _ in range(3):
            assert acting.act(100)
            await acting.written()
            with disk.hung():
                assert acting.act(1)
                loop = asyncio.get_running_loop()
                begun = loop.time()
                # A put that waited for the disk would not come back before it is thawed.
                while not audit.log.flags:
                    assert acting.act(10)
                    await asyncio.sleep(0.01)
                assert loop.time() - begun >= 2.0
                os.kill(audit.log.doing.writer, signal.SIGKILL)  # it cannot die now
                assert acting.act(100)
            await acting.written()
    assert sequence(directory) == acting.all
    assert verify(directory).code == WHOLE


@pytest.mark.parametrize("writer_dies_too", [False, True])
async def test_another_asyd_serves_while_the_writer_of_the_one_before_hangs(
    disk: LoopDisk, writer_dies_too: bool, caplog: pytest.LogCaptureFixture
) -> None:
    directory = disk.path / "audit"
    with produces(directory) as producer:
        producer.read(20)
        await asyncio.to_thread(producer.has_written)
        with ExitStack() as hang:
            hang.enter_context(disk.hung())
            last = producer.read(20)
            producer.kill()
            if writer_dies_too:
                os.kill(producer.writer, signal.SIGKILL)
            async with audited(options(directory)) as audit:
                acting = Acting(audit, seq=1_000_000)
                assert acting.act(1000)
                await until(lambda: "another writer still has" in caplog.text)
                await degraded(audit)
                assert acting.act(1000)
                assert audit.log.doing.tail == 0
                hang.close()
                await acting.written()
        await asyncio.to_thread(ended, producer.keeper)
    found = sequence(directory)
    before = [seq for seq in found if seq <= 1_000_000]
    assert before == list(range(1, len(before) + 1))
    assert len(before) >= last
    assert [seq for seq in found if seq > 1_000_000] == list(range(1_000_001, acting.seq + 1))
    if not writer_dies_too:
        assert found == sorted(found)
    assert verify(directory).code == WHOLE
    assert verify(directory, kind=READS).code == WHOLE


# -- a disk that is read-only, or gone


def mount(disk: LoopDisk, *words: str) -> None:
    disk._run("mount", *words)


def error_trigger(disk: LoopDisk) -> Path:
    """What makes its file system believe that it is damaged."""
    number = disk.path.stat().st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve().name
    trigger = Path("/sys/fs/ext4", device, "trigger_fs_error")
    if not trigger.exists():
        pytest.skip("this kernel makes no errors on demand")
    return trigger


async def test_a_disk_that_is_read_only_is_waited_for(disk: LoopDisk) -> None:
    directory = disk.path / "audit"
    async with audited(options(directory)) as audit:
        acting = Acting(audit)
        assert acting.act(100)
        await acting.written()
    mount(disk, "-o", "remount,ro", "disk")
    async with audited(options(directory)) as audit:
        acting = Acting(audit, acting.seq)
        assert acting.act(100)
        await degraded(audit)
        assert acting.act(100)
        mount(disk, "-o", "remount,rw", "disk")
        await acting.written()
    assert sequence(directory) == acting.all
    assert verify(directory).code == WHOLE


async def test_an_error_that_makes_the_disk_read_only_loses_nothing_when_it_is_mounted_again(
    disk: LoopDisk, caplog: pytest.LogCaptureFixture
) -> None:
    directory = disk.path / "audit"
    mount(disk, "-o", "remount,errors=remount-ro", "disk")
    trigger = error_trigger(disk)
    async with audited(options(directory)) as audit:
        acting = Acting(audit)
        assert acting.act(100)
        await acting.written()
        await asyncio.to_thread(trigger.write_text, "a test")
        assert acting.act(100)
        await degraded(audit)
        disk._run("umount", "--lazy", "disk")
        await until(lambda: "it was on another file system before" in caplog.text)
        assert acting.act(100)
        mount(disk, "-o", "loop,noauto_da_alloc", "outer/disk.img", "disk")
        await acting.written()
    assert sequence(directory) == acting.all
    assert verify(directory).code == WHOLE
    assert not (disk.path.parent / "disk" / "audit.key.next").exists()


async def test_a_directory_that_is_deleted_is_made_again_and_the_chain_goes_on(
    disk: LoopDisk, caplog: pytest.LogCaptureFixture
) -> None:
    directory = disk.path / "audit"
    async with audited(options(directory)) as audit:
        acting = Acting(audit)
        assert acting.act(100)
        await acting.written()
        verdict = verify(directory)
        assert verdict.anchor is not None
        shutil.rmtree(directory)
        await degraded(audit)
        assert acting.act(100)
        await acting.written()
    assert sequence(directory) == list(range(101, 201))
    assert verify(directory, anchor=parse_anchor(verdict.anchor)).code == WHOLE
    assert find_segments(directory, "audit")[0].number == 2
    assert "goes on in segment 2" in caplog.text


async def test_a_directory_that_is_moved_is_made_again_and_the_chain_goes_on(
    disk: LoopDisk,
) -> None:
    directory, moved = disk.path / "audit", disk.path / "moved"
    async with audited(options(directory)) as audit:
        acting = Acting(audit)
        assert acting.act(100)
        await acting.written()
        directory.rename(moved)
        await degraded(audit)
        assert acting.act(100)
        await acting.written()
    assert sequence(moved) + sequence(directory) == acting.all
    for path in moved.glob("audit-*.seg"):
        path.rename(directory / path.name)
    assert verify(directory).code == WHOLE


# -- a loss of power


async def test_what_is_said_to_be_on_the_disk_outlasts_a_loss_of_power(disk: LoopDisk) -> None:
    directory = disk.path / "audit"
    codes = set()
    async with audited(options(directory, segment_bytes=4000)) as audit:
        acting = Acting(audit)
        for number in range(25):
            assert acting.act(60)
            await asyncio.sleep(0.002 * number)
            said = audit.log.doing.tail - 3 if audit.log.doing.tail else 0  # without the session
            with disk.after_a_power_cut() as copy:
                left = copy / "audit"
                if not left.exists():
                    assert said == 0
                    continue
                verdict = verify(left)
                assert verdict.code in (WHOLE, OPEN), verdict
                codes.add(verdict.code)
                found = sequence(left)
                assert found == list(range(1, len(found) + 1))
                assert len(found) >= said
                # An asyd that starts there goes on in this chain.
                async with audited(options(left)) as other:
                    after = Acting(other, seq=len(found))
                    assert after.act(10)
                verdict = verify(left)
                assert verdict.code == WHOLE, verdict
                assert sequence(left) == after.all
    assert sequence(directory) == acting.all
    assert OPEN in codes


class Producer:
    """An asyd without agents, that records all the time."""

    def __init__(self, process: subprocess.Popen[str], directory: Path) -> None:
        self._process = process
        self._directory = directory
        self.keeper = os.pidfd_open(int(self._out.readline()))
        self.writer = 0

    @property
    def _out(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout

    def read(self, lines: int) -> int:
        """The last Seq that it says it has recorded."""
        for _ in range(lines):
            seq, self.writer = map(int, self._out.readline().split())
        return seq

    def has_written(self) -> None:
        """Reads until something of it is on the disk."""
        while not self._directory.exists() or not sequence(self._directory):
            self.read(1)

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait()


@contextmanager
def produces(directory: Path, seq: int = 0) -> Iterator[Producer]:
    """A producer that records what follows `seq`; killed at the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-c", PRODUCER, str(directory), str(seq)],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        try:
            yield Producer(process, directory)
        finally:
            process.kill()
