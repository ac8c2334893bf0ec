"""The writer as a process of its own: it is killed, stopped and left alone, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from asys.audit.entries import SessionOpened
from asys.audit.segments import READS, find_segments
from asys.audit.verify import WHOLE, verify
from asys.node.audit import supervisor as supervisor_module
from asys.node.audit.append_only import CAP_LINUX_IMMUTABLE, is_append_only
from asys.node.audit.log import DEGRADED
from asys.node.audit.parameters import ParameterKeeping
from asys.node.audit.ring import DOING
from asys.node.audit.stream import Keeping
from asys.node.audit.supervisor import Supervisor
from asys.node.audit.writer import (
    IDLE_SECONDS,
    LONGER_SECONDS,
    PACE_SECONDS,
    QUIET_SECONDS,
    Writer,
    WriterOptions,
)
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
    make_removable,
    sequence,
    small_rings,
    until,
)


def options(directory: Path, keeping: Keeping | None = None) -> WriterOptions:
    return WriterOptions(directory, append_only=False, keeping=keeping or Keeping())


def act(audit: Supervisor, session: int, seqs: range) -> None:
    """Intents with these Seqs."""
    for seq in seqs:
        assert audit.log.intent(session, 0x84, 0x20, seq, b"")


async def test_what_is_recorded_is_on_the_disk_when_the_writer_has_ended(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "audit"
    async with audited(options(directory)) as audit:
        session = audit.log.open_session(KEY, "label", 1, "peer")
        act(audit, session, range(1, 5001))
        audit.log.read(session, 1, 0x9000)
    assert sequence(directory) == list(range(1, 5001))
    assert verify(directory).code == verify(directory, kind=READS).code == WHOLE
    assert directory.stat().st_mode & 0o777 == 0o700
    labels = [one.label for one in entries(directory, READS) if isinstance(one, SessionOpened)]
    assert labels == ["label"]


async def test_a_writer_that_is_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    killed: set[int] = set()
    seq = 0
    async with audited(options(directory, Keeping(segment_bytes=20_000))) as audit:
        session = audit.log.open_session(KEY, "label", 1, "peer")
        doing = audit.log.doing
        while len(killed) < 100:
            # Killed as often as it is, it may fall behind; a full ring is another test's.
            await until(lambda: doing.head - doing.tail < DOING // 2)
            act(audit, session, range(seq + 1, seq + 101))
            seq += 100
            audit.log.read(session, 1, 0x9000)
            await asyncio.sleep(0.001 * (seq // 100 % 25))
            writer = audit.log.doing.writer
            if writer and writer not in killed:
                os.kill(writer, signal.SIGKILL)
                killed.add(writer)
        pids = audit.pids
        await until(lambda: everything_written(audit))
        assert pids[0] == audit.pids[0]  # the keeper was there all the time
    assert sequence(directory) == list(range(1, seq + 1))
    assert verify(directory).code == verify(directory, kind=READS).code == WHOLE
    opened = {one.session for one in entries(directory) if isinstance(one, SessionOpened)}
    assert opened == {0}
    assert len(find_segments(directory, "audit")) > 3


async def test_a_keeper_that_dies_alone_is_replaced_when_its_writer_has_died_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "audit"
    async with audited(options(directory)) as audit:
        session = audit.log.open_session(KEY, "label", 1, "peer")
        act(audit, session, range(1, 11))
        await until(lambda: everything_written(audit))
        keeper, writer = audit.pids
        os.kill(keeper, signal.SIGKILL)
        act(audit, session, range(11, 21))
        await until(lambda: everything_written(audit))
        assert audit.log.doing.writer == writer
        os.kill(writer, signal.SIGKILL)
        await until(lambda: audit.log.fault)
        assert audit.log.flags == DEGRADED
        act(audit, session, range(21, 31))
        await until(lambda: everything_written(audit) and not audit.log.flags)
        assert not {keeper, writer} & set(audit.pids)
    assert sequence(directory) == list(range(1, 31))
    assert verify(directory).code == WHOLE
    assert "has died" in caplog.text


async def test_a_writer_cannot_be_ended_as_asyd_is(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    async with audited(options(directory)) as audit:
        session = audit.log.open_session(KEY, "label", 1, "peer")
        await until(lambda: everything_written(audit))
        before = audit.pids
        for pid in before:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                os.kill(pid, number)
        act(audit, session, range(1, 11))
        await until(lambda: everything_written(audit))
        assert audit.pids == before
    assert verify(directory).code == WHOLE


async def test_a_directory_that_cannot_be_had_degrades_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "file" / "audit"
    directory.parent.write_text("no directory")
    async with audited(options(directory)) as audit:
        await until(lambda: audit.log.flags == DEGRADED)
        session = audit.log.open_session(KEY, "label", 1, "peer")
        act(audit, session, range(1, 11))
        await until(lambda: "cannot be written" in caplog.text)
        directory.parent.unlink()
        await until(lambda: everything_written(audit) and not audit.log.flags)
    assert sequence(directory) == list(range(1, 11))
    said = [one for one in caplog.records if one.name == "asyd.audit"]
    assert [one.levelno for one in said] == [logging.WARNING] * 2
    assert "is written again" in said[1].getMessage()


async def test_a_program_that_does_not_start_degrades_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "audit"
    clock = LoopClock(asyncio.get_running_loop())
    audit = Supervisor(options(directory), clock)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(tmp_path / "none"))
        audit.start()
        assert audit.log.flags == DEGRADED
        assert audit.pids == ()
    session = audit.log.open_session(KEY, "label", 1, "peer")
    act(audit, session, range(1, 11))
    await until(lambda: not audit.log.flags and everything_written(audit))
    await audit.close(PATIENCE)
    assert sequence(directory) == list(range(1, 11))


async def test_a_program_that_ends_at_once_degrades_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "audit"
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit(3)")
    audit = Supervisor(options(directory), LoopClock(asyncio.get_running_loop()))
    with monkeypatch.context() as patch:
        patch.setattr(supervisor_module, "KEEPER", broken)
        audit.start()
        await until(lambda: audit.log.flags == DEGRADED)
    await until(lambda: not audit.log.flags)
    await audit.close(PATIENCE)
    assert verify(directory).code == WHOLE


async def test_closing_without_patience_leaves_the_rest_to_the_writer(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    audit = Supervisor(options(directory), LoopClock(asyncio.get_running_loop()))
    audit.start()
    await until(lambda: bool(audit.log.doing.writer))
    session = audit.log.open_session(KEY, "label", 1, "peer")
    act(audit, session, range(1, 2001))
    writer = os.pidfd_open(audit.log.doing.writer)
    await audit.close()
    await asyncio.to_thread(ended, writer)
    assert sequence(directory) == list(range(1, 2001))
    assert verify(directory).code == WHOLE


async def test_another_asyd_waits_until_the_writer_before_has_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "audit"
    async with audited(options(directory)) as first:
        one = first.log.open_session(KEY, "first", 1, "peer")
        act(first, one, range(1, 11))
        await until(lambda: everything_written(first))
        async with audited(options(directory)) as second:
            two = second.log.open_session(KEY, "second", 1, "peer")
            act(second, two, range(11, 21))
            await until(lambda: "another writer still has" in caplog.text)
            assert second.log.doing.tail == 0
            await first.close(PATIENCE)
            await until(lambda: everything_written(second))
    assert sequence(directory) == list(range(1, 21))
    assert verify(directory).code == WHOLE
    opened = [entry for entry in entries(directory) if isinstance(entry, SessionOpened)]
    assert len({entry.session for entry in opened}) == 2


def test_a_producer_that_is_killed_has_everything_written_for_it(tmp_path: Path) -> None:
    """asyd dies of kill -9, again and again: what was in the ring is still written."""
    directory = tmp_path / "audit"
    seq = least = 0
    for life in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", PRODUCER, str(directory), str(seq)],
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        ) as producer:
            assert producer.stdout is not None
            keeper = os.pidfd_open(int(producer.stdout.readline()))
            for _ in range(life * life):
                least = int(producer.stdout.readline().split()[0])
            producer.kill()
        ended(keeper)
        written = sequence(directory)
        assert written == list(range(1, len(written) + 1))
        assert len(written) >= least
        assert verify(directory).code == WHOLE
        seq = least = len(written)


@pytest.mark.skipif(sys.platform != "linux", reason="needs chattr +a")
@pytest.mark.root
async def test_files_can_only_grow_also_after_a_rotation_and_old_ones_still_go(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "audit"
    keeping = Keeping(segment_bytes=2000, days=1)
    try:
        async with audited(WriterOptions(directory, keeping=keeping)) as audit:
            session = audit.log.open_session(KEY, "label", 1, "peer")
            for start in range(1, 600, 100):
                act(audit, session, range(start, start + 100))
                await until(lambda: everything_written(audit))
            segments = find_segments(directory, "audit")
            assert len(segments) > 3
            fd = os.open(segments[0].path, os.O_RDONLY)
            try:
                if not is_append_only(fd):
                    pytest.skip("this file system has no append-only files")
            finally:
                os.close(fd)
            for segment in segments:
                with pytest.raises(PermissionError):
                    segment.path.open("r+b").close()
                with pytest.raises(PermissionError):
                    segment.path.unlink()
            make_removable(directory)
            os.utime(segments[0].path, (0, 0))
        # The next writer looks for old segments when it begins.
        async with audited(WriterOptions(directory, keeping=keeping)):
            await until(lambda: not segments[0].path.exists())
        assert verify(directory).code == WHOLE
    finally:
        make_removable(directory)


GIVE_UP = """
import json, sys
from asys.node.audit.append_only import give_up_capability

def sets():
    lines = open("/proc/self/status").read().splitlines()
    return {line[3:6]: int(line.split()[1], 16) for line in lines if line.startswith("Cap")}

before = sets()
print(json.dumps([before, give_up_capability(), sets()]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux capabilities")
@pytest.mark.root
def test_the_capability_is_given_up_for_good_and_no_other_is() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GIVE_UP],
        stdout=subprocess.PIPE,
        check=True,
        env=ENVIRONMENT,
    )
    before, given_up, after = json.loads(done.stdout)
    bit = 1 << CAP_LINUX_IMMUTABLE
    if not before["Eff"] & bit:
        pytest.skip("there is no CAP_LINUX_IMMUTABLE to give up")
    assert given_up
    for name in ("Eff", "Prm", "Bnd"):
        assert after[name] == before[name] & ~bit


def test_the_keeper_reads_on_its_command_line_what_asyd_wrote() -> None:
    for written in (
        WriterOptions(Path("/a b/c")),
        WriterOptions(Path("/a"), append_only=False, keeping=Keeping(segment_bytes=77, days=0)),
        WriterOptions(Path("/a"), parameters=ParameterKeeping(file_bytes=5, days=9)),
    ):
        assert WriterOptions.of_words(written.words()) == written


async def test_a_file_system_without_append_only_files_is_said_once_and_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "audit"
    bare = "import sys; sys.path.insert(0, {!r}); {}"
    keeper = tmp_path / "keeper.py"
    program = supervisor_module.KEEPER
    # Without the capability it is as on a file system that has no such flag.
    keeper.write_text(
        bare.format(
            str(program.parents[3]),
            "from asys.node.audit.append_only import give_up_capability; give_up_capability(); "
            f"import runpy; runpy.run_path({str(program)!r}, run_name='__main__')",
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor_module, "KEEPER", keeper)
        keeping = Keeping(segment_bytes=500)
        async with audited(WriterOptions(directory, keeping=keeping)) as audit:
            session = audit.log.open_session(KEY, "label", 1, "peer")
            for start in (1, 101, 201):
                act(audit, session, range(start, start + 100))
                await until(lambda: everything_written(audit))
    assert sequence(directory) == list(range(1, 301))
    assert caplog.text.count("cannot be made append-only") == 1


def test_a_writer_without_work_looks_less_and_less_often(tmp_path: Path) -> None:
    doing, reading = small_rings()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer = Writer(options(tmp_path), doing, reading, theirs)
        assert writer._pause(busy=True) == PACE_SECONDS
        assert writer._pause(busy=False) == IDLE_SECONDS
        writer._busy_at -= QUIET_SECONDS
        assert writer._pause(busy=False) == LONGER_SECONDS
    doing.close()
    reading.close()
