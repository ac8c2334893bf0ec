"""The disk work of `asys.node.disk.state`, in a process of its own that may hang.

state_writer.py

It is started once and kept. What is to be written comes on stdin, answers go out on stdout:

    write    number u32, what u8 (REPLACE, OVERWRITE, REMOVE), mode u16, path u16, data u32;
             path; data
    answer   number u32, errno u32 (0: it is on the disk), words u16; words

Each write is done by a thread that is there already, so that one that hangs does not hold those to
other disks. The process ends when stdin does, after what has come whole. It starts as a file and
without site-packages, because that is quick, small, and finds this very version of `asys`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import signal
import stat
import sys
import threading
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

REPLACE: Final = 0
OVERWRITE: Final = 1
REMOVE: Final = 2

THREADS: Final = 4
"""Writes that are done at a time: as many as a state directory has files."""

STACK: Final = 256 << 10
"""Bytes of a thread's stack."""

WRITE_HEAD: Final = Struct(">IBHHI")
ANSWER_HEAD: Final = Struct(">IIH")

MOST_WORDS: Final = 400
"""Bytes of what an answer says: it goes through the pipe in one piece."""

IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)
"""Who ends a whole service means asyd, which still has something to write then."""


class Write(NamedTuple):
    """One write, as it comes."""

    number: int
    what: int
    mode: int
    path: bytes
    data: bytes

    def pack(self) -> bytes:
        """For the pipe."""
        head = WRITE_HEAD.pack(self.number, self.what, self.mode, len(self.path), len(self.data))
        return b"".join((head, self.path, self.data))


def replace(path: Path, data: bytes, mode: int) -> None:
    """As `write_atomically`, one at a time in a directory. OSError."""
    from asys.node.disk.files import locked, write_atomically

    with locked(path.parent):
        _sweep(path)
        write_atomically(path, data, mode)


def overwrite(path: Path, data: bytes) -> None:
    """Writes over a regular file of just this length, and syncs it. It takes no room. OSError."""
    from asys.node.disk.files import locked

    with locked(path.parent):
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            info = os.fstat(handle)
            if not stat.S_ISREG(info.st_mode) or info.st_size != len(data):
                raise OSError(errno.EINVAL, f"no regular file of {len(data)} bytes")
            if os.pwrite(handle, data, 0) != len(data):
                raise OSError(errno.EIO, "not all bytes were written")
            os.fsync(handle)
        finally:
            os.close(handle)


def remove(path: Path) -> None:
    """Removes a file, and what writers of it have left; none is no fault. OSError."""
    from asys.node.disk.files import locked, sync_directory

    with locked(path.parent):
        _sweep(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        sync_directory(path.parent)


def carry_out(write: Write) -> None:
    """Does a write; it is on the disk when this returns. OSError."""
    path = Path(os.fsdecode(write.path))
    if write.what == REPLACE:
        replace(path, write.data, write.mode)
    elif write.what == OVERWRITE:
        overwrite(path, write.data)
    else:
        remove(path)


def _sweep(path: Path) -> None:
    """Removes what writers that were killed have left; none is at work while this one has the lock.

    A temporary file is called as `tempfile` calls it: a prefix and eight characters.
    """
    prefix = f".{path.name}."
    for name in os.listdir(path.parent):
        if name.startswith(prefix) and len(name) == len(prefix) + 8 and "." not in name[-8:]:
            with contextlib.suppress(OSError):
                os.unlink(path.parent / name)


def answer(write: Write) -> bytes:
    """Does a write; what is to be said of it."""
    code, words = 0, ""
    try:
        carry_out(write)
    except OSError as error:
        code, words = error.errno or errno.EIO, error.strerror or type(error).__name__
    except Exception as error:
        code, words = errno.EIO, f"{type(error).__name__}: {error}"
    said = words.encode("utf-8", "replace")[:MOST_WORDS]
    return ANSWER_HEAD.pack(write.number, code, len(said)) + said


def serve(source: int, sink: int) -> None:
    """Does what comes from one descriptor and answers on the other, until the first one ends."""
    work: queue.SimpleQueue[Write | None] = queue.SimpleQueue()

    def do() -> None:
        while (write := work.get()) is not None:
            said = answer(write)
            with contextlib.suppress(OSError):  # nobody is there to hear it
                os.write(sink, said)

    threads = [threading.Thread(target=do) for _ in range(THREADS)]
    for one in threads:
        one.start()
    while (write := _next(source)) is not None:
        work.put(write)
    for _ in threads:
        work.put(None)
    for one in threads:
        one.join()


def _next(source: int) -> Write | None:
    """The next write; None where there is none, or not the whole of one: asyd died over it."""
    head = _read(source, WRITE_HEAD.size)
    if len(head) < WRITE_HEAD.size:
        return None
    number, what, mode, path_size, data_size = WRITE_HEAD.unpack(head)
    path = _read(source, path_size)
    data = _read(source, data_size)
    if len(path) < path_size or len(data) < data_size:
        return None
    return Write(number, what, mode, path, data)


def _read(source: int, size: int) -> bytes:
    """So many bytes, or what there is before the end."""
    parts: list[bytes] = []
    while size:
        some = os.read(source, min(size, 1 << 16))
        if not some:
            break
        parts.append(some)
        size -= len(some)
    return b"".join(parts)


def main() -> None:
    """The life of the process."""
    import asys.node.disk.files  # noqa: F401  now, and not when the disk may hang

    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    threading.stack_size(STACK)
    serve(0, 1)


if __name__ == "__main__":
    if not __spec__:
        sys.path.append(str(Path(__file__).parents[3]))
    main()
