"""A disk that is full, for tests of what is written."""

from __future__ import annotations

import errno
import io
import os
from typing import Any


class DiskFull(OSError):
    """As the kernel says it."""

    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fail(*_arguments: Any, **_options: Any) -> Any:
    """In place of a function that needs room on the disk."""
    raise DiskFull


class FullDisk(io.FileIO):
    """A file that takes three bytes and no more."""

    def write(self, data: Any) -> int:
        """As FileIO.write."""
        super().write(bytes(data)[:3])
        raise DiskFull
