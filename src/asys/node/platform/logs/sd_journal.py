"""libsystemd's journal functions, by ctypes: one handle on the journals of this machine.

A handle belongs to one thread. Every call that fails raises OSError with the library's errno.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint64, c_void_p
from typing import Any, Final, TypeAlias

LIBRARY: Final = "libsystemd.so.0"

LOCAL_ONLY: Final = 1
"""SD_JOURNAL_LOCAL_ONLY: the journals that this machine wrote, not those that were sent to it."""

Pointer: TypeAlias = Any
"""What ctypes passes for a pointer."""

_HANDLE: Final = (c_void_p,)
_ARGUMENTS: Final[dict[str, tuple[Any, ...]]] = {
    "open": (POINTER(c_void_p), c_int),
    "open_directory": (POINTER(c_void_p), c_char_p, c_int),
    "close": _HANDLE,
    "get_fd": _HANDLE,
    "process": _HANDLE,
    "set_data_threshold": (c_void_p, c_size_t),
    "add_match": (c_void_p, c_char_p, c_size_t),
    "flush_matches": _HANDLE,
    "seek_tail": _HANDLE,
    "seek_cursor": (c_void_p, c_char_p),
    "test_cursor": (c_void_p, c_char_p),
    "next": _HANDLE,
    "previous": _HANDLE,
    "get_cursor": (c_void_p, POINTER(c_void_p)),
    "get_realtime_usec": (c_void_p, POINTER(c_uint64)),
    "get_monotonic_usec": (c_void_p, POINTER(c_uint64), c_void_p),
    "get_data": (c_void_p, c_char_p, POINTER(c_void_p), POINTER(c_size_t)),
}
_BOOT_ID_SIZE: Final = 16


class Library:
    """The functions, with the types of what they take. OSError: the library is not here."""

    def __init__(self) -> None:
        library = ctypes.CDLL(LIBRARY)
        for name, arguments in _ARGUMENTS.items():
            function = getattr(library, f"sd_journal_{name}")
            function.argtypes = arguments
            function.restype = None if name == "close" else c_int
            setattr(self, name, function)
        self.free = ctypes.CDLL(None).free
        self.free.argtypes = (c_void_p,)
        self.free.restype = None

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no function of libsystemd is called {name}")


def checked(result: int, what: str) -> int:
    """What a function gave. OSError when that is an error."""
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
    return result


class Journal:
    """An open journal and a place in it."""

    def __init__(self, library: Library, directory: str | None, threshold: int) -> None:
        """Opens this machine's journals, or those in `directory`.

        Fields that are stored compressed may be cut to `threshold` bytes.
        """
        self._library = library
        handle = c_void_p()
        if directory is None:
            checked(library.open(byref(handle), LOCAL_ONLY), "opening the journal")
        else:
            path = os.fsencode(directory)
            checked(library.open_directory(byref(handle), path, 0), f"opening {directory}")
        self._handle = handle
        self._pointer = c_void_p()
        self._size = c_size_t()
        self._number = c_uint64()
        self._boot = ctypes.create_string_buffer(_BOOT_ID_SIZE)
        self._pointer_ref = byref(self._pointer)
        self._size_ref = byref(self._size)
        self._number_ref = byref(self._number)
        try:
            # At once: else files that are rotated away later would go on being read.
            checked(library.get_fd(handle), "watching the journal")
            checked(library.set_data_threshold(handle, threshold), "reading the journal")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Gives back what it holds open."""
        self._library.close(self._handle)

    def previous(self) -> bool:
        """Goes to the entry before; False when there is none."""
        return checked(self._library.previous(self._handle), "reading the journal") > 0

    def next(self) -> bool:
        """Goes to the entry behind; False when there is none."""
        return checked(self._library.next(self._handle), "reading the journal") > 0

    def refresh(self) -> None:
        """Takes notice of files that have come or gone."""
        checked(self._library.process(self._handle), "watching the journal")

    def match(self, *matches: bytes) -> None:
        """From now on shows only entries with one of these fields; without any, all entries."""
        self._library.flush_matches(self._handle)
        for match in matches:
            checked(self._library.add_match(self._handle, match, len(match)), "reading the journal")

    def seek_tail(self) -> None:
        """Behind the last entry."""
        checked(self._library.seek_tail(self._handle), "reading the journal")

    def seek(self, cursor: bytes) -> bool:
        """Goes to an entry; False when it is not there any more, or never was."""
        if self._library.seek_cursor(self._handle, cursor) < 0:
            return False  # no cursor of a journal
        # Where the entry has gone, `next` leads to its neighbour.
        return self.next() and self._library.test_cursor(self._handle, cursor) > 0

    def cursor(self) -> bytes:
        """What this entry is called for ever."""
        text = c_void_p()
        checked(self._library.get_cursor(self._handle, byref(text)), "reading the journal")
        try:
            return ctypes.string_at(text.value or 0)
        finally:
            self._library.free(text)

    def time_us(self) -> int:
        """When this entry was written, Unix time in us."""
        checked(
            self._library.get_realtime_usec(self._handle, self._number_ref), "reading the journal"
        )
        return self._number.value

    def boot_id(self) -> bytes:
        """The boot that this entry is of."""
        checked(
            self._library.get_monotonic_usec(self._handle, self._number_ref, self._boot),
            "reading the journal",
        )
        return self._boot.raw

    def field(self, name: bytes, most: int) -> bytes | None:
        """The first bytes of a field of this entry; None when it has none, or it is damaged."""
        if self._library.get_data(self._handle, name, self._pointer_ref, self._size_ref) < 0:
            return None
        head = len(name) + 1  # NAME=
        return ctypes.string_at(
            (self._pointer.value or 0) + head, min(self._size.value - head, most)
        )
