"""Files as a user meets them whom permissions bind: not even root's tests run into none."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def plain_user() -> Iterator[Path]:
    """The rights of a user other than root while the block lasts, and a 0700 directory of theirs.

    Where root runs the tests that user is nobody, else whoever runs them.
    """
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        directory = Path(tempfile.mkdtemp(prefix="asys-plain-"))
        try:
            yield directory
        finally:
            if root:
                os.seteuid(0)
            for path in [directory, *directory.rglob("*")]:
                if path.is_dir() and not path.is_symlink():
                    path.chmod(0o700)
            shutil.rmtree(directory)
    finally:
        if root:
            os.seteuid(0)


def give_away(path: Path) -> tuple[int, int]:
    """Makes `path` another user's, as seen by os.geteuid of a process that owns it by now.

    Returns that owner, and the uid to pretend to have: only root can really give a file away.
    """
    if os.geteuid() == 0:
        os.chown(path, NOBODY, -1)
        return NOBODY, 0
    return os.geteuid(), os.geteuid() + 1


def run_remedy(message: str) -> None:
    """Does what a refusal says at its end, as an admin would."""
    command = shlex.split(message.rpartition("run: ")[2])
    if command[0] not in ("chmod", "chown"):
        raise AssertionError(f"no remedy in {message!r}")
    subprocess.run(command, check=True)
