"""The sockets that a process has, taken from it while it stands still.

Nobody can put a socket into another cgroup. But each has a number of the kernel's, its cookie, by
which its packets are known. Everything raises OSError.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import select
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from asys.node.platform.procfs import PROC

_PIDFD_GETFD: Final = 438
"""The same on every machine."""

_KCMP: Final = {"x86_64": 312, "aarch64": 272, "riscv64": 272}
_KCMP_FILES: Final = 2
_PIDFD_THREAD: Final = os.O_EXCL

_SO_ACCEPTCONN: Final = 30
_SO_PROTOCOL: Final = 38
_SO_DOMAIN: Final = 39
_SO_COOKIE: Final = 57
_IPPROTO_MPTCP: Final = 262

_QUEUE: Final = 1 << 16
"""Connections that one socket may have waiting, at most."""

_GONE: Final = (errno.ESRCH, errno.EBADF, errno.ENOENT)

_libc: Final = ctypes.CDLL(None, use_errno=True)


def _syscall(number: int, *values: int) -> int:
    result = _libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, values))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)


class Sockets:
    """What was found of processes: cookies, and the sockets to which more has to be done."""

    def __init__(self) -> None:
        self.cookies: set[int] = set()
        self._listening: list[socket.socket] = []
        self._shared: list[socket.socket] = []

    def take(self, pid: int) -> None:
        """Looks at every internet socket of a process that stands still.

        ProcessLookupError: it has ended.
        """
        for pidfd, directory in _tables(pid):
            with suppress(FileNotFoundError):  # that thread has ended
                for one in _internet_sockets(pidfd, directory):
                    self._look(one)

    def _look(self, one: socket.socket) -> None:
        keep = False
        try:
            if one.getsockopt(socket.SOL_SOCKET, _SO_PROTOCOL) == _IPPROTO_MPTCP:
                self._shared.append(one)
                keep = True
            elif one.getsockopt(socket.SOL_SOCKET, _SO_ACCEPTCONN):
                self._listening.append(one)
                keep = True
            cookie = one.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8)
            self.cookies.add(int.from_bytes(cookie, "little"))
        finally:
            if not keep:
                one.close()

    def end_what_no_cookie_stops(self) -> None:
        """Ends connections that nobody has accepted yet, and those of MPTCP, for good.

        To be called when the cookies are in force: no connection comes in then. Neither has a
        cookie here: the first are not sockets of the process yet, the second have sockets below
        them that no descriptor shows.
        """
        for one in self._listening:
            _end_waiting(one)
        for one in self._shared:
            with suppress(OSError):  # not connected
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Gives the descriptors back."""
        for one in (*self._listening, *self._shared):
            one.close()
        self._listening.clear()
        self._shared.clear()


def _tables(pid: int) -> Iterator[tuple[int, str]]:
    """A pidfd and the directory of its descriptors, for each table of descriptors of a process.

    Threads share one unless they were made otherwise. Where the kernel has no pidfds for threads
    (before Linux 6.9) only that of the first thread is seen.
    """
    first = os.pidfd_open(pid)
    try:
        yield first, f"{PROC}/{pid}/fd"
        compare = _KCMP.get(platform.machine(), 0)
        for name in os.listdir(f"{PROC}/{pid}/task"):
            if int(name) == pid:
                continue
            try:
                if not _syscall(compare, pid, int(name), _KCMP_FILES, 0, 0):
                    continue
                own = os.pidfd_open(int(name), _PIDFD_THREAD)
            except OSError:
                continue
            try:
                yield own, f"{PROC}/{pid}/task/{name}/fd"
            finally:
                os.close(own)
    finally:
        os.close(first)


def _internet_sockets(pidfd: int, directory: str) -> Iterator[socket.socket]:
    for name in os.listdir(directory):
        try:
            if not os.readlink(f"{directory}/{name}").startswith("socket:"):
                continue
            # The kind does not matter, and saying one keeps Python from asking.
            fd = _syscall(_PIDFD_GETFD, pidfd, int(name), 0)
        except OSError as error:
            if error.errno in _GONE:
                continue
            raise
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd)
        try:
            family = one.getsockopt(socket.SOL_SOCKET, _SO_DOMAIN)
        except OSError:
            one.close()
            raise
        if family in (socket.AF_INET, socket.AF_INET6):
            yield one
        else:
            one.close()


def _end_waiting(listening: socket.socket) -> None:
    """Accepts and closes what waits. The socket is the process's own: how it blocks is put back."""
    ready = select.poll()
    ready.register(listening, select.POLLIN)
    if not ready.poll(0):
        return
    blocks = os.get_blocking(listening.fileno())
    os.set_blocking(listening.fileno(), False)
    try:
        for _ in range(_QUEUE):
            try:
                waiting, _ = listening.accept()
            except BlockingIOError:
                return
            except OSError:  # its peer has gone; the next one
                continue
            waiting.close()
    finally:
        os.set_blocking(listening.fileno(), blocks)
