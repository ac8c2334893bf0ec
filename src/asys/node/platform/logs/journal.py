"""The journal of systemd as a source of log entries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from asys.isa.diagnostics import LogSource
from asys.node.platform.logs.logbook import COMPARED, UNIT_BYTES, Around, Read, pid_of, priority_of
from asys.node.platform.logs.sd_journal import Journal, Library

THRESHOLD: Final = COMPARED + len("MESSAGE=")
"""Bytes of a field that is stored compressed and that may be left out behind."""

_PID_BYTES: Final = 16
_INIT: Final = b"init.scope"
"""The unit of PID 1, which writes about all the others."""


class JournalSource:
    """This machine's journals, or those in a directory. OSError when they cannot be opened.

    `boot_id` is that of the present boot, 16 bytes.
    """

    kind: Final = LogSource.JOURNAL

    def __init__(self, boot_id: bytes, directory: str | None = None) -> None:
        self._boot_id = boot_id
        self._directory = directory
        self._library = Library()
        self._journal: Journal | None = self._open()

    def _open(self) -> Journal:
        return Journal(self._library, self._directory, THRESHOLD)

    def close(self) -> None:
        """As Source.close."""
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()

    def refresh(self) -> None:
        """As Source.refresh. After an error the journal is opened anew."""
        if self._journal is None:
            self._journal = self._open()
            return
        try:
            self._journal.refresh()
        except OSError:
            self.close()
            self._journal = self._open()

    @property
    def _opened(self) -> Journal:
        if self._journal is None:
            self._journal = self._open()
        return self._journal

    def newest_first(self, priority: int, since_ns: int | None) -> Iterator[Read]:
        """As Source.newest_first."""
        journal = self._opened
        # From info on, also what has no priority matches: then all is read.
        wanted = range(priority + 1) if priority < 6 else ()
        try:
            journal.match(*(b"PRIORITY=%d" % one for one in wanted))
            journal.seek_tail()
            while journal.previous():
                time_ns = journal.time_us() * 1000
                if since_ns is None:
                    if journal.boot_id() != self._boot_id:
                        return
                elif time_ns < since_ns:
                    return
                yield Read(
                    time_ns,
                    priority_of(journal.field(b"PRIORITY", 2)),
                    _unit(journal),
                    journal.field(b"MESSAGE", COMPARED) or b"",
                )
        except OSError:
            self.close()
            raise

    def mark(self) -> tuple[bytes, int]:
        """As Source.mark."""
        return self._opened.cursor(), _pid(self._opened)

    def around(self, cursor: bytes, before: int, after: int) -> tuple[int, list[Around]] | None:
        """As Source.around."""
        journal = self._opened
        try:
            journal.match()
            if not journal.seek(cursor):
                return None
            entries = [_around(journal)]
            while len(entries) <= before and journal.previous():
                entries.append(_around(journal))
            entries.reverse()
            index = len(entries) - 1
            if after and journal.seek(cursor):
                while len(entries) <= index + after and journal.next():
                    entries.append(_around(journal))
        except OSError:
            self.close()
            raise
        return index, entries


def _unit(journal: Journal) -> bytes:
    """The unit that an entry is of, else what its writer calls itself."""
    unit = journal.field(b"_SYSTEMD_UNIT", UNIT_BYTES)
    if unit == _INIT:
        return journal.field(b"UNIT", UNIT_BYTES) or unit
    if unit is not None:
        return unit
    name = journal.field(b"SYSLOG_IDENTIFIER", UNIT_BYTES)
    return name or journal.field(b"_COMM", UNIT_BYTES) or b""


def _pid(journal: Journal) -> int:
    pid = pid_of(journal.field(b"_PID", _PID_BYTES))
    return pid or pid_of(journal.field(b"SYSLOG_PID", _PID_BYTES))


def _around(journal: Journal) -> Around:
    return Around(
        journal.time_us() * 1000,
        _pid(journal),
        priority_of(journal.field(b"PRIORITY", 2)),
        journal.field(b"MESSAGE", COMPARED) or b"",
    )
