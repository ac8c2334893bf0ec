"""The directory of the audit: one writer at a time, and it may vanish or be another one later."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from asys.node.audit.append_only import remove, set_append_only
from asys.node.disk.files import quoted

_NEW: Final = ".new"


class Vanished(OSError):
    """The directory at the path is not the one that was opened, or there is none."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.ENOENT, "the directory of the audit was taken away", str(path))


def sync(fd: int) -> None:
    """What was written to a file is on the disk when this returns. OSError."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        os.fsync(fd)


class Place:
    """A directory that this process has locked. All of it may wait for a disk that hangs."""

    def __init__(self, path: Path, *, append_only: bool, say: Callable[[str], None]) -> None:
        """`say` is told what an admin should know: why it has to wait, what it cannot do."""
        self.path: Final = path
        self._append_only = append_only
        self._say = say
        self._fd = -1
        self._device: int | None = None

    @property
    def fd(self) -> int:
        """The directory, open. Vanished when it is not."""
        if self._fd < 0:
            raise Vanished(self.path)
        return self._fd

    def take(self, *, parents: bool = False) -> None:
        """Opens the directory, which is made where there is none, and waits for its lock. OSError.

        `parents`: what it is to be in may be missing as well. It stays on the file system that it
        was on at first: what is beneath a disk that was unmounted is not the place.
        """
        self.leave()
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            if not parents:
                self._require_device(os.stat(self.path.parent))
            self.path.mkdir(mode=0o700, parents=parents, exist_ok=True)
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._require_device(os.fstat(fd))
            self._lock(fd)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        self._device = os.fstat(fd).st_dev
        self.check()
        for name in os.listdir(fd):
            if name.startswith(".") and name.endswith(_NEW):
                remove(name, fd)  # of a writer that died; none is at work while this one is here

    def _require_device(self, found: os.stat_result) -> None:
        if self._device not in (None, found.st_dev):
            raise OSError(
                errno.ENXIO,
                "it was on another file system before; mount that one again, or restart asyd "
                "if the audit is to go on here",
                str(self.path),
            )

    def leave(self) -> None:
        """Gives the directory back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def check(self) -> None:
        """Vanished when somebody who looks for the directory now does not find this one."""
        here = os.fstat(self.fd)
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            raise Vanished(self.path) from None
        if (here.st_dev, here.st_ino) != (found.st_dev, found.st_ino):
            raise Vanished(self.path)

    def _lock(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._say(
                f"another writer still has {quoted(self.path)}; this one waits until it has ended"
            )
            fcntl.flock(fd, fcntl.LOCK_EX)

    # -- files

    def create(self, name: str, data: bytes, mode: int, *, replaces: bool = False) -> None:
        """Makes a file that has all its bytes on the disk as soon as it has its name. OSError."""
        new = f".{name}{_NEW}"
        with contextlib.suppress(FileNotFoundError):
            remove(new, self.fd)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(new, flags, mode, dir_fd=self.fd)
        try:
            os.fchmod(fd, mode)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(new, dir_fd=self.fd)
            raise
        finally:
            os.close(fd)
        if not replaces and self.has(name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        self.rename(new, name)

    def rename(self, old: str, new: str) -> None:
        """Gives a file another name, on the disk. OSError."""
        os.rename(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        os.fsync(self.fd)

    def has(self, name: str) -> bool:
        """Whether there is anything of that name. OSError."""
        try:
            os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def open_segment(self, name: str) -> int:
        """A segment, to append to it. OSError."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(name, flags, dir_fd=self.fd)
        if self._append_only and not set_append_only(fd, on=True):
            self._append_only = False
            self._say(
                f"the files in {quoted(self.path)} cannot be made append-only: the file system "
                "has no such flag, or the writer no CAP_LINUX_IMMUTABLE; their chain tells all "
                "the same whether they were changed"
            )
        return fd

    def unlink(self, name: str) -> None:
        """Removes a segment. OSError."""
        remove(name, self.fd)
