"""How a program of asyd's own is started. Every one of them lies in a file of this package, and is
that very version of it, whatever has been installed since.

asyd as one file (docs/guides/binary.md) has no interpreter and no files: it executes itself, and
the path leads into the archive that it carries.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from typing import Final

SELF: Final = "/proc/self/exe"
"""This process's own executable, also when another file has taken its place."""

RUN: Final = "--asys-run"
"""With this word the executable runs a program of the archive (packaging/binary/boot.py)."""


def in_one_file() -> bool:
    """Whether this is asyd as one file."""
    return __file__.startswith(f"{SELF}/")


def runner(*, site: bool = True, lasting: bool = False) -> tuple[str, ...]:
    """What stands before the path of a program in its command line.

    Without `site` it finds no other packages than this one, and starts sooner. `lasting`: it is
    written down for somebody else to execute, who has an executable of their own.
    """
    if in_one_file():
        return (sys.executable if lasting else SELF, RUN)
    return (sys.executable, "-I") if site else (sys.executable, "-I", "-S")


def ended(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """How a child has ended; None where it still runs `seconds` from now, and is let go of.

    PID 1 will ask how that one ended. The wait is for the event itself, and does not look again
    and again, so that it holds nothing up and asks no clock that somebody may have set.
    """
    with contextlib.suppress(OSError, AttributeError):  # no pidfd: this is not Linux
        pidfd = os.pidfd_open(process.pid)
        try:
            waiting = select.poll()
            waiting.register(pidfd, select.POLLIN)
            waiting.poll(seconds * 1000)
        finally:
            os.close(pidfd)
        seconds = 0
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.returncode = 0
        return None
