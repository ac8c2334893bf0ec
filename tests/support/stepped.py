"""The clock of a running process, set on or back by a test: libfaketime, preloaded into it.

It answers for CLOCK_REALTIME alone; the monotonic clocks stay the kernel's, as they do where an
admin or NTP sets a clock. Whatever the process starts has the same clock.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

LIBRARIES: Final = tuple(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
"""Where Debian's package libfaketime has it."""


def faketime_missing() -> str:
    """What this machine lacks for a clock that can be set, or ''."""
    return "" if LIBRARIES else "needs libfaketime (apt-get install libfaketime)"


class SteppedClock:
    """How far the clock of what `launcher` starts is off, in a file in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "clock"
        self.set_by(0)

    def set_by(self, seconds: int) -> None:
        """From now on it is so many seconds ahead of the machine's, or behind it."""
        new = self._path.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        os.replace(new, self._path)

    @property
    def launcher(self) -> tuple[str, ...]:
        """What a command line begins with."""
        return (
            "env",
            f"LD_PRELOAD={LIBRARIES[0]}",
            f"FAKETIME_TIMESTAMP_FILE={self._path}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "NO_FAKE_STAT=1",
        )
