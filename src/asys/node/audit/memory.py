"""Memory that asyd and the writer share, and the order in which they see it."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import platform
import tempfile
import time
from typing import Final

_MEMBARRIER: Final = {"aarch64": 283, "riscv64": 283, "armv7l": 389, "ppc64le": 365}
"""Numbers of the system call membarrier(2), where stores may be seen in another order."""

_GLOBAL: Final = 1
_ORDERED: Final = ("x86_64", "amd64", "i686", "i386")
"""Machines on which stores are seen in the order in which they were made."""

_SETTLED_SECONDS: Final = 0.001
"""Longer than any processor keeps a store to itself."""


def allocate(name: str, size: int) -> int:
    """A descriptor of `size` bytes of memory, all of them there and zero; it is inheritable by
    `pass_fds` alone. OSError, also when there is no room for it.

    Where there is no memfd it is a file that has no name any more.
    """
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        fd, path = tempfile.mkstemp(prefix=f"{name}.")
        os.unlink(path)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size)  # no page can be missing later
        else:
            os.ftruncate(fd, size)
        if hasattr(fcntl, "F_ADD_SEALS"):
            # Neither side can take pages from under the other.
            with contextlib.suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    except BaseException:
        os.close(fd)
        raise
    return fd


def mapped(fd: int) -> mmap.mmap:
    """All of it, in this process. OSError."""
    flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
    return mmap.mmap(fd, os.fstat(fd).st_size, flags=flags)


def settle() -> None:
    """Whoever has seen a store of another process sees all that this one stored before it.

    The reader pays for both: the writer of a store needs no instruction for it.
    """
    machine = platform.machine().lower()
    if machine in _ORDERED:
        return
    number = _MEMBARRIER.get(machine)
    if number is None or not membarrier(number):
        time.sleep(_SETTLED_SECONDS)


def membarrier(number: int) -> bool:
    """Every processor that runs passes a memory barrier; False where the kernel refuses."""
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    arguments = (ctypes.c_long(number), ctypes.c_long(_GLOBAL), ctypes.c_long(0), ctypes.c_long(0))
    return int(call(*arguments)) == 0
