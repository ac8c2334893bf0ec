"""Added agents and the node's state on a disk that loses its power, hangs or is full.

Each promise about a loss of power is tested with a control: the same check, on the same writer
without one of its fsyncs, must report a loss.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asys.node.agents.delegated_store import DelegatedStore
from asys.node.agents.directory import Delegate
from asys.node.disk import scribe, state
from asys.node.disk.files import ConfigError
from support.loop_disk import SECONDS, LoopDisk, fill, loop_disk_missing

PARENT = b"\5" * 32

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
"""For programs that import from the tests."""


def version(number: int) -> tuple[Delegate, ...]:
    """Some 20 kB, all of one version."""
    return tuple(
        Delegate(bytes([5, 9, one]) + bytes(29), PARENT, one << 8, "x" * 31, number)
        for one in range(64)
    )


def lost(directory: Path, acknowledged: int) -> str:
    """What is lost of what was acknowledged, or ''."""
    try:
        found = DelegatedStore(directory).load()
    except ConfigError as error:
        return str(error)
    if not found:
        return "no file"
    if found != version(found[0].expires):
        return "parts of several versions"
    if found[0].expires < acknowledged:
        return f"version {found[0].expires}, and {acknowledged} was acknowledged"
    return ""


WRITER = """
import asyncio, sys
from pathlib import Path
from asys.node.disk import scribe, state, state_writer
from asys.node.agents.delegated_store import DelegatedStore
from system.test_delegated_durability import version

directory, pace, program = sys.argv[1:]
state.PATIENCE = 600  # a busy machine is no hung disk
scribe.WRITER = Path(program)

async def at_once(path, data, mode):
    state_writer.replace(path, data, mode)

async def main():
    if pace == "fast":
        state.replace = at_once
    number = 1
    while True:
        await DelegatedStore(Path(directory)).save(version(number))
        print(number, flush=True)
        if pace == "step":
            sys.stdin.readline()
        number += 1

asyncio.run(main())
"""
"""Saves one version after the other, and says when one is saved.

`fast` does the work of the child process itself, so that nearly all the time is spent writing;
`step` waits for a line before it goes on; `child` does neither.
"""

UNSYNCED = """
import os, runpy, stat, sys
really = os.fsync
def fsync(handle):
    kind = "directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"
    if kind not in {left_out!r}:
        really(handle)
os.fsync = fsync
sys.argv[0] = {program!r}
runpy.run_path({program!r}, run_name="__main__")
"""
"""The program of the child, without some of its fsyncs."""


class Writer:
    """A process that runs WRITER."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.acknowledged = 0

    def next(self) -> int:
        """Waits for one version to be saved; the last one that has been saved by then."""
        if self.process.stdout is None:
            raise RuntimeError("no pipe")
        handle = self.process.stdout.fileno()
        wait: float | None = SECONDS
        before = self.acknowledged
        text = b""
        while select.select([handle], [], [], wait)[0]:
            some = os.read(handle, 1 << 16)
            if not some:
                break
            text += some
            wait = 0 if text.endswith(b"\n") else SECONDS
        self.acknowledged = int(text.split()[-1])
        assert self.acknowledged > before
        return self.acknowledged

    def go_on(self) -> None:
        """Lets it save one more version, if it goes step by step."""
        if self.process.stdin is None:
            raise RuntimeError("no pipe")
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()


@contextmanager
def writing(directory: Path, pace: str, program: Path = scribe.WRITER) -> Iterator[Writer]:
    """Version 0 is there, and more come."""
    asyncio.run(DelegatedStore(directory).save(version(0)))
    command = [sys.executable, "-c", WRITER, str(directory), pace, str(program)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        try:
            yield Writer(process)
        finally:
            process.kill()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    missing = loop_disk_missing()
    if missing:
        pytest.skip(f"a disk of its own {missing}")
    place = tmp_path / "disk"
    place.mkdir()
    with LoopDisk(place) as made:
        (made.path / "state").mkdir()
        yield made


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no hung disk."""
    monkeypatch.setattr(state, "PATIENCE", 600)


# kill -9

KILLED_AT_EACH_CALL = """
import os, signal, sys
from pathlib import Path
from asys.node.disk import state_writer
from asys.node.agents.delegated_store import DelegatedStore, _encode
from system.test_delegated_durability import lost, version
from support.loop_disk import SECONDS
import asys.node.disk.files

directory = Path(sys.argv[1])
path = directory / "delegated_agents.json"
saved, call = 0, 0
while True:
    call += 1
    child = os.fork()
    if not child:
        left = call
        def count(frame, event, argument):
            global left
            if event == "c_call":
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)
        data = _encode(version(saved + 1))
        sys.setprofile(count)
        state_writer.replace(path, data, 0o600)
        sys.setprofile(None)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        break
    if status != signal.SIGKILL:
        sys.exit(f"the writer ended with {status}")
    loss = lost(directory, saved)
    if loss:
        sys.exit(f"killed at call {call}: {loss}")
    found = DelegatedStore(directory).load()[0].expires
    if found > saved + 1:
        sys.exit(f"killed at call {call}: version {found}")
    saved = found
print(call, saved, len(os.listdir(directory)))
"""
"""Kills the writer at its first call of a built-in function, at its second, and so on."""


def test_a_writer_that_is_killed_at_any_call_leaves_one_version_whole(tmp_path: Path) -> None:
    asyncio.run(DelegatedStore(tmp_path).save(version(0)))
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT_EACH_CALL, str(tmp_path)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    calls, saved, files = map(int, done.stdout.split())
    # It went through the rename, before and after which there are calls of all kinds.
    assert calls > 20
    assert 1 <= saved < calls
    # And the last one, which nobody killed, has swept up what the others left.
    assert files == 1
    assert lost(tmp_path, saved + 1) == ""


@pytest.mark.parametrize("pace", ["fast", "child"])
def test_a_writer_that_is_killed_at_any_moment_leaves_one_version_whole(
    tmp_path: Path, pace: str
) -> None:
    """With `child`, what dies is asyd, in the middle of handing over or waiting."""
    moments = random.Random(20)  # noqa: S311  no secret
    for _ in range(15):
        with writing(tmp_path, pace) as writer:
            writer.next()
            time.sleep(moments.random() * 0.03)  # a moment of no choice of the writer's
            writer.process.kill()
            writer.process.wait(SECONDS)
            acknowledged = writer.acknowledged
        assert lost(tmp_path, acknowledged) == ""


# A loss of power


@pytest.mark.root
@pytest.mark.parametrize("pace", ["fast", "child", "step"])
def test_after_a_power_cut_there_is_what_was_acknowledged(disk: LoopDisk, pace: str) -> None:
    place = disk.path / "state"
    moments = random.Random(21)  # noqa: S311  no secret
    with writing(place, pace) as writer:
        for _ in range(12):
            acknowledged = writer.next()
            if pace == "child":
                time.sleep(moments.random() * 0.04)  # into the next version, somewhere
            with disk.after_a_power_cut() as copy:
                assert lost(copy / "state", acknowledged) == ""
            if pace == "step":
                writer.go_on()


@pytest.mark.root
@pytest.mark.parametrize("left_out", [("file", "directory"), ("file",), ("directory",)])
def test_without_its_fsyncs_a_power_cut_loses_what_was_acknowledged(
    disk: LoopDisk, left_out: tuple[str, ...], tmp_path: Path
) -> None:
    """The control. The file system may commit by itself now and then, but not five times."""
    place = disk.path / "state"
    program = tmp_path / "unsynced.py"
    program.write_text(UNSYNCED.format(left_out=left_out, program=str(scribe.WRITER)))
    losses = []
    with writing(place, "step", program) as writer:
        for _ in range(5):
            acknowledged = writer.next()
            with disk.after_a_power_cut() as copy:
                losses.append(lost(copy / "state", acknowledged))
            writer.go_on()
    assert any(losses), losses


@pytest.mark.root
@pytest.mark.usefixtures("patience")
def test_an_overwrite_is_there_after_a_power_cut(disk: LoopDisk) -> None:
    path = disk.path / "state" / "dark"
    asyncio.run(state.replace(path, b"0"))
    for data in (b"1", b"0", b"1"):
        asyncio.run(state.overwrite(path, data))
        with disk.after_a_power_cut() as copy:
            assert (copy / "state" / "dark").read_bytes() == data


# A full disk


@pytest.mark.root
@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("kind", ["ext4", "tmpfs"])
def test_on_a_full_disk_what_is_there_can_be_overwritten_but_not_replaced(
    disk: LoopDisk, kind: str
) -> None:
    place = disk.path / "state" if kind == "ext4" else disk.small
    flag = place / "dark"
    store = DelegatedStore(place)
    asyncio.run(state.replace(flag, b"0"))
    asyncio.run(store.save(version(1)))
    fill(place)
    before = sorted(os.listdir(place))
    with pytest.raises(OSError, match=str(store.path)) as failed:
        # More than an ext4 keeps back.
        asyncio.run(state.replace(store.path, bytes(1 << 20)))
    assert failed.value.errno == errno.ENOSPC
    assert lost(place, 1) == ""
    asyncio.run(state.overwrite(flag, b"1"))
    assert flag.read_bytes() == b"1"
    assert sorted(os.listdir(place)) == before


# A hung disk


def sleeping_for_good(pid: int) -> int:
    """How many threads of a process wait where no signal reaches them."""
    count = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            count += (task / "stat").read_text().rpartition(")")[2].split()[0] == "D"
    return count


def wait_until(done: Callable[[], bool]) -> None:
    """Looks again and again: other processes do not say what they wait for."""
    deadline = time.monotonic() + SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.001)


def one_hangs() -> int:
    """Waits until the child of this process waits for the disk; its PID."""
    wait_until(lambda: any(map(sleeping_for_good, state.start().pids)))
    return state.start().pids[0]


def waits_for_the_lock(pid: int) -> bool:
    """Whether a child waits until another one is done in its directory."""
    return f"-> FLOCK  ADVISORY  WRITE {pid} " in Path("/proc/locks").read_text()


@pytest.mark.root
@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("work", ["replace", "overwrite"])
async def test_the_loop_serves_while_the_disk_hangs(disk: LoopDisk, work: str) -> None:
    path = disk.path / "state" / "file"
    await state.replace(path, b"old")

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        with disk.hung():
            ask = state.replace if work == "replace" else state.overwrite
            asked = asyncio.create_task(ask(path, b"new"))
            await asyncio.to_thread(one_hangs)
            for number in range(50):
                writer.write(b"%03d" % number)
                assert await reader.readexactly(3) == b"%03d" % number
            assert not asked.done()
            assert path.read_bytes() == b"old"
        await asked
        assert path.read_bytes() == b"new"
        writer.close()
        await writer.wait_closed()


@pytest.mark.root
async def test_a_hung_disk_is_a_timeout_and_nothing_comes_out_of_order(
    disk: LoopDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = disk.path / "state" / "file"
    monkeypatch.setattr(state, "PATIENCE", 600)
    await state.replace(path, b"old")
    with disk.hung():
        first = asyncio.create_task(state.replace(path, b"first"))
        await asyncio.to_thread(one_hangs)
        monkeypatch.setattr(state, "PATIENCE", 0.1)
        for _ in range(2):
            with pytest.raises(TimeoutError, match="the disk has not answered"):
                await state.replace(path, b"given up")
        assert sum(map(sleeping_for_good, state.start().pids)) == 1
        monkeypatch.setattr(state, "PATIENCE", 600)
        last = asyncio.create_task(state.replace(path, b"last"))
    await first
    await last
    assert path.read_bytes() == b"last"
    assert os.listdir(path.parent) == ["file"]


GIVES_UP = """
import asyncio, sys
from pathlib import Path
from asys.node.disk import state
from system.test_delegated_durability import one_hangs
async def main():
    writing = asyncio.create_task(state.replace(Path(sys.argv[1]), b"late"))
    print(await asyncio.to_thread(one_hangs), flush=True)
asyncio.run(main())
"""


@pytest.mark.root
@pytest.mark.usefixtures("patience")
def test_asyd_ends_on_a_hung_disk_and_its_successor_is_not_overtaken(disk: LoopDisk) -> None:
    path = disk.path / "state" / "file"
    asyncio.run(state.replace(path, b"old"))

    async def succeed() -> None:
        with disk.hung():
            done = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-c", GIVES_UP, str(path)],
                env=ENVIRONMENT,
                capture_output=True,
                text=True,
                timeout=SECONDS,
            )
            assert done.returncode == 0, done.stderr
            hung = int(done.stdout)
            await asyncio.to_thread(wait_until, lambda: sleeping_for_good(hung) == 1)
            successor = asyncio.create_task(state.replace(path, b"new"))
            [ours] = state.start().pids
            await asyncio.to_thread(wait_until, lambda: waits_for_the_lock(ours))
        await successor
        await asyncio.to_thread(wait_until, lambda: not Path(f"/proc/{hung}").exists())
        assert path.read_bytes() == b"new"

    asyncio.run(succeed())
