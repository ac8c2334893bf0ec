"""Processes for tests to look at and to act on; all of them end with the block that made them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOG = "print('hog', flush=True)\nwhile True: pass"
"""A program that takes all the CPU it can get, and says when it begins."""


@contextmanager
def waiting(program: str = "cat", user: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A child that waits for input, in a session of its own; it has begun.

    `program` must be cat under some name.
    """
    child = subprocess.Popen(
        [program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        user=user,
        bufsize=0,
        start_new_session=True,
    )
    try:
        if child.stdin is None or child.stdout is None:
            raise RuntimeError("no pipes")
        child.stdin.write(b"!")
        if child.stdout.read(1) != b"!":
            raise RuntimeError(f"{program} is not cat")
        yield child
    finally:
        child.kill()
        child.communicate()


@contextmanager
def named(directory: Path, name: str, *, copied: bool = False) -> Iterator[int]:
    """A waiting child that the kernel knows by `name`; its PID.

    Through a link, so its executable is cat's; `copied`, so that it is called `name` as well.
    """
    program = directory / name
    cat = Path(shutil.which("cat") or "/bin/cat").resolve()
    if copied:
        shutil.copy(cat, program)
    else:
        program.symlink_to(cat)
    with waiting(str(program)) as child:
        yield child.pid


@contextmanager
def hog() -> Iterator[int]:
    """A child that takes all the CPU it can get and has begun to; its PID."""
    child = subprocess.Popen([sys.executable, "-c", HOG], stdout=subprocess.PIPE)
    try:
        if child.stdout is None or child.stdout.readline() != b"hog\n":
            raise RuntimeError("the hog did not start")
        yield child.pid
    finally:
        child.kill()
        child.communicate()


@contextmanager
def zombie() -> Iterator[int]:
    """A child that has ended and that nobody has asked about; its PID."""
    child = subprocess.Popen(["true"])
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        yield child.pid
    finally:
        child.wait()


def gone() -> int:
    """A PID that had a process a moment ago and has none now."""
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def suspended(pid: int) -> None:
    """Returns when a child has been suspended."""
    os.waitid(os.P_PID, pid, os.WSTOPPED)


def resumed(pid: int) -> None:
    """Returns when a child goes on."""
    os.waitid(os.P_PID, pid, os.WCONTINUED)


def state(pid: int) -> str:
    """What the kernel says a process does: R, S, T, ..."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat[stat.rindex(")") + 2]
