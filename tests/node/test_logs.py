"""The log: never in the way of the daemon, one line an event, nothing hostile in it."""

from __future__ import annotations

import io
import logging
import os
import re
import select
import subprocess
import sys
import threading
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.node import logs
from asys.node.logs import LINE_CHARACTERS, QUEUE_LINES, QueueHandler, Throttled, clean, set_up

GAP = re.compile(r"\(dropped (\d+) lines that nobody read\)")


def events_in(line: str) -> int:
    gap = GAP.fullmatch(line)
    return int(gap[1]) if gap else 1


class Pipe:
    """A pipe whose reader reads when the test says so."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._came = threading.Condition()

    def full(self) -> bool:
        """Whether a writer has to wait. Lets other threads run meanwhile."""
        return not select.select([], [self.write_end], [], 0.001)[1]

    def start_reading(self) -> None:
        self._reader.start()

    def wait_for_events(self, count: int) -> None:
        """Returns when so many have arrived, or have been told to be missing."""
        with self._came:
            assert self._came.wait_for(lambda: sum(map(events_in, self.lines)) >= count, 60)

    def all_lines(self) -> list[str]:
        """Everything, once the writer has ended."""
        os.close(self.write_end)
        self.write_end = -1
        self._reader.join()
        return self.lines

    def _read(self) -> None:
        with open(self.read_end, encoding="utf-8", newline="\n", closefd=False) as file:
            for line in file:
                assert line.endswith("\n")
                with self._came:
                    self.lines.append(line[:-1])
                    self._came.notify()

    def close(self) -> None:
        for end in (self.read_end, self.write_end):
            if end >= 0:
                os.close(end)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.Logger("asyd.test", logging.INFO)
    yield logger
    for handler in logger.handlers:
        handler.close()


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back to what it was."""
    root, asyncio = logging.getLogger(), logging.getLogger("asyncio")
    before = root.handlers, root.level, asyncio.level
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield root
        logging.captureWarnings(False)
    root.handlers, level, asyncio_level = before
    root.setLevel(level)
    asyncio.setLevel(asyncio_level)


def written(pipe: Pipe, logger: logging.Logger) -> list[str]:
    """What has been logged, once the log is closed; a busy machine may take its time to write."""
    pipe.start_reading()
    with patch.object(logs, "DRAIN_SECONDS", 60):
        for handler in logger.handlers:
            handler.close()
    return pipe.all_lines()


def test_lines_arrive_in_order(pipe: Pipe, logger: logging.Logger) -> None:
    logger.addHandler(QueueHandler(pipe.write_end))
    for number in range(100):
        logger.info("line %d", number)
    assert written(pipe, logger) == [f"line {number}" for number in range(100)]


def test_100_000_lines_that_nobody_reads(pipe: Pipe, logger: logging.Logger) -> None:
    """They do not block, take no memory beyond the queue, and are all accounted for."""
    handler = QueueHandler(pipe.write_end)
    logger.addHandler(handler)
    logged = 0
    while not (pipe.full() and handler._queue.full()):
        logger.info("line %06d %s", logged, "x" * 100)
        logged += 1
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(logged, 100_000):
        if number == logged + 5_000:
            after, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        logger.info("line %06d %s", number, "x" * 100)
    assert after - before < 5_000 * 10
    assert handler.dropped > 90_000
    pipe.start_reading()
    pipe.wait_for_events(100_000)  # the count comes by itself, without another event
    logger.info("the last one")
    handler.close()
    lines = pipe.all_lines()
    assert sum(map(events_in, lines)) == 100_001
    whole = [line for line in lines if line.startswith("line ")]
    assert whole == sorted(whole)
    assert len(whole) >= QUEUE_LINES
    assert lines[-1] == "the last one"
    assert handler.dropped == 0


def test_the_count_stands_where_the_gap_is(
    pipe: Pipe, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first line that found room again."""
    entered, allowed = threading.Semaphore(0), threading.Semaphore(0)
    real_write = os.write

    def write(fd: int, data: bytes) -> int:
        if fd == pipe.write_end:
            entered.release()
            allowed.acquire()
        return real_write(fd, data)

    monkeypatch.setattr(os, "write", write)
    logger.addHandler(QueueHandler(pipe.write_end, size=3))
    logger.info("0")
    assert entered.acquire(timeout=30)
    for number in range(1, 6):
        logger.info("%d", number)  # 1 to 3 wait, 4 and 5 are dropped
    for _ in range(2):
        allowed.release()
        assert entered.acquire(timeout=30)
    logger.info("6")  # 2 is being written, and 3 waits
    allowed.release(100)
    assert written(pipe, logger) == ["0", "1", "2", "3", "(dropped 2 lines that nobody read)", "6"]


@pytest.mark.parametrize("flags", ["blocking", "nonblocking"])
def test_a_slow_reader_gets_everything(pipe: Pipe, logger: logging.Logger, flags: str) -> None:
    """Far more than the pipe holds; also where whoever shares stderr made it non-blocking."""
    os.set_blocking(pipe.write_end, flags == "blocking")
    logger.addHandler(QueueHandler(pipe.write_end))
    for number in range(QUEUE_LINES - 1):
        logger.info("%d %s", number, "x" * 500)
    lines = written(pipe, logger)
    assert [int(line.split()[0]) for line in lines] == list(range(QUEUE_LINES - 1))


@pytest.mark.parametrize("fd", ["broken", "none"])
def test_a_stderr_that_is_gone_does_no_harm(logger: logging.Logger, fd: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    handler = QueueHandler(write_end if fd == "broken" else -1)
    logger.addHandler(handler)
    for number in range(2 * QUEUE_LINES):
        logger.info("%d", number)
    handler.close()
    logger.info("too late")
    os.close(write_end)


def test_the_end_does_not_wait_for_a_reader_for_ever(
    pipe: Pipe, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "DRAIN_SECONDS", 0.01)
    handler = QueueHandler(pipe.write_end)
    logger.addHandler(handler)
    for _ in range(3 * QUEUE_LINES):
        logger.info("x" * 100)
    handler.close()
    dropped = handler.dropped
    handler.close()
    logger.info("too late")
    assert handler.dropped == dropped + 1
    pipe.start_reading()
    handler._thread.join(60)
    assert not handler._thread.is_alive()
    pipe.all_lines()


@pytest.mark.parametrize("reader", ["comes", "never comes"])
def test_the_end_of_the_process_while_a_line_is_stuck(reader: str) -> None:
    """Python would abort if the thread were in the middle of a stream's write."""
    program = (
        "import sys, logging\n"
        "from asys.node import logs\n"
        "logs.DRAIN_SECONDS = 0.01\n"
        "handler = logs.set_up(debug=False)\n"
        "for _ in range(3000): logging.getLogger().info('x' * 100)\n"
        "handler.close()\n"
        "print('end', flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"end\n"
        if reader == "comes":
            child.communicate(timeout=60)
        assert child.wait(60) == 0
    finally:
        child.kill()
        child.communicate()


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_what_cannot_be_formatted_is_a_line_as_well(pipe: Pipe, logger: logging.Logger) -> None:
    logger.addHandler(QueueHandler(pipe.write_end))
    logger.info("%d", "text")
    logger.info("%s", Unspeakable())
    assert written(pipe, logger) == [
        "an event of asyd.test could not be put in words: TypeError",
        "an event of asyd.test could not be put in words: RuntimeError",
    ]


def test_an_event_is_one_line(pipe: Pipe, logger: logging.Logger) -> None:
    logger.addHandler(QueueHandler(pipe.write_end))
    logger.info("a\nb\r\x1b[2J\x00\x85\u2028\ud800 \N{EURO SIGN}")
    logger.info("y" * (LINE_CHARACTERS + 1))
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logger.exception("failed")
    first, second, third = written(pipe, logger)
    assert first == "a | b\\r\\x1b[2J\\x00\\x85\\u2028\\ud800 \N{EURO SIGN}"
    assert second == "y" * LINE_CHARACTERS + "..."
    assert re.fullmatch(r"failed \| Traceback .* \| ValueError: first \| second", third)


def test_a_traceback_reads_no_source(
    pipe: Pipe, root: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lies on a disk, which may hang just then. A warning needs none either."""

    def read(*_: object) -> list[str]:
        raise AssertionError("source is read")

    def fail() -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error

    monkeypatch.setattr("linecache.getlines", read)
    monkeypatch.setattr("linecache.checkcache", read)
    monkeypatch.setattr("linecache.lazycache", read)
    handler = set_up(debug=False, fd=pipe.write_end)
    for cause in (None, OSError("other")):
        try:
            try:
                fail()
            except ValueError:
                raise RuntimeError("last") from cause
        except RuntimeError:
            logging.getLogger("asyd.any").exception("failed")
    warnings.warn("a warning", UserWarning, stacklevel=1)
    pipe.start_reading()
    handler.close()
    logging.captureWarnings(False)
    silent, other, warning = pipe.all_lines()
    here = rf"{re.escape(__file__)}:\d+ in "
    assert re.fullmatch(
        r".* failed \| Traceback \(most recent call last\): \| "
        rf"{here}test_a_traceback_reads_no_source \| RuntimeError: last",
        silent,
    )
    assert re.search(rf"OSError: other \| .* \| {here}\S+ \| RuntimeError: last", other)
    assert re.fullmatch(rf".* {re.escape(__file__)}:\d+: UserWarning: a warning", warning)


def test_a_traceback_tells_what_an_error_comes_from(pipe: Pipe, root: logging.Logger) -> None:
    handler = set_up(debug=False, fd=pipe.write_end)
    error = ValueError("itself")
    error.__context__ = KeyError("before")
    error.__context__.__context__ = error  # a ring, as careless code makes it
    logging.getLogger("asyd.any").error("failed", exc_info=error)
    pipe.start_reading()
    handler.close()
    logging.captureWarnings(False)
    [line] = pipe.all_lines()
    assert line.count("Traceback") == 2
    assert re.search(r"KeyError: 'before' \| Traceback .* \| ValueError: itself$", line)


def test_the_last_line_is_written_that_came_while_the_writer_waited(
    pipe: Pipe, logger: logging.Logger
) -> None:
    class Watched(QueueHandler):
        def _write_gap(self) -> None:
            waits.set()
            super()._write_gap()

    waits = threading.Event()
    handler = Watched(pipe.write_end)
    logger.addHandler(handler)
    assert handler.lock is not None
    with handler.lock:
        logger.info("one")
        assert waits.wait(60)
        logger.info("two")
        handler._ending = True
    handler._thread.join(60)
    pipe.start_reading()
    assert pipe.all_lines() == ["one", "two"]


@given(st.text(), st.integers(0, 50))
def test_cleaned_text(text: str, limit: int) -> None:
    cleaned = clean(text, limit)
    assert cleaned.isascii()
    assert cleaned.isprintable()
    assert len(cleaned) <= 10 * limit + 3
    if len(text) <= limit:
        assert cleaned.encode().decode("unicode_escape") == text  # nothing looks like another


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain text", "plain text"),
        ("a\r\nINFO forged", "a\\r\\nINFO forged"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\\n", "\\\\n"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\udcff", "\\udcff"),
        ("x" * 121, "x" * 120 + "..."),
    ],
)
def test_hostile_text(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@pytest.mark.parametrize("debug", [True, False])
def test_set_up(pipe: Pipe, root: logging.Logger, debug: bool) -> None:
    handler = set_up(debug=debug, fd=pipe.write_end)
    assert root.handlers == [handler]
    logging.getLogger("asyd.any").debug("detail")
    logging.getLogger("asyd.any").warning("event")
    logging.getLogger("asyncio").info("noise")
    warnings.warn("a warning of Python's own", UserWarning, stacklevel=1)
    pipe.start_reading()
    handler.close()
    lines = pipe.all_lines()
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}"
    found = [
        match.groups()
        for line in lines
        if (match := re.fullmatch(rf"{time} (\S+) (\S+) (.*)", line))
    ]
    assert len(found) == len(lines)
    assert found[:-1] == [("DEBUG", "asyd.any", "detail")] * debug + [
        ("WARNING", "asyd.any", "event")
    ]
    assert found[-1][:2] == ("WARNING", "py.warnings")


def test_set_up_writes_to_stderr(
    tmp_path: Path, root: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "log").open("w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        handler = set_up(debug=False)
        logging.getLogger("asyd").info("event")
        handler.close()
        assert (tmp_path / "log").read_text().endswith(" INFO asyd event\n")
        monkeypatch.setattr(sys, "stderr", None)
        handler = set_up(debug=False)
        logging.getLogger("asyd").info("nobody hears this")
        handler.close()


@pytest.fixture
def events() -> Iterator[tuple[Throttled, io.StringIO]]:
    stream = io.StringIO()
    logger = logging.Logger("asyd.door", logging.INFO)
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    yield Throttled(logger), stream
    handler.close()


@pytest.mark.parametrize("start", [0.0, 0.3, 1000.0, 123456789.1])
def test_one_line_a_second_of_each_kind(
    events: tuple[Throttled, io.StringIO], start: float
) -> None:
    throttled, stream = events
    for number in range(1000):
        throttled.log("bad magic", f"from {number}", start + number / 1024)
    throttled.log("unknown key", "from 7", start + 0.5)
    assert stream.getvalue().splitlines() == ["bad magic from 0", "unknown key from 7"]
    throttled.log("bad magic", "from 1000", start + 1.001)
    throttled.log("bad magic", "from 1001", start + 1.5)
    throttled.log("bad magic", "from 1002", start + 3)
    throttled.log("bad magic", "from 1003", start + 5)
    throttled.log("unknown key", "from 8", start + 5)
    assert stream.getvalue().splitlines()[2:] == [
        "bad magic from 1000 (999 more like it)",
        "bad magic from 1002 (1 more like it)",
        "bad magic from 1003",
        "unknown key from 8",
    ]
