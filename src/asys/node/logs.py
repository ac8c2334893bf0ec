"""Logs on stderr, one line an event, that can never hold up the daemon.

A pipe that nobody reads blocks its writer for ever. So lines go through a bounded queue to a thread
of their own; when the queue is full they are dropped, and counted.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
from typing import Final, TextIO

QUEUE_LINES: Final = 1000
"""Lines that wait for a slow reader before new ones are dropped."""

DRAIN_SECONDS: Final = 1.0
"""How long the end of the daemon waits for the last lines to be read."""


def clean(text: str, limit: int = 120) -> str:
    """Text from a peer as it may stand in a log: printable ASCII, one line, bounded."""
    cut = text if len(text) <= limit else text[:limit] + "..."
    return cut.encode("unicode_escape").decode("ascii")


class QueueHandler(logging.Handler):
    """Hands formatted lines to a writer thread; never blocks, never raises."""

    def __init__(self, stream: TextIO, size: int = QUEUE_LINES) -> None:
        super().__init__()
        self._stream = stream
        self._queue: queue.Queue[str | None] = queue.Queue(size)
        self.dropped = 0
        self._thread = threading.Thread(target=self._write, name="asyd-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queues one line; counts it instead when the queue is full."""
        line = self.format(record).replace("\n", " | ")
        try:
            if self.dropped:
                self._queue.put_nowait(f"(dropped {self.dropped} lines that nobody read)")
                self.dropped = 0
            self._queue.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def _write(self) -> None:
        while (line := self._queue.get()) is not None:
            try:
                self._stream.write(line + "\n")
                if self._queue.empty():
                    self._stream.flush()
            except (OSError, ValueError):
                self.dropped += 1  # stderr is closed or broken: there is nobody to tell

    def close(self) -> None:
        """Writes what is queued, for at most DRAIN_SECONDS: a blocked reader is left behind."""
        try:
            self._queue.put(None, timeout=DRAIN_SECONDS)
        except queue.Full:
            self.dropped += 1
        else:
            self._thread.join(DRAIN_SECONDS)
        super().close()


def set_up(*, debug: bool, stream: TextIO | None = None) -> QueueHandler:
    """Sends the daemon's log to `stream` (stderr). Returns the handler, to be closed at the end."""
    handler = QueueHandler(stream or sys.stderr)
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
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
        last, skipped = self._kinds.get(kind, (-1.0, 0))
        if last >= 0 and now - last < 1:
            self._kinds[kind] = (last, skipped + 1)
            return
        self._kinds[kind] = (now, 0)
        more = f" ({skipped} more like it)" if skipped else ""
        self._logger.info("%s %s%s", kind, detail, more)
