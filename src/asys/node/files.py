"""Files of the node that must not be lost or leaked: atomic writes and permission checks."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path


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
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def require_private(path: Path, *, forbidden: int, mend: str) -> os.stat_result:
    """The stat of `path`. ConfigError when another user could read or change it.

    `forbidden` are the permission bits that must be clear, `mend` the mode that chmod should set.
    """
    try:
        info = path.stat()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if info.st_uid not in (os.geteuid(), 0):
        raise ConfigError(
            f"{path} belongs to another user (uid {info.st_uid}); run: chown {os.geteuid()} {path}"
        )
    if stat.S_IMODE(info.st_mode) & forbidden:
        raise ConfigError(
            f"{path} has the permissions {stat.S_IMODE(info.st_mode):04o}, which let others in; "
            f"run: chmod {mend} {path}"
        )
    return info
