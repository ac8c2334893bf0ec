"""Memory that stays where it is: what asyd needs is in memory when it is ready, and is not taken
away from it (Linux).

A page that is not there comes from a disk, or from a kernel that first has to find one: with a
machine out of memory that is seconds. So code is read in whole, some room to grow is taken in
advance, and all of it is locked; what is taken later is locked as soon as it is touched
(MCL_ONFAULT: without it, room that nobody uses would be filled).
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
from collections.abc import Iterator
from typing import Final

from asys.node.platform.procfs import PROC

OBJECTS: Final = 2 << 20
"""Bytes of room for Python's small objects that is taken in advance."""

BUFFERS: Final = 2 << 20
"""Bytes of the same for what is larger than they are."""

_SMALL: Final = 512
"""Bytes of the largest object that Python gets from its own arenas."""

_ARENA: Final = 256 << 10
"""Bytes of the smallest of these arenas, over the versions of Python."""

_NESTED: Final = 400
"""Levels of a list whose repr goes down the stack further than a request does."""

_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2
_MCL_ONFAULT: Final = 4

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
"""Parameters of glibc's mallopt(3)."""

_MMAPPED: Final = 128 << 10
"""Bytes from which on a buffer is a mapping of its own, as glibc has it at first."""

_MAPPING: Final = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) (....) \S+ \S+ ([0-9]+) *(/.*)?\n")

_libc: Final = ctypes.CDLL(None, use_errno=True)

_kept: Final[list[bytes]] = []
"""One small object in each arena that was taken in advance: an empty one would be given back."""


def settle_allocator() -> None:
    """Has glibc keep what is freed, and keep it in one place. Before any thread is started.

    A C library that has no such settings is left as it is.
    """
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_TRIM_THRESHOLD, 2 * BUFFERS)
        mallopt(_M_MMAP_THRESHOLD, _MMAPPED)


def take_room() -> None:
    """Takes OBJECTS and BUFFERS from the system, and what a request needs of the stack."""
    objects = [bytes(_SMALL - 64) for _ in range(OBJECTS // _SMALL)]
    _kept[:] = objects[:: _ARENA // _SMALL]
    buffers = [b"x" * (_MMAPPED // 2) for _ in range(BUFFERS // (_MMAPPED // 2))]
    buffers.append(b"x" * _SMALL * 2)  # above them, so that the heap does not shrink before
    del objects, buffers
    nested: list[object] = []
    for _ in range(_NESTED):
        nested = [nested]
    repr(nested)


def lock() -> str:
    """Reads the code in, and locks all that is there and all that will be; why not, or ''.

    Without CAP_IPC_LOCK and with a limit nothing is locked: what asyd took beyond it later, it
    would not get at all.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    limited = hard != resource.RLIM_INFINITY
    # The kernel alone knows whether a capability counts where asyd is: with it, no limit does.
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0 if limited else hard, hard))
    try:
        for start, size in _code():
            _check(_libc.mlock(ctypes.c_void_p(start), ctypes.c_size_t(size)))
        _check(_libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT))
    except OSError as error:
        _libc.munlockall()
        if limited and error.errno in (errno.EPERM, errno.ENOMEM):
            return (
                f"asyd has no CAP_IPC_LOCK, and RLIMIT_MEMLOCK is {hard} bytes; in a systemd unit, "
                "set AmbientCapabilities=CAP_IPC_LOCK or LimitMEMLOCK=infinity"
            )
        return f"mlockall: {error.strerror}"
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (soft, hard))
    return ""


def _check(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _code() -> Iterator[tuple[int, int]]:
    """Start and size of what is mapped of programs and libraries, and not written to."""
    with open(f"{PROC}/self/maps", "rb") as file:
        found = [match.groups() for line in file if (match := _MAPPING.fullmatch(line))]
    programs = {path for _, _, rights, _, path in found if path and b"x" in rights}
    for start, stop, rights, _, path in found:
        if path in programs and rights.startswith(b"r-"):
            yield int(start, 16), int(stop, 16) - int(start, 16)


def locked_bytes() -> int:
    """Bytes of this process that are in memory and locked; a page that others have too counts in
    part. 0 where that cannot be told.
    """
    try:
        with open(f"{PROC}/self/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Locked:"):
                    return int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        pass
    return 0
