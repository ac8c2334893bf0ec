"""Files of the node that must not be lost or leaked: atomic writes and permission checks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shlex
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""Errors of a disk that takes nothing new: asyd starts without what it would have made there."""


class ConfigError(Exception):
    """A file or directory of the node cannot be used; the message has the command that mends it."""


def write_atomically(path: Path, data: bytes, mode: int) -> None:
    """Replaces `path` by `data`, whole or not at all, on the disk when this returns. OSError."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Has it on the disk which files a directory has. OSError."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def make_directory(path: Path) -> None:
    """Makes a directory for its owner alone, with those above it, unless it is there. OSError.

    Where it is, nothing is asked of the disk that one which hangs would not answer: it holds up
    whoever wants to make what is there.
    """
    if not path.is_dir():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Waits until no other process holds `directory` locked, then holds it. OSError."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def is_there(path: Path) -> bool:
    """Whether there is something of that name, be it a link that leads nowhere. ConfigError."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    return True


def require_private(path: Path, *, forbidden: int, mend: str) -> os.stat_result:
    """The stat of `path`, links followed. ConfigError when another user could read or change it.

    `forbidden` are the permission bits that must be clear, `mend` the mode that chmod should set.
    """
    try:
        info = path.stat()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if info.st_uid not in (os.geteuid(), 0):
        raise ConfigError(
            f"{path} belongs to another user (uid {info.st_uid}); run: "
            f"chown {os.geteuid()} {quoted(path)}"
        )
    if stat.S_IMODE(info.st_mode) & forbidden:
        raise ConfigError(
            f"{path} has the permissions {stat.S_IMODE(info.st_mode):04o}, which let others in; "
            f"run: chmod {mend} {quoted(path)}"
        )
    return info


def read_private(path: Path, *, forbidden: int, mend: str, limit: int) -> bytes:
    """What is in a regular file, cut behind `limit` + 1 bytes. ConfigError as require_private."""
    info = require_private(path, forbidden=forbidden, mend=mend)
    if not stat.S_ISREG(info.st_mode):  # reading a pipe would wait for ever
        raise ConfigError(f"{path} is no regular file; move it away")
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def quoted(path: Path) -> str:
    """A path as a shell reads it, for commands in messages."""
    return shlex.quote(str(path))
