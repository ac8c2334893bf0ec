"""What asyd itself has of the machine, as any POSIX system tells it; more where there is /proc."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from dataclasses import dataclass
from typing import Final

STATM: Final = "/proc/self/statm"
DESCRIPTORS: Final = "/proc/self/fd"

_PAGE: Final = resource.getpagesize()
_STATM_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Usage:
    """At one moment. None: this system does not say."""

    cpu_seconds: float
    major_faults: int
    """Times that asyd had to wait for a page of its own from the disk."""
    virtual_bytes: int | None
    resident_bytes: int | None
    open_files: int | None
    max_files: int | None
    """None, too, where there is no limit."""


class OwnUsage:
    """Reads it, from `__init__` to `close`, without a file descriptor that is not there already."""

    def __init__(self, *, statm: str = STATM, descriptors: str = DESCRIPTORS) -> None:
        self.started: Final = time.time()
        """Unix time in seconds."""
        self._descriptors = descriptors
        self._statm = -1
        with contextlib.suppress(OSError):
            self._statm = os.open(statm, os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> Usage:
        """What asyd has now."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        virtual, resident = self._memory()
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return Usage(
            cpu_seconds=used.ru_utime + used.ru_stime,
            major_faults=used.ru_majflt,
            virtual_bytes=virtual,
            resident_bytes=resident,
            open_files=self._open_files(),
            max_files=limit if limit != resource.RLIM_INFINITY else None,
        )

    def close(self) -> None:
        """Gives the descriptor back."""
        if self._statm >= 0:
            os.close(self._statm)
            self._statm = -1

    def _memory(self) -> tuple[int | None, int | None]:
        if self._statm < 0:
            return None, None
        try:
            virtual, resident, *_ = os.pread(self._statm, _STATM_BYTES, 0).split()
            return int(virtual) * _PAGE, int(resident) * _PAGE
        except (OSError, ValueError):
            return None, None

    def _open_files(self) -> int | None:
        """Linux tells the number as the size of the directory, from 6.2 on; else they are counted,
        for which one more is needed.
        """
        try:
            return os.stat(self._descriptors).st_size or len(os.listdir(self._descriptors)) - 1
        except OSError:
            return None
