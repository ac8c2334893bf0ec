"""Logs on stderr, one line an event, that can never hold up the daemon.

A pipe that nobody reads blocks its writer for ever. So lines go through a bounded queue to a thread
of their own; when the queue is full they are dropped, and counted.
"""

from __future__ import annotations

import codecs
import contextlib
import logging
import os
import queue
import select
import sys
import threading
import traceback
import warnings
from typing import Any, Final, TextIO

QUEUE_LINES: Final = 1000
"""Lines that wait for a slow reader before new ones are dropped."""

LINE_CHARACTERS: Final = 8000
"""Characters of a line, a traceback for example, that are kept."""

DRAIN_SECONDS: Final = 1.0
"""How long the end of the daemon waits for the last lines to be read."""

_escape: Final = codecs.getencoder("unicode_escape")
"""Found now: later there may be no file descriptor left to load a codec with."""


def clean(text: str, limit: int = 120) -> str:
    """Text from a peer as it may stand in a log: printable ASCII, one line, bounded."""
    cut = text if len(text) <= limit else text[:limit] + "..."
    return _escape(cut)[0].decode("ascii")


class QueueHandler(logging.Handler):
    """Hands formatted lines to a writer thread; never blocks, never raises.

    It writes to a file descriptor and not to a stream: a stream that a thread is blocked in would
    be a fatal error at the end of the process, when Python flushes it.
    """

    def __init__(self, fd: int, size: int = QUEUE_LINES) -> None:
        super().__init__()
        self._fd = fd
        self._queue: queue.Queue[str | None] = queue.Queue(size)
        self._ending = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="asyd-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queues one line; counts it instead when the queue is full."""
        try:
            line = _one_line(self.format(record))
        except Exception as error:
            line = f"an event of {record.name} could not be put in words: {type(error).__name__}"
        try:
            if self._ending:
                raise queue.Full
            if self.dropped:
                self._queue.put_nowait(self._gap())
                self.dropped = 0
            self._queue.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def _gap(self) -> str:
        return f"(dropped {self.dropped} lines that nobody read)"

    def _run(self) -> None:
        while (line := self._queue.get()) is not None:
            self._write(line)
            if self._queue.empty():
                self._write_gap()
                # What was logged while that waited for the lock is in the queue by now.
                if self._ending and self._queue.empty():
                    return
        self._write_gap()

    def _write_gap(self) -> None:
        """Tells what was dropped as soon as somebody reads again."""
        self.acquire()
        try:
            gap = self._gap() if self.dropped else ""
            self.dropped = 0
        finally:
            self.release()
        if gap:
            self._write(gap)

    def _write(self, line: str) -> None:
        data = f"{line}\n".encode("utf-8", "backslashreplace")
        try:
            while data:
                try:
                    data = data[os.write(self._fd, data) :]
                except BlockingIOError:  # whoever shares stderr made it so
                    poll = select.poll()
                    poll.register(self._fd, select.POLLOUT)
                    poll.poll()
        except OSError:
            return  # stderr is closed or broken: there is nobody to tell

    def close(self) -> None:
        """Writes what is queued, for at most DRAIN_SECONDS: a blocked reader is left behind."""
        if not self._ending:
            with self.lock or contextlib.nullcontext():  # behind whoever is logging now
                self._ending = True
            with contextlib.suppress(queue.Full):
                self._queue.put(None, timeout=DRAIN_SECONDS)
                self._thread.join(DRAIN_SECONDS)
        super().close()


def _one_line(text: str) -> str:
    """Text with nothing in it that ends a line or moves a terminal's cursor."""
    line = text.replace("\n", " | ")
    if len(line) > LINE_CHARACTERS:
        line = f"{line[:LINE_CHARACTERS]}..."
    if line.isprintable():
        return line
    return "".join(one if one.isprintable() else clean(one) for one in line)


class _Formatter(logging.Formatter):
    """Words for what is logged, a traceback without its lines of source: these are on a disk."""

    def formatException(self, ei: Any) -> str:
        """As Formatter.formatException."""
        return "\n".join(_traceback(ei[1], set()))


def _traceback(error: BaseException | None, told: set[int]) -> list[str]:
    """An exception, behind those that it comes from."""
    if error is None or id(error) in told:
        return []
    told.add(id(error))
    before = error.__cause__
    if before is None and not error.__suppress_context__:
        before = error.__context__
    lines = _traceback(before, told)
    lines.append("Traceback (most recent call last):")
    for frame, number in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        lines.append(f"{code.co_filename}:{number} in {code.co_name}")
    lines.append(f"{type(error).__name__}: {error}")
    return lines


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """As warnings.showwarning, into the log."""
    logging.getLogger("py.warnings").warning(
        "%s:%d: %s: %s", filename, lineno, category.__name__, message
    )


def set_up(*, debug: bool, fd: int | None = None) -> QueueHandler:
    """Sends the daemon's log to `fd` (stderr). Returns the handler, to be closed at the end."""
    if fd is None:
        fd = sys.stderr.fileno() if sys.stderr is not None else -1
    handler = QueueHandler(fd)
    handler.setFormatter(
        _Formatter("%(asctime)s %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.captureWarnings(True)  # so that it can be undone as usual
    warnings.showwarning = _show_warning
    return handler


class Throttled:
    """Logs each kind of event at most once a second, with a count of what was left out.

    For what anybody on the network can cause before they have shown who they are.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._kinds: dict[str, tuple[float, int]] = {}

    def log(self, kind: str, detail: str, now: float) -> None:
        """`kind` is one of a fixed few; `now` a monotonic clock's seconds."""
        skipped = 0
        if kind in self._kinds:
            last, skipped = self._kinds[kind]
            if now - last < 1:
                self._kinds[kind] = (last, skipped + 1)
                return
        self._kinds[kind] = (now, 0)
        more = f" ({skipped} more like it)" if skipped else ""
        self._logger.info("%s %s%s", kind, detail, more)
