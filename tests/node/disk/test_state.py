"""State on the disk: what the child process does, and what asyd sees of it."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import select
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from asys.node.disk import scribe, state
from asys.node.disk.state_writer import Write

SECONDS = 60
"""Deadline for what takes milliseconds on an idle machine."""

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine under one kind of event loop, and sees that nothing is left of it."""

    def runs(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param, debug=False) as runner:
            runner.run(main)

    return runs


@pytest.fixture(autouse=True)
def own_child(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A child for each test; only the tests of it run out of patience."""
    monkeypatch.setattr(state, "PATIENCE", SECONDS)
    monkeypatch.setattr(scribe, "LONGEST_PAUSE", 0.1)
    state.stop()
    yield
    state.stop()


def stand_in(monkeypatch: pytest.MonkeyPatch, path: Path, program: str) -> None:
    """Has another program do the disk work."""
    path.write_text(program)
    monkeypatch.setattr(scribe, "WRITER", path)


INSTEAD = f"""
import os, pathlib, sys, time
sys.path.append({str(Path(scribe.__file__).parents[3])!r})
from asys.node.disk import state_writer
really = state_writer.replace
def replace(path, data, mode):
{{}}
state_writer.replace = replace
state_writer.main()
"""
"""The real program, with another body of `replace`."""


def instead(body: str) -> str:
    """INSTEAD with that body."""
    return INSTEAD.format("".join(f"    {line}\n" for line in body.splitlines()))


def idle() -> bool:
    """Whether nothing is to be written."""
    return state.start().idle


async def until(done: Callable[[], bool]) -> None:
    """Looks again and again: what other processes do says nothing to this loop."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()

    def look() -> None:
        if done():
            told.set()
        else:
            loop.call_later(0.001, look)

    look()
    async with asyncio.timeout(SECONDS):
        await told.wait()


def the_child() -> int:
    """The PID of the child, as soon as it has one."""
    deadline = time.monotonic() + SECONDS
    while not (pids := state.start().pids):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return pids[0]


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_a_file_is_replaced_whole(run: Run, tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        for data in (b"first", b"", bytes(range(256)) * 4096):
            await state.replace(path, data, mode)
            assert path.read_bytes() == data
            assert stat.S_IMODE(path.stat().st_mode) == mode

    run(main())
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_is_private_unless_asked_otherwise(run: Run, tmp_path: Path) -> None:
    run(state.replace(tmp_path / "file", b""))
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_an_overwrite_keeps_the_file_that_is_there(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0")
    path.chmod(0o640)
    before = path.stat()

    async def main() -> None:
        await state.overwrite(path, b"1")
        assert path.read_bytes() == b"1"

    run(main())
    after = path.stat()
    assert (after.st_ino, after.st_mode, after.st_size) == (before.st_ino, before.st_mode, 1)


@pytest.mark.parametrize(
    ("there", "code"), [(None, errno.ENOENT), (b"", errno.EINVAL), (b"12", errno.EINVAL)]
)
def test_an_overwrite_never_makes_cuts_or_lengthens_a_file(
    run: Run, tmp_path: Path, there: bytes | None, code: int
) -> None:
    path = tmp_path / "file"
    if there is not None:
        path.write_bytes(there)
    with pytest.raises(OSError, match=str(path)) as failed:
        run(state.overwrite(path, b"1"))
    assert failed.value.errno == code
    assert (path.read_bytes() if path.exists() else None) == there


def test_only_regular_files_are_overwritten(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(OSError, match="no regular file") as failed:
            run(state.overwrite(path, b""))
        assert failed.value.errno == errno.EINVAL


def test_an_error_has_the_number_that_the_child_saw(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"not a directory")
    (tmp_path / "directory").mkdir()
    for name, kind in [
        ("missing/file", FileNotFoundError),
        ("file/file", NotADirectoryError),
        ("directory", IsADirectoryError),
    ]:
        with pytest.raises(kind) as failed:
            run(state.replace(tmp_path / name, b"data"))
        assert failed.value.filename == str(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["directory", "file"]


def test_any_name_and_a_relative_path_will_do(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["-c", "ü\n'\"$x", os.fsdecode(b"\xff\xfe"), "replace"]
    for name in names:
        run(state.replace(Path(name), b"data"))
    assert sorted(os.listdir(tmp_path)) == sorted(names)


def test_writes_to_one_path_are_done_in_the_order_in_which_they_were_asked_for(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child says what came, and is slow about it: the earlier it was asked, the slower."""
    journal = tmp_path / "journal"
    stand_in(
        monkeypatch,
        tmp_path / "writer.py",
        instead(
            f"with open({str(journal)!r}, 'a') as file:\n"
            "    print('begin', int(data), path, file=file, flush=True)\n"
            "    time.sleep(0.05 / int(data))\n"
            "    print('end', int(data), path, file=file, flush=True)"
        ),
    )

    async def main() -> None:
        writes = [state.replace(tmp_path / "one", b"%d" % count) for count in range(1, 8)]
        await asyncio.gather(*writes, state.replace(tmp_path / "two", b"9"))
        assert idle()

    run(main())
    one = [line for line in journal.read_text().splitlines() if line.endswith("one")]
    path = tmp_path / "one"
    assert one == [f"{what} {count} {path}" for count in range(1, 8) for what in ("begin", "end")]


def test_writes_to_different_paths_do_not_wait_for_each_other(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of four ends only when it sees that the others have begun."""
    stand_in(
        monkeypatch,
        tmp_path / "writer.py",
        instead(
            "path.touch()\nwhile len(list(path.parent.glob('state-*'))) < 4:\n    time.sleep(0.001)"
        ),
    )

    async def main() -> None:
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*(state.replace(tmp_path / f"state-{n}", b"") for n in range(4)))

    run(main())


class Stuck:
    """A child that writes nothing before it is told to go on, as on a hung disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
        self.gate = directory / "gate"
        self.begun = directory / "begun"
        self.begun.touch()
        os.mkfifo(self.gate)
        stand_in(
            monkeypatch,
            directory / "writer.py",
            instead(
                f"with open({str(self.begun)!r}, 'a') as file:\n"
                "    print(os.getpid(), file=file)\n"
                f"open({str(self.gate)!r}).read()\n"
                "really(path, data, mode)"
            ),
        )

    @property
    def begins(self) -> list[int]:
        """The PID of the child, for each write that it has begun."""
        return [int(pid) for pid in self.begun.read_text().split()]

    def let_go(self) -> None:
        """Lets that write on that is stuck now."""
        with self.gate.open("w"):
            pass


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stuck:
    directory = tmp_path / "stuck"
    directory.mkdir()
    return Stuck(monkeypatch, directory)


def test_the_loop_serves_while_the_disk_does_not(run: Run, tmp_path: Path, stuck: Stuck) -> None:
    async def main() -> None:
        writing = asyncio.create_task(state.replace(tmp_path / "file", b"data"))
        await until(lambda: len(stuck.begins) == 1)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not writing.done()
        stuck.let_go()
        await writing
        assert (tmp_path / "file").read_bytes() == b"data"

    run(main())


def test_patience_ends_and_the_child_is_left_alone(
    run: Run, tmp_path: Path, stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes next is given up as well; the one after the disk is back is not."""
    path = tmp_path / "file"

    async def main() -> None:
        # Long enough for a child to begin, on however busy a machine.
        first = asyncio.create_task(state.replace(path, b"first"))
        await until(lambda: len(stuck.begins) == 1)
        monkeypatch.setattr(state, "PATIENCE", 0.01)
        for _ in range(3):
            with pytest.raises(TimeoutError, match=r"file: the disk has not answered for 0\.01 s"):
                await state.replace(path, b"given up")
        with pytest.raises(TimeoutError):
            await state.overwrite(path, b"given up")
        assert len(stuck.begins) == 1
        monkeypatch.setattr(state, "PATIENCE", SECONDS)
        last = asyncio.create_task(state.replace(path, b"last"))
        stuck.let_go()
        await first
        assert path.read_bytes() == b"first"
        await until(lambda: len(stuck.begins) == 2)
        stuck.let_go()
        await last
        assert path.read_bytes() == b"last"
        await until(idle)

    run(main())


def test_a_child_that_is_late_still_gets_there(
    run: Run, tmp_path: Path, stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    monkeypatch.setattr(state, "PATIENCE", 0.01)
    data = b"late" * 100_000  # more than a pipe takes

    async def main() -> None:
        while not stuck.begins:  # before the child has it, it is given up
            with pytest.raises(TimeoutError):
                await state.replace(path, data)
        stuck.let_go()
        await until(idle)
        assert path.read_bytes() == data

    run(main())


def test_to_cancel_does_not_take_a_write_back(run: Run, tmp_path: Path, stuck: Stuck) -> None:
    async def main() -> None:
        writing = asyncio.create_task(state.replace(tmp_path / "file", b"data"))
        await until(lambda: len(stuck.begins) == 1)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        stuck.let_go()
        await until(idle)
        assert (tmp_path / "file").read_bytes() == b"data"

    run(main())


@contextmanager
def program(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A Python of its own that has ended when the block has."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            yield child
        finally:
            child.kill()


ENDS_EARLY = """
import asyncio, os, signal, sys
from pathlib import Path
from asys.node.disk import scribe, state
scribe.WRITER = Path(sys.argv[1])
path, begun, size = Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
async def main():
    state.PATIENCE = 600
    first = asyncio.create_task(state.replace(path, b"data" * 10))
    while not begun.read_text().endswith("\\n"):
        await asyncio.sleep(0.001)
    state.PATIENCE = 0.01
    if size:
        os.kill(int(begun.read_text()), signal.SIGSTOP)  # so that it does not even read
        try:
            await state.replace(path.with_name("other"), bytes(size))
        except TimeoutError:
            pass
    print("late", flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize("size", [0, 1_000_000])
def test_asyd_can_end_while_a_child_is_stuck(tmp_path: Path, stuck: Stuck, size: int) -> None:
    """What it has sent whole is written then, and what it could not is not."""
    path = tmp_path / "file"
    with program(ENDS_EARLY, scribe.WRITER, path, stuck.begun, size) as asyd:
        assert asyd.wait(SECONDS) == 0
        assert asyd.stdout is not None
        assert asyd.stdout.read() == "late\n"
    pid = stuck.begins[0]
    child = os.pidfd_open(pid)
    try:
        assert not path.exists()
        os.kill(pid, signal.SIGCONT)
        stuck.let_go()
        assert select.select([child], [], [], SECONDS)[0]
    finally:
        os.close(child)
    assert path.read_bytes() == b"data" * 10
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import os; os.kill(os.getpid(), 9)", "its writer ended with -9 and no answer"),
        ("raise SystemExit(3)", "its writer ended with 3 and no answer"),
        ("raise ValueError('why')", "ended with 1 and no answer: ValueError: why"),
        ("print('done?')", "ended with 0 and no answer"),
        ("import os; os.write(1, bytes(9))", "ended with 0 and no answer"),
    ],
)
def test_a_child_that_ends_is_an_input_output_error(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, message: str
) -> None:
    """It had the write in hand, so nobody knows what became of it. Whoever asks next is served."""
    stand_in(monkeypatch, tmp_path / "writer.py", f"import os; os.read(0, 100)\n{program}")
    with pytest.raises(OSError, match=message) as failed:
        run(state.replace(tmp_path / "file", b"x" * 1_000_000))
    assert failed.value.errno == errno.EIO
    monkeypatch.undo()
    run(state.replace(tmp_path / "file", b"data"))
    assert (tmp_path / "file").read_bytes() == b"data"


def test_a_fault_in_the_child_is_an_input_output_error(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, tmp_path / "writer.py", instead("raise ValueError('why')"))
    with pytest.raises(OSError, match="ValueError: why") as failed:
        run(state.replace(tmp_path / "file", b"data"))
    assert failed.value.errno == errno.EIO
    assert failed.value.filename == str(tmp_path / "file")


def test_a_child_that_is_killed_is_started_again_though_nobody_asks(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        await state.replace(tmp_path / "file", b"1")
        killed = the_child()
        os.kill(killed, signal.SIGKILL)
        await until(lambda: killed not in state.start().pids and bool(state.start().pids))
        await state.replace(tmp_path / "file", b"2")

    run(main())
    assert (tmp_path / "file").read_bytes() == b"2"
    assert "started again: its writer ended with -9" in caplog.text


def test_a_write_starts_no_process_and_no_thread(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is to be started is there already: memory may have run out."""
    child = the_child()

    def start(*_: object, **__: object) -> None:
        raise AssertionError("something is started")

    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(subprocess, "Popen", start)
    run(state.replace(tmp_path / "file", b"data"))
    run(state.overwrite(tmp_path / "file", b"atad"))
    assert state.start().pids == (child,)


def test_when_asyds_memory_runs_out_it_begins_anew(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = Write.pack
    fails = iter([True])

    def pack(self: Write) -> bytes:
        if next(fails, False):
            raise MemoryError
        return really(self)

    monkeypatch.setattr(Write, "pack", pack)
    with pytest.raises(OSError, match="no answer") as failed:
        run(state.replace(tmp_path / "file", b"data"))
    assert failed.value.errno == errno.EIO
    run(state.replace(tmp_path / "file", b"data"))


def test_no_child_to_be_had(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    with pytest.raises(FileNotFoundError, match="missing"):
        run(state.replace(tmp_path / "file", b"data"))
    assert "the process that writes the state cannot be started" in caplog.text
    monkeypatch.undo()
    run(state.replace(tmp_path / "file", b"data"))


def test_no_thread_to_be_had(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(BlockingIOError, match="can't start new thread"):
            run(state.replace(tmp_path / "file", b"data"))
    run(state.replace(tmp_path / "file", b"data"))
    assert (tmp_path / "file").read_bytes() == b"data"


def test_a_child_that_does_not_end_is_left_behind(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has closed its pipes, and waits for a disk: whoever asks next has another one."""
    stand_in(
        monkeypatch,
        tmp_path / "writer.py",
        "import os, signal\n"
        f"with open({str(tmp_path / 'pid')!r}, 'w') as file:\n"
        "    print(os.getpid(), file=file)\n"
        "os.closerange(0, 3)\n"
        "signal.pause()\n",
    )
    monkeypatch.setattr(scribe, "REAP_SECONDS", 0.01)
    with pytest.raises(OSError, match="no answer"):
        run(state.replace(tmp_path / "file", b"data"))
    monkeypatch.undo()
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_disk_that_says_itself_that_it_timed_out(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = f"raise OSError({errno.ETIMEDOUT}, 'Server is away')"
    stand_in(monkeypatch, tmp_path / "writer.py", instead(body))
    with pytest.raises(TimeoutError, match="Server is away") as failed:
        run(state.replace(tmp_path / "file", b"data"))
    assert failed.value.errno == errno.ETIMEDOUT


def test_the_child_has_nothing_of_asyds(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not its descriptors, its terminal's signals, its directory, nor what its environment says."""
    stand_in(
        monkeypatch,
        tmp_path / "writer.py",
        "import json\n"
        + instead(
            "fds = sorted(map(int, os.listdir('/proc/self/fd')))\n"
            "kinds = [os.readlink(f'/proc/self/fd/{fd}').split(':')[0] for fd in (0, 1, 2)]\n"
            "with open(path, 'w') as file:\n"
            "    json.dump([fds, kinds, os.getsid(0) == os.getpid(), os.getcwd(),\n"
            "        sys.flags.isolated,\n"
            "        [one for one in sys.path if 'site-packages' in one]], file)"
        ),
    )
    leak = os.open("/dev/null", os.O_RDONLY)
    try:
        os.set_inheritable(leak, True)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        run(state.replace(tmp_path / "report", b""))
    finally:
        os.close(leak)
    report = json.loads((tmp_path / "report").read_text())
    # One more is the listing's own.
    assert report == [[0, 1, 2, 3], ["pipe"] * 3, True, "/", 1, []]


def test_whoever_ends_the_service_does_not_end_the_child(run: Run, tmp_path: Path) -> None:
    """asyd still has something to write then; the child ends when asyd has."""
    run(state.replace(tmp_path / "file", b"1"))
    child = the_child()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(child, number)
    run(state.replace(tmp_path / "file", b"2"))
    assert the_child() == child
