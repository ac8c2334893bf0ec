"""Which processes there are: /proc as a directory, a little at a time.

`os.listdir` holds everybody for 3 ms with 5,000 processes, `os.scandir` for 1,300 entries at once,
which is how many the C library asks the kernel for. So the kernel is asked directly.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

Listing: TypeAlias = Callable[[int], Iterator[list[str]]]
"""Given a descriptor of /proc, the names of all processes in it, some at a time. OSError."""

BUFFER_SIZE: Final = 1024
"""Bytes of directory entries taken at a time, some 40 processes: when a process is listed for the
first time the kernel builds its directory, at about 5 us each."""

_CHUNK: Final = 32
"""Names taken at a time where the C library does not offer getdents64."""

_RECORD_LENGTH: Final = struct.Struct("=H")
_LENGTH_AT: Final = 16  # struct linux_dirent64: u64 d_ino, s64 d_off, u16 d_reclen, u8 d_type, name
_NAME_AT: Final = 19


def choose_listing() -> Listing:
    """The one through getdents64, or else the one through scandir."""
    try:
        getdents = ctypes.CDLL(None, use_errno=True).getdents64
    except (AttributeError, OSError):
        return list_by_scandir
    getdents.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    getdents.restype = ctypes.c_ssize_t
    return lambda fd: _list_by_getdents(getdents, fd)


def _list_by_getdents(getdents: Callable[[int, object, int], int], fd: int) -> Iterator[list[str]]:
    buffer = ctypes.create_string_buffer(BUFFER_SIZE)
    os.lseek(fd, 0, os.SEEK_SET)
    while filled := getdents(fd, buffer, BUFFER_SIZE):
        if filled < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        entries = buffer.raw
        names = []
        at = 0
        while at < filled:
            name = entries[at + _NAME_AT : entries.index(0, at + _NAME_AT)]
            if name.isdigit():
                names.append(name.decode("ascii"))
            at += _RECORD_LENGTH.unpack_from(entries, at + _LENGTH_AT)[0]
        yield names


def list_by_scandir(fd: int) -> Iterator[list[str]]:
    """For C libraries without getdents64; holds everybody for as many as the library reads."""
    names = []
    with os.scandir(fd) as entries:
        for entry in entries:
            if entry.name.isdigit():
                names.append(entry.name)
            if len(names) == _CHUNK:
                yield names
                names = []
    yield names
