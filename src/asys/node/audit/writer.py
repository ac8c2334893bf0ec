"""The writer: the one process that touches the disk of the audit, and may hang with it.

It ignores the signals that end asyd: it ends when asyd has ended and the rings are empty.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from asys.audit.segments import AUDIT, READS
from asys.node.audit.parameters import Journal, ParameterKeeping
from asys.node.audit.place import Place, Vanished
from asys.node.audit.ring import ERROR, Ring
from asys.node.audit.stream import Keeping, Stream

PACE_SECONDS: Final = 0.02
"""So much is collected before the next batch is written, unless there is a full one already."""

IDLE_SECONDS: Final = 0.05
"""How often it looks for work where there was none a moment ago."""

QUIET_SECONDS: Final = 1.0
LONGER_SECONDS: Final = 0.15
"""After so long without work it looks less often: asyd tells when there is some. An error, such as
a directory that is gone, still shows within 200 ms.
"""

RETRY_SECONDS: Final = 0.1
"""How often it tries again after an error."""

SHOWN_SECONDS: Final = 1.0
"""An error shows for so long at least: nobody would see it else."""

WORKS: Final = b"+"
"""The line that says that a writer has its directory, and works."""

EXPIRE_SECONDS: Final = 3600.0

MAX_WORDS: Final = 1000
"""Bytes of one line to asyd."""

IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """What asyd decides for its writer."""

    directory: Path
    append_only: bool = True
    keeping: Keeping = field(default_factory=Keeping)
    parameters: ParameterKeeping = field(default_factory=ParameterKeeping)

    def words(self) -> list[str]:
        """As the command line of the keeper has them."""
        keeping = self.keeping
        numbers = [int(self.append_only), keeping.segment_bytes, keeping.days]
        numbers += [self.parameters.file_bytes, self.parameters.days]
        return [str(self.directory), *map(str, numbers)]

    @classmethod
    def of_words(cls, words: list[str]) -> WriterOptions:
        """From the command line. ValueError."""
        directory, append_only, segment_bytes, days, *parameters = words
        keeping = Keeping(int(segment_bytes), int(days))
        kept = ParameterKeeping(*map(int, parameters))
        return cls(Path(directory), bool(int(append_only)), keeping, kept)


class Writer:
    """Both chains, from both rings, to one directory."""

    def __init__(
        self,
        options: WriterOptions,
        doing: Ring,
        reading: Ring,
        control: socket.socket,
        journal: Ring | None = None,
    ) -> None:
        """`control` comes to its end when asyd does; lines for asyd's log go the other way."""
        self._control = control
        self._rings = (doing, reading)
        self._place = Place(options.directory, append_only=options.append_only, say=self.say)
        self._streams = tuple(
            Stream(self._place, kind, ring, options.keeping, self.say)
            for kind, ring in ((AUDIT, doing), (READS, reading))
        )
        self._journal = Journal(self._place, journal, options.parameters, self.say)
        self._taken = False
        self._attached = False
        self._gone = False
        self._error_at = -SHOWN_SECONDS
        self._error_words = ""
        self._expire_at = 0.0
        self._busy_at = 0.0

    def say(self, words: str) -> None:
        """A line for asyd's log; dropped where asyd does not read it. It never waits."""
        line = " ".join(words.split()).encode("utf-8", "replace")[:MAX_WORDS] + b"\n"
        try:
            self._control.send(line, socket.MSG_DONTWAIT)
        except OSError:
            return

    def run(self) -> None:
        """Returns when asyd has ended and everything is on the disk."""
        for ring in self._rings:
            ring.take()
        self._journal.take()
        if any(ring.flags for ring in self._rings):
            self._error_at = time.monotonic()  # of the writer before this one
        while True:
            try:
                busy = self._turn()
            except OSError as error:
                self._failed(error)
                if self._gone and not self._place.path.parent.is_dir():
                    raise  # there is no place for it any more, and nobody who could make one
                self._wait(RETRY_SECONDS)
                continue
            if self._gone and all(stream.ended for stream in self._streams):
                self._journal.finish()
                return
            if all(stream.idle for stream in self._streams):
                self._recovered()
            if not self._gone and not self._is_urgent():
                self._wait(self._pause(busy=busy))

    def _pause(self, *, busy: bool) -> float:
        """How long to wait for the next turn."""
        now = time.monotonic()
        if busy:
            self._busy_at = now
            return PACE_SECONDS
        return IDLE_SECONDS if now - self._busy_at < QUIET_SECONDS else LONGER_SECONDS

    def _turn(self) -> bool:
        """One batch of each chain; False when there was nothing to do. OSError."""
        if not self._attached:
            self._place.take(parents=not self._taken)
            self._taken = True
            for stream in self._streams:
                stream.attach()
            self._attached = True
            self.say(WORKS.decode())
        self._place.check()
        for stream in self._streams:
            if stream.astray:
                stream.attach()
        busy = False
        for stream in self._streams:
            busy = stream.step(end=self._gone) or busy
        busy = self._journal.step() or busy  # behind the chains, which it must not hold up
        now = time.monotonic()
        if now >= self._expire_at:
            self._expire_at = now + EXPIRE_SECONDS
            for stream in self._streams:
                stream.expire(time.time())
            self._journal.expire(time.time())
        return busy

    def _failed(self, error: OSError) -> None:
        """Says so in the rings at once, and in words once."""
        self._error_at = time.monotonic()
        for ring in self._rings:
            ring.flags = ERROR
        try:
            if self._attached:
                self._place.check()
        except OSError as worse:
            error = worse
            if isinstance(worse, Vanished):
                for stream in self._streams:
                    stream.let_go()
                self._journal.let_go()
                self._place.leave()
                self._attached = False
        words = f"{error.filename or self._place.path}: {error.strerror or error}"
        if words != self._error_words:
            self._error_words = words
            self.say(f"the audit cannot be written, what is recorded waits in memory: {words}")

    def _recovered(self) -> None:
        if not any(ring.flags for ring in self._rings):
            return
        if time.monotonic() - self._error_at < SHOWN_SECONDS:
            return
        for ring in self._rings:
            ring.flags = 0
        self._error_words = ""
        self.say(f"the audit is written again to {self._place.path}, and nothing waits")

    def _is_urgent(self) -> bool:
        return any(stream.backlog for stream in self._streams)

    def _wait(self, seconds: float) -> None:
        """Until there may be work, or asyd has ended."""
        if self._gone:
            select.select([], [], [], seconds)
            return
        readable, _, _ = select.select([self._control], [], [], seconds)
        if readable and not self._heard():
            self._gone = True

    def _heard(self) -> bool:
        """False when asyd has ended; what else it may say means nothing yet."""
        try:
            return bool(self._control.recv(MAX_WORDS, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return True
        except OSError:
            return False


def work(options: WriterOptions, doing: int, reading: int, control: int, journal: int = -1) -> None:
    """The life of a writer, in a process of its own; the arguments are descriptors."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    with socket.socket(fileno=control) as line:
        rings = Ring(doing), Ring(reading)
        third = Ring(journal) if journal >= 0 else None
        writer = Writer(options, *rings, line, third)
        try:
            writer.run()
        except Exception as error:
            for ring in rings:
                ring.flags = ERROR
            where = error.__traceback__
            while where is not None and where.tb_next is not None:
                where = where.tb_next
            line_number = where.tb_lineno if where is not None else 0
            writer.say(f"the writer of the audit failed in line {line_number}: {error!r}")
            sys.exit(1)
