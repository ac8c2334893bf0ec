"""Waits until something in a directory changes: for readers that follow a chain as it grows."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final

POLL_SECONDS: Final = 1.0
"""How often a system without inotify is asked."""

_IN_MODIFY: Final = 0x2
_IN_MOVED_FROM: Final = 0x40
_IN_MOVED_TO: Final = 0x80
_IN_CREATE: Final = 0x100
_IN_DELETE: Final = 0x200
_IN_ONLYDIR: Final = 0x1000000

_GROWS: Final = _IN_MODIFY | _IN_MOVED_TO | _IN_CREATE | _IN_ONLYDIR
_GOES: Final = _IN_DELETE | _IN_MOVED_FROM | _IN_ONLYDIR


class Watch:
    """Calling it waits for a change since the last call, or since it was made; False: it has gone.

    Linux tells by inotify, which does not see what other machines write to a network file system.
    Elsewhere it looks every POLL_SECONDS, by calling it True each time.
    """

    def __init__(self, directory: Path) -> None:
        """OSError when the directory cannot be watched."""
        self._directory = directory
        self._identity = _identity(directory)
        self._fd = _inotify(directory) if sys.platform == "linux" else -1

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def fileno(self) -> int:
        """What becomes readable when calling it would not wait; -1 where nothing tells that."""
        return self._fd

    def __call__(self) -> bool:
        """Waits. OSError."""
        if self._fd < 0:
            time.sleep(POLL_SECONDS)
        else:
            os.read(self._fd, 65536)
        try:
            return _identity(self._directory) == self._identity
        except FileNotFoundError:
            return False


def _identity(directory: Path) -> tuple[int, int]:
    found = directory.stat()
    return found.st_dev, found.st_ino


def _inotify(directory: Path) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = int(libc.inotify_init1(os.O_CLOEXEC))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(directory))
    if libc.inotify_add_watch(fd, os.fsencode(directory), ctypes.c_uint32(_GROWS)) < 0:
        number = ctypes.get_errno()
        os.close(fd)
        raise OSError(number, os.strerror(number), str(directory))
    # A removed directory tells nothing itself while a file of it is open; the one above does.
    # Where that may not be watched, this goes unnoticed.
    above = os.fsencode(directory.absolute().parent)
    libc.inotify_add_watch(fd, above, ctypes.c_uint32(_GOES))
    return fd
