"""Starts the writer, and starts it again when it dies. It does nothing else, so nothing ends it.

keeper.py DOING READING JOURNAL CONTROL DIRECTORY APPEND_ONLY SEGMENT_BYTES DAYS
    PARAMETER_BYTES PARAMETER_DAYS

The first four are descriptors; JOURNAL is -1 where there is none. It keeps the right to
CAP_LINUX_IMMUTABLE, which asyd gives up, for the writers to come. It starts as a file and finds
this very version of `asys`.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path
from typing import Final

FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 5.0
"""Before another start, when the writers before did not get anything to the disk."""

LAST_TRIES: Final = 5
"""Writers that fail by themselves one after the other when asyd has ended."""


def main(arguments: list[str]) -> int:
    """Keeps a writer alive until one has done everything."""
    if not __spec__:
        sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    from asys.node.audit.ring import Ring
    from asys.node.audit.writer import IGNORED, WriterOptions, work

    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    doing, reading, journal, control = map(int, arguments[:4])
    options = WriterOptions.of_words(arguments[4:])
    rings = Ring(doing), Ring(reading)
    os.chdir("/")
    pause, failures = FIRST_PAUSE, 0
    while True:
        synced = [ring.synced_ns for ring in rings]
        pid = os.fork()
        if not pid:
            status = 1
            try:
                work(options, doing, reading, control, journal)
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        if status == 0:
            return 0
        failures = failures + 1 if os.WIFEXITED(status) else 0
        if failures >= LAST_TRIES and select.select([control], [], [], 0)[0]:
            return 1
        if synced != [ring.synced_ns for ring in rings]:
            pause = FIRST_PAUSE
        select.select([], [], [], pause)
        pause = min(1.5 * pause, LONGEST_PAUSE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
