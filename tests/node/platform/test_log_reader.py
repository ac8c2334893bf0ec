"""asyd's side of the process that reads logs: in time, whatever that process does."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from asys.isa import LogDetail, LogSource, LogSummary
from asys.node.platform.base import NoSuchTarget, SystemFailure, Unsupported
from asys.node.platform.logs import reader as log_reader
from asys.node.platform.logs import wire as log_wire
from asys.node.platform.logs import worker as journal_worker
from asys.node.platform.logs.kmsg import DEVICE
from asys.node.platform.logs.logbook import event_id
from asys.node.platform.logs.place import LogPlace
from asys.node.platform.logs.reader import PATIENCE, REMEMBERED, WAITING, LogReader
from asys.protocol.status import SW
from support.clock import ManualClock

SECONDS = 60
T = TypeVar("T")

PROGRAM = """\
import os, signal, socket, struct, sys
connection = socket.socket(fileno=int(sys.argv[1]))
def answer(sw, payload=b"", rest=b""):
    connection.send(struct.pack(">HI", sw, len(payload)) + payload + rest)
"""
"""How each program of these tests begins."""

WORKS = 'connection.send(b"works")\n'
ECHO = (
    WORKS + "while question := connection.recv(9999): answer(0x9000, question[:3], question[3:])\n"
)


class Place:
    """A reader of logs whose program a test writes, and a clock that a test moves."""

    def __init__(self, path: Path, text: str) -> None:
        self.clock = ManualClock()
        self.program = path / "program.py"
        self.becomes(text)
        self.reader = LogReader(LogPlace.KERNEL, self.clock, program=self.program)
        self.reader.start()

    def becomes(self, text: str) -> None:
        """From its next start on it is another program."""
        self.program.write_text(PROGRAM + text)

    def ask(self) -> asyncio.Task[bytes]:
        """A question."""
        return asyncio.create_task(self.reader.summary(1, 2, 3))

    async def ready(self) -> None:
        """Returns when it has shown itself ready."""
        await until(lambda: self.reader._works)

    async def dead(self) -> None:
        """Returns when asyd knows that it has ended, and it has."""
        [pid] = self.reader.pids
        await until(lambda: self.reader._socket is None and _has_ended(pid))

    async def again(self) -> None:
        """Lets pauses pass until another one has been started."""
        gone = self.reader.pids

        def started() -> bool:
            self.clock.advance(1)
            return self.reader._socket is not None and self.reader.pids != gone

        await until(started)


async def until(condition: Callable[[], object]) -> None:
    """Returns when something is so."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110  what happens to another process is no event here
            await asyncio.sleep(0.002)


async def soon(awaited: Awaitable[T]) -> T:
    """What is awaited, which comes soon."""
    async with asyncio.timeout(SECONDS):
        return await awaited


def kill_at_once(pid: int) -> None:
    """Ends a process; the loop stands still until it has ended."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def room(place: Place) -> bool:
    """Whether one more question may wait."""
    return place.reader.has_room


def _has_ended(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[[str], Place]]:
    """Starts a reader whose program this is."""
    made: list[Place] = []

    def make(text: str) -> Place:
        made.append(Place(tmp_path, text))
        return made[-1]

    yield make
    for place in made:
        await place.reader.close()
        await place.reader.close()
        assert place.reader.pids == ()


async def test_questions_are_answered_one_after_the_other(start: Callable[[str], Place]) -> None:
    place = start(ECHO)
    answers = await soon(asyncio.gather(*(place.ask() for _ in range(WAITING))))
    assert answers == [b"S\0\0"] * WAITING
    assert len(place.reader.pids) == 1
    # What stands behind a payload are cursors.
    assert place.reader.remembers(int.from_bytes(event_id(b"\0\1\2\3"), "big"))
    assert not place.reader.remembers(5)


async def test_no_more_than_so_many_wait(start: Callable[[str], Place]) -> None:
    place = start("import time; time.sleep(3600)")
    assert room(place)
    waiting = [place.ask() for _ in range(WAITING)]
    await asyncio.sleep(0)
    assert not room(place)
    waiting[3].cancel()
    await asyncio.wait([waiting[3]])
    assert room(place)
    place.clock.advance(PATIENCE)
    for question in (*waiting[:3], *waiting[4:]):
        with pytest.raises(SystemFailure, match="in time") as caught:
            await soon(question)
        assert caught.value.sw == SW.NODE_TIMED_OUT
    assert room(place)
    # It was not its fault: it had not shown itself ready.
    assert place.reader._socket is not None


async def test_one_that_does_not_get_ready_is_replaced(start: Callable[[str], Place]) -> None:
    place = start("import time; time.sleep(3600)")
    [pid] = place.reader.pids
    place.becomes(ECHO)
    place.clock.advance(log_reader.START_SECONDS)
    await place.again()
    await until(lambda: _has_ended(pid))
    assert await soon(place.ask()) == b"S\0\0"


async def test_one_that_hangs_is_replaced_and_those_behind_are_answered(
    start: Callable[[str], Place], caplog: pytest.LogCaptureFixture
) -> None:
    place = start(WORKS + "connection.recv(9); signal.pause()")
    [pid] = place.reader.pids
    first = place.ask()
    await until(lambda: place.reader._asked is not None)
    place.becomes(ECHO)
    place.clock.advance(PATIENCE / 2)
    second = place.ask()
    await asyncio.sleep(0)
    place.clock.advance(PATIENCE / 2)
    with pytest.raises(SystemFailure) as caught:
        await soon(first)
    assert caught.value.sw == SW.NODE_TIMED_OUT
    assert "hangs" in caplog.text
    await until(lambda: _has_ended(pid))
    place.clock.advance(log_reader.FIRST_PAUSE)
    assert await soon(second) == b"S\0\0"
    assert place.reader.pids != (pid,)


async def test_one_that_dies_fails_one_question_only(
    start: Callable[[str], Place], caplog: pytest.LogCaptureFixture
) -> None:
    place = start(WORKS + "connection.recv(9); os.kill(os.getpid(), 9)")
    await place.ready()
    place.becomes(ECHO)
    first, second = place.ask(), place.ask()
    with pytest.raises(SystemFailure, match="died") as caught:
        await soon(first)
    assert caught.value.sw == SW.NODE_ERROR
    assert "has died" in caplog.text
    await place.dead()
    place.clock.advance(log_reader.FIRST_PAUSE)
    assert await soon(second) == b"S\0\0"


async def test_one_that_has_died_unseen_leaves_its_question_to_the_next(
    start: Callable[[str], Place],
) -> None:
    place = start(ECHO)
    await place.ready()
    [pid] = place.reader.pids
    kill_at_once(pid)
    question = place.ask()
    await place.dead()
    place.clock.advance(log_reader.FIRST_PAUSE)
    assert await soon(question) == b"S\0\0"


async def test_one_that_was_killed_and_cannot_end_has_no_successor(
    start: Callable[[str], Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = start(WORKS + "connection.recv(9); signal.pause()")
    question = place.ask()
    await until(lambda: place.reader._asked is not None)
    process = place.reader._process
    assert process is not None
    # As with a process that waits for a disk: it is killed, and stays.
    monkeypatch.setattr(process, "kill", lambda: None)
    place.clock.advance(PATIENCE)
    with pytest.raises(SystemFailure):
        await soon(question)
    for _ in range(5):
        place.clock.advance(log_reader.LONGEST_PAUSE)
        assert place.reader.pids == (process.pid,)
        assert place.reader._socket is None
    monkeypatch.undo()
    place.becomes(ECHO)
    process.kill()
    process.wait(SECONDS)
    await place.again()
    assert await soon(place.ask()) == b"S\0\0"


async def test_pauses_grow_while_none_answers(start: Callable[[str], Place]) -> None:
    place = start(WORKS + "import time; time.sleep(0)")
    due = []
    for _ in range(10):
        await place.dead()
        [restart] = place.clock.pending
        due.append(round(restart.due - place.clock.now(), 3))
        place.clock.advance(due[-1])
    assert due == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]


@pytest.mark.parametrize(
    ("answer", "kind", "sw"),
    [
        ('answer(0x6A80, rest=b"gone")', NoSuchTarget, SW.INVALID_PAYLOAD),
        ('answer(0x6D00, rest=b"not here")', Unsupported, SW.NOT_SUPPORTED),
        ('answer(0x6F02, rest=b"broken")', SystemFailure, SW.NODE_IO_ERROR),
        ('connection.send(b"?")', SystemFailure, SW.NODE_ERROR),
        ('connection.send(struct.pack(">HI", 0x9000, 9))', SystemFailure, SW.NODE_ERROR),
    ],
)
async def test_what_it_may_answer(
    start: Callable[[str], Place], answer: str, kind: type[Exception], sw: SW
) -> None:
    place = start(f"{WORKS}while connection.recv(9): {answer}\n")
    for _ in range(2):  # it goes on
        with pytest.raises(kind) as caught:
            await soon(place.ask())
        assert getattr(caught.value, "sw", None) == sw


async def test_closing_tells_whoever_waits(start: Callable[[str], Place]) -> None:
    place = start(WORKS + "connection.recv(9); signal.pause()")
    waiting = [place.ask() for _ in range(3)]
    await until(lambda: place.reader._asked is not None)
    [pid] = place.reader.pids
    await place.reader.close()
    for question in waiting:
        with pytest.raises(SystemFailure):
            await soon(question)
    with pytest.raises(SystemFailure, match="ending"):
        await place.ask()
    await until(lambda: _has_ended(pid))
    place.reader.start()  # a timer that was due already
    assert place.reader.pids == ()


async def test_it_ends_with_asyd(start: Callable[[str], Place]) -> None:
    place = start(ECHO)
    assert await soon(place.ask()) == b"S\0\0"
    [pid] = place.reader.pids
    gone = os.pidfd_open(pid)
    assert place.reader._socket is not None
    asyncio.get_running_loop().remove_reader(place.reader._socket.fileno())
    place.reader._socket.close()  # as the kernel does for a process that was killed
    place.reader._socket = None
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(gone, ended.set)
    await soon(ended.wait())
    asyncio.get_running_loop().remove_reader(gone)
    os.close(gone)


async def test_what_cannot_be_started_is_tried_again(
    start: Callable[[str], Place],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    place = start(ECHO)
    assert "cannot be started" in caplog.text
    question = place.ask()
    await asyncio.sleep(0)
    monkeypatch.undo()
    place.clock.advance(log_reader.FIRST_PAUSE)
    assert await soon(question) == b"S\0\0"


async def test_the_last_events_are_remembered(start: Callable[[str], Place]) -> None:
    text = """\
number = 0
while question := connection.recv(9999):
    if question[:1] == b"D":
        answer(0x9000, question)
        continue
    first, number = number, number + 32
    answer(0x9000, b"x", b"\\n".join(b"c%d" % one for one in range(first, number)))
"""
    place = start(WORKS + text)

    def event(number: int) -> int:
        return int.from_bytes(event_id(b"c%d" % number), "big")

    rounds = REMEMBERED // 32
    for _ in range(rounds):
        await soon(place.ask())
    assert place.reader.remembers(event(0))
    os.kill(place.reader.pids[0], signal.SIGKILL)
    await place.dead()
    await place.again()
    assert await soon(place.reader.detail(event(17), 1, 2)) == b"D\1\2c17"
    await soon(place.ask())  # shows 0 to 31 again: they are the newest by now, and no others
    assert all(place.reader.remembers(event(one)) for one in range(REMEMBERED))
    os.kill(place.reader.pids[0], signal.SIGKILL)
    await place.dead()
    place.becomes(WORKS + text.replace("number = 0", f"number = {REMEMBERED}"))
    await place.again()
    await soon(place.ask())
    assert place.reader.remembers(event(0))
    assert not place.reader.remembers(event(32))
    assert not place.reader.remembers(event(63))
    assert place.reader.remembers(event(64))
    with pytest.raises(NoSuchTarget):
        await place.reader.detail(event(32), 1, 1)


@pytest.mark.parametrize("place", ["kernel", "journal"])
def test_the_program_by_itself(place: str) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.settimeout(SECONDS)
        program = subprocess.Popen(
            [sys.executable, str(log_reader.WORKER), str(theirs.fileno()), place],
            pass_fds=(theirs.fileno(),),
        )
        theirs.close()
        assert ours.recv(log_wire.ANSWER_BYTES) == log_wire.WORKS
        ours.send(log_wire.summary(60, 0, 1))
        answer = log_wire.read_answer(ours.recv(log_wire.ANSWER_BYTES))
        # What there is to read on this machine is not what this is about.
        assert answer.sw in (SW.SUCCESS, SW.NOT_SUPPORTED, SW.NODE_IO_ERROR)
        limits = Path(f"/proc/{program.pid}/limits").read_text()
        assert f"Max data size {journal_worker.MEMORY}" in " ".join(limits.split())
    assert program.wait(SECONDS) == 0


@pytest.mark.skipif(not os.access(DEVICE, os.R_OK), reason=f"{DEVICE} may not be read")
async def test_the_real_one_over_the_kernel_s_log(caplog: pytest.LogCaptureFixture) -> None:
    reader = LogReader(LogPlace.KERNEL, ManualClock())
    reader.start()
    found = LogSummary.unpack(await soon(reader.summary(0, 7, 32)))
    assert found.source == LogSource.KERNEL
    assert found.matched >= found.count
    for event in found.events[:3]:
        detail = LogDetail.unpack(await soon(reader.detail(event.event_id, 1, 1)))
        assert abs(detail.entries[detail.index].time_ns - event.time_ns) < 1_000_000_000
        assert detail.entries[detail.index].priority >= event.priority
    [pid] = reader.pids
    assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)
    await reader.close()
    assert caplog.text == ""


def test_an_error_without_a_number_is_no_library() -> None:
    answer = log_wire.read_answer(log_wire.failure_of(OSError("libsystemd.so.0: cannot open")))
    assert answer.sw == SW.NOT_SUPPORTED
    assert "libsystemd" in answer.reason
    answer = log_wire.read_answer(log_wire.failure_of(OSError(12, "no memory")))
    assert answer.sw == SW.NODE_OUT_OF_MEMORY
    answer = log_wire.read_answer(log_wire.failure_of(MemoryError()))
    assert answer.sw == SW.NODE_OUT_OF_MEMORY


def test_a_lower_limit_is_kept() -> None:
    script = (
        "import resource as r; from asys.node.platform.logs.worker import limit_memory as l; "
        "l(1 << 30); l(2 << 30); h = r.getrlimit(r.RLIMIT_DATA)[1]; "
        "r.setrlimit(r.RLIMIT_DATA, (1 << 29, 1 << 29)); l(1 << 30); "
        "assert r.getrlimit(r.RLIMIT_DATA) == (1 << 29, 1 << 29)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_answers_that_are_none() -> None:
    for packet in (b"", b"\x90\0", b"\x90\0\0\0\0\x05abcd", b"\x70\0\0\0\0\0why"):
        with pytest.raises(ValueError, match=r"\d"):
            log_wire.read_answer(packet)
    empty = log_wire.read_answer(b"\x90\0\0\0\0\x02ab")
    assert empty == (SW.SUCCESS, b"ab", [], "")
