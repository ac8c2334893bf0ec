"""The disk work of `asys.node.disk.state`, in a process of its own that may hang.

state_writer.py replace MODE LENGTH PATH      stdin becomes the file, whole or not at all
state_writer.py overwrite LENGTH PATH         stdin takes the place of what is in the file

Answers with one line on stdout: `done`, or the number of the error and what it says. It starts as a
file and without site-packages, because that is quick and finds this very version of `asys`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from pathlib import Path


def replace(path: Path, data: bytes, mode: int) -> None:
    """As `write_atomically`, one process at a time in a directory. OSError."""
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


def _sweep(path: Path) -> None:
    """Removes what writers that were killed have left; none is at work while this one has the lock.

    A temporary file is called as `tempfile` calls it: a prefix and eight characters.
    """
    prefix = f".{path.name}."
    for name in os.listdir(path.parent):
        if name.startswith(prefix) and len(name) == len(prefix) + 8 and "." not in name[-8:]:
            with contextlib.suppress(OSError):
                os.unlink(path.parent / name)


def main(arguments: list[str]) -> str:
    """Does what the command line says with what is on stdin; the answer."""
    try:
        what, *mode, length, name = arguments
        data = sys.stdin.buffer.read()
        # The process that sends it may have died in the middle.
        if len(data) != int(length):
            raise OSError(errno.EPIPE, f"{len(data)} bytes came, not {length}")
        if what == "replace":
            replace(Path(name), data, int(mode[0], 8))
        else:
            overwrite(Path(name), data)
    except OSError as error:
        return f"{error.errno or errno.EIO} {error.strerror or type(error).__name__}"
    return "done"


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[3]))
    print(main(sys.argv[1:]))
