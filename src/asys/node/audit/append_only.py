"""Files that can only grow (`chattr +a`), and the capability that makes and unmakes them."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import struct
import sys
from typing import Final

CAP_LINUX_IMMUTABLE: Final = 9
"""Number of linux/capability.h."""

_LONG: Final = struct.calcsize("l")
_GET_FLAGS: Final = 0x80006601 | _LONG << 16
_SET_FLAGS: Final = 0x40006602 | _LONG << 16
_APPEND: Final = 0x20

_PR_CAPBSET_DROP: Final = 24
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_LOWER: Final = 3
_VERSION_3: Final = 0x20080522


def set_append_only(fd: int, *, on: bool) -> bool:
    """Sets or clears the flag of an open file.

    False where it stays as it was: the file system has no such flag, or the process no right to it.
    """
    if sys.platform != "linux":
        return False
    try:
        flags = bytearray(8)
        fcntl.ioctl(fd, _GET_FLAGS, flags)
        (now,) = struct.unpack_from("=I", flags)
        wanted = now | _APPEND if on else now & ~_APPEND
        if wanted != now:
            fcntl.ioctl(fd, _SET_FLAGS, struct.pack("=Ixxxx", wanted))
    except OSError:
        return False
    return True


def is_append_only(fd: int) -> bool:
    """Whether an open file can only grow."""
    flags = bytearray(8)
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, _GET_FLAGS, flags)
    return bool(flags[0] & _APPEND)


def remove(path: str, directory: int) -> None:
    """Unlinks a file of a directory, also one that can only grow. OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory)
    try:
        set_append_only(fd, on=False)
    finally:
        os.close(fd)
    os.unlink(path, dir_fd=directory)


def give_up_capability() -> bool:
    """Takes CAP_LINUX_IMMUTABLE from this process and from all that it will start.

    False where it could not be taken from the bounding set: then a child of root gets it again.
    """
    if sys.platform != "linux":
        return True
    libc = ctypes.CDLL(None, use_errno=True)
    number = ctypes.c_ulong(CAP_LINUX_IMMUTABLE)
    nothing = ctypes.c_ulong(0)
    libc.prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(_PR_CAP_AMBIENT_LOWER), number, nothing, nothing)
    bounded = libc.prctl(_PR_CAPBSET_DROP, number, nothing, nothing, nothing) == 0
    header = struct.pack("=Ii", _VERSION_3, 0)
    sets = ctypes.create_string_buffer(24)
    if libc.capget(header, sets) != 0:
        return False
    kept = ~(1 << CAP_LINUX_IMMUTABLE) & 0xFFFFFFFF
    words = list(struct.unpack("=6I", sets.raw))
    words[:3] = [word & kept for word in words[:3]]  # effective, permitted, inheritable
    given_up = int(libc.capset(header, struct.pack("=6I", *words))) == 0
    return given_up and bounded
