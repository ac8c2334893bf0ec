"""What an asyd does to the system while it serves: two witnesses, one in it and one in the kernel.

    with running(tmp_path, prelude=prelude(report)) as asyd:
        with Opened(asyd.pid) as opened: ...
        assert faults(report) == [] and opened.paths == []

The one in asyd is an audit hook that is armed when asyd has said READY, and writes down, with where
it came from, whatever opens, imports or starts something. Python tells it nothing of what a library
opens by itself; for that there is fanotify, which is told by the kernel of every open of a file on
a real disk, by whomever.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
from pathlib import Path
from types import TracebackType
from typing import Final

PRELUDE: Final = """
def _arm(report, pins):
    import os, sys, threading
    import asys.node.daemon as daemon
    told = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    starts = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec",
        "os.system", "pty.spawn", "_thread.start_new_thread")
    files = ("open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove")
    finds = ("import", "ctypes.dlopen", "socket.getaddrinfo", "socket.gethostbyname")
    allowed = ("/proc/", "/sys/fs/cgroup/", "/sys/fs/bpf/") + tuple(pins)
    below_proc = "/asys/node/platform/procfs.py"  # it opens from a descriptor of /proc
    busy = armed = False

    def hook(event, arguments):
        nonlocal busy
        if not armed or busy:
            return
        if event in files:
            path = arguments[0]
            if isinstance(path, int) or (event == "open" and path is None):
                return
            if os.fsdecode(path).startswith(allowed):
                return
            caller = sys._getframe(1).f_code.co_filename
            if not os.fsdecode(path).startswith("/") and caller.endswith(below_proc):
                return
        elif event not in starts and event not in finds:
            return
        tell(event, arguments)

    def tell(event, arguments):
        nonlocal busy
        busy = True
        try:
            frames = []
            frame = sys._getframe(2)
            while frame is not None:
                name = frame.f_code.co_filename.rpartition("/asys/")[2]
                frames.append(f"{name}:{frame.f_lineno}")
                frame = frame.f_back
            line = f"{event} {arguments[:1]} in {' < '.join(frames[:25])}"
            os.write(told, line.encode("utf-8", "replace") + b"\\n")
        finally:
            busy = False

    really = daemon._say_ready

    def say_ready(*arguments):
        nonlocal armed
        really(*arguments)
        armed = True
        os.write(told, b"armed\\n")

    def start_thread(*arguments):  # Python 3.11 does not tell its hooks
        if armed:
            tell("_thread.start_new_thread", arguments)
        return really_start(*arguments)

    really_start = threading._start_new_thread
    threading._start_new_thread = start_thread
    daemon._say_ready = say_ready
    sys.addaudithook(hook)

_arm({report!r}, {pins!r})
"""


def prelude(report: Path | str, pins: str = "/nowhere/") -> str:
    """Python that has asyd write down in a file what it does after READY.

    `pins` is where it mounts its own bpf file system, which is no disk.
    """
    named = PRELUDE.replace("{report!r}", repr(str(report)))
    return named.replace("{pins!r}", repr([pins])) + "\n"


def faults(report: Path) -> list[str]:
    """What was written down; AssertionError when nobody was looking."""
    lines = report.read_text().splitlines()
    assert lines[:1] == ["armed"], lines
    return lines[1:]


_FAN_CLOEXEC: Final = 1
_FAN_NONBLOCK: Final = 2
_FAN_UNLIMITED: Final = 0x10 | 0x20
_FAN_MARK_ADD_FILE_SYSTEM: Final = 0x1 | 0x100
_FAN_OPEN: Final = 0x20
_AT_FDCWD: Final = -100
_EVENT: Final = struct.Struct("=IBBHQii")

_libc: Final = ctypes.CDLL(None, use_errno=True)


class Opened:
    """The files on disks that a process has opened while the block lasted."""

    def __init__(self, pid: int, *places: Path) -> None:
        """Watches the file systems of `places` and that of /. OSError: the kernel does not."""
        self.paths: list[str] = []
        self._pid = pid
        self._group = _check(
            _libc.fanotify_init(
                _FAN_CLOEXEC | _FAN_NONBLOCK | _FAN_UNLIMITED, os.O_RDONLY | os.O_CLOEXEC
            )
        )
        for place in (Path("/"), *places):
            _check(
                _libc.fanotify_mark(
                    self._group,
                    _FAN_MARK_ADD_FILE_SYSTEM,
                    ctypes.c_uint64(_FAN_OPEN),
                    _AT_FDCWD,
                    os.fsencode(place),
                )
            )

    def look(self) -> list[str]:
        """All that has been opened by now."""
        while select.select([self._group], [], [], 0)[0]:
            data = os.read(self._group, 1 << 16)
            while data:
                size, _, _, _, _, fd, pid = _EVENT.unpack_from(data)
                data = data[size:]
                if fd < 0:
                    continue
                if pid == self._pid:
                    self.paths.append(os.readlink(f"/proc/self/fd/{fd}"))
                os.close(fd)
        return self.paths

    def __enter__(self) -> Opened:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.look()
        os.close(self._group)


def _check(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def threads(pid: int) -> set[int]:
    """The threads of a process."""
    return {int(name) for name in os.listdir(f"/proc/{pid}/task")}


def children(pid: int) -> set[int]:
    """The processes that it has started and that have not been waited for."""
    found: set[int] = set()
    for task in threads(pid):
        found.update(map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split()))
    return found
