"""Control groups: where they are mounted, who is in them, and children that asyd makes in them.

Control files are read and written without a buffer, as a buffered write loses the kernel's answer.
Everything raises OSError as the kernel gives it, unless it says otherwise.

A child that asyd has made is named for what it is for and for the process that it was made for. Two
of them may be nested, in either order, and each is let go by itself: `let_go` leaves an empty shell
with a mark where another one is nested in it, and whoever lets go of that one takes the shell away.
"""

from __future__ import annotations

import errno
import os
import re
import select
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from asys.node.platform.procfs import PROC, STAT_SIZE, read_small, stat_fields

PREFIX: Final = "asyd-"
_OURS: Final = re.compile(r"asyd-[a-z]+-[0-9]+-[0-9]+")

FREEZE: Final = "cgroup.freeze"
EVENTS: Final = "cgroup.events"
PROCS: Final = "cgroup.procs"
THREADS: Final = "cgroup.threads"
TYPE: Final = "cgroup.type"

_LET_GO: Final = "user.asyd.let_go"
"""An attribute of a child that has been let go while another one was nested in it."""

_CHUNK: Final = 1 << 16
_ROUNDS: Final = 1000
"""Rounds of moving at most: somebody who forks faster than that is not caught up with."""


# -- where they are


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted hierarchy."""

    point: str
    """Where it is mounted."""
    root: str
    """Which of its cgroups is mounted there; '/' is the first one."""
    controllers: frozenset[str]
    """Those of version 1 that it has; none: it is the unified one of version 2."""

    def directory(self, path: str) -> str:
        """Where the cgroup is that is called `path` in /proc/PID/cgroup.

        OSError with EOPNOTSUPP when it lies outside of what is mounted.
        """
        root = self.root.removesuffix("/")
        if not (path + "/").startswith(root + "/") or "/../" in path + "/":
            raise OSError(errno.EOPNOTSUPP, f"the cgroup {path} is not within {self.point}")
        return (self.point + path[len(root) :]).removesuffix("/")

    def of(self, pid: int) -> str:
        """The directory of the cgroup that a process is in."""
        return self.directory(self.path_in(_read(f"{PROC}/{pid}/cgroup").decode(errors=_SURROGATE)))

    def path_in(self, text: str) -> str:
        """The path in this hierarchy that /proc/PID/cgroup names. OSError: it names none."""
        for line in text.splitlines():
            _, names, path = line.split(":", 2)
            if frozenset(filter(None, names.split(","))) == self.controllers:
                return path
        raise OSError(errno.EOPNOTSUPP, "the process is in no cgroup of this hierarchy")


_SURROGATE: Final = "surrogateescape"


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """All that are mounted."""

    unified: Hierarchy | None = None
    version1: dict[str, Hierarchy] = field(default_factory=dict)
    """By the name of the controller."""


def mounted(mountinfo: str = f"{PROC}/self/mountinfo") -> Hierarchies:
    """What this process sees mounted. Of two mounts of one hierarchy, the one that shows more."""
    unified: Hierarchy | None = None
    version1: dict[str, Hierarchy] = {}
    for line in _read(mountinfo).decode(errors=_SURROGATE).splitlines():
        before, _, after = line.partition(" - ")
        root, point = map(_unescaped, before.split(" ")[3:5])
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2" and (unified is None or len(root) < len(unified.root)):
            unified = Hierarchy(point, root, frozenset())
        elif kind == "cgroup":
            names = frozenset(options.split(" ", 1)[-1].split(",")) - _FLAGS
            made = Hierarchy(point, root, names)
            for name in names:
                if name not in version1 or len(root) < len(version1[name].root):
                    version1[name] = made
    return Hierarchies(unified, version1)


def mount_points(kind: str, mountinfo: str = f"{PROC}/self/mountinfo") -> list[str]:
    """Where file systems of a kind are mounted, as this process sees it."""
    found = []
    for line in _read(mountinfo).decode(errors=_SURROGATE).splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] == kind:
            found.append(_unescaped(before.split(" ")[4]))
    return found


_FLAGS: Final = frozenset(
    ("rw", "ro", "none", "xattr", "noprefix", "clone_children", "cpuset_v2_mode")
)
"""What stands among the controllers in the options of a mount."""


def _unescaped(text: str) -> str:
    """A path of mountinfo, where blanks and backslashes are written in octal."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


# -- control files


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, _CHUNK):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def read(directory: str, name: str) -> str:
    """The whole of a control file."""
    return _read(f"{directory}/{name}").decode("ascii", "replace")


def write(directory: str, name: str, value: str | int) -> None:
    """Writes to a control file; the kernel's refusal is the OSError."""
    fd = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(value).encode("ascii"))
    finally:
        os.close(fd)


def members(directory: str) -> list[int]:
    """PIDs of the processes in a cgroup; not of those in cgroups below it.

    A threaded cgroup (version 2) tells its threads alone; `move` takes these for their processes.
    """
    try:
        found = read(directory, PROCS)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        found = read(directory, THREADS)
    return [int(one) for one in found.split()]


def event(directory: str, name: str) -> bool:
    """A line of cgroup.events, as `frozen` and `populated` (version 2)."""
    return f"{name} 1" in read(directory, EVENTS).splitlines()


def move(directory: str, pid: int) -> None:
    """Moves a process, with all its threads. ProcessLookupError: it has ended."""
    if pid <= 0:  # the kernel would take 0 for asyd
        raise ProcessLookupError(errno.ESRCH, f"no process has the PID {pid}")
    write(directory, PROCS, pid)


# -- freezing (version 2)


def freeze(directory: str, timeout: float) -> bool:
    """Stops all that is in a cgroup and below; whether all stood within `timeout` seconds.

    What waits in the kernel for a device does not stand before that has answered.
    """
    write(directory, FREEZE, 1)
    return wait_frozen(directory, timeout)


def wait_frozen(directory: str, timeout: float) -> bool:
    """Whether all stand, within `timeout` seconds."""
    fd = os.open(f"{directory}/{EVENTS}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        changed = select.poll()
        changed.register(fd, select.POLLPRI)
        end = time.monotonic() + timeout
        while True:
            if b"frozen 1" in os.pread(fd, _CHUNK, 0):
                return True
            left = end - time.monotonic()
            if left <= 0:
                return False
            changed.poll(left * 1000)
    finally:
        os.close(fd)


def thaw(directory: str) -> None:
    """Lets all go on. A cgroup that is not there any more holds nobody."""
    with suppress(FileNotFoundError):
        write(directory, FREEZE, 0)


# -- children of asyd's


def child(parent: str, purpose: str, pid: int, start: int) -> str:
    """Where asyd's child for a purpose and a process is, or would be."""
    return f"{parent}/{PREFIX}{purpose}-{pid}-{start}"


def create(directory: str) -> bool:
    """Makes a cgroup; False: it was there. A mark that it had been let go is taken off."""
    try:
        os.mkdir(directory, 0o755)
    except FileExistsError:
        with suppress(OSError):  # there was none
            os.removexattr(directory, _LET_GO)
        return False
    try:
        # Below a threaded cgroup nothing else can hold processes.
        if read(directory, TYPE).strip() == "domain invalid":
            write(directory, TYPE, "threaded")
    except FileNotFoundError:
        pass  # version 1
    return True


def is_let_go(directory: str) -> bool:
    """Whether it is but the shell of one that was let go."""
    if not _OURS.fullmatch(os.path.basename(directory)):
        return False
    try:
        os.getxattr(directory, _LET_GO)
    except OSError:
        return False
    return True


def home(directory: str) -> str:
    """Where the processes of a child of asyd's belong when it is let go: the next cgroup above
    that is not itself an empty shell.
    """
    parent = os.path.dirname(directory)
    return home(parent) if is_let_go(parent) else parent


def let_go(directory: str) -> bool:
    """Moves everybody in a child of asyd's to its `home` and removes it; whether it is gone.

    What is nested in it stays in it: then it is left as a marked shell, which goes with the last of
    those. What it was set to (cgroup.freeze, cpu.max) has to be set back before.
    """
    while True:
        try:
            _empty(directory, home(directory))
            os.rmdir(directory)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno != errno.EBUSY or not _nested(directory):
                raise
            os.setxattr(directory, _LET_GO, b"1")
            return False
        directory = os.path.dirname(directory)
        if not is_let_go(directory) or _nested(directory):
            return True


def _nested(directory: str) -> bool:
    with os.scandir(directory) as entries:
        return any(entry.is_dir(follow_symlinks=False) for entry in entries)


def _empty(directory: str, target: str) -> None:
    """Moves everybody out, also who is forked meanwhile."""
    for _ in range(_ROUNDS):
        found = members(directory)
        if 0 in found:  # what a PID namespace hides has no PID here, and 0 would be asyd itself
            raise OSError(errno.EPERM, f"{directory} has processes that asyd cannot see")
        for pid in found:
            with suppress(ProcessLookupError):
                move(target, pid)
        if not found or all(is_zombie(pid) for pid in found):
            return  # zombies cannot be moved and keep nobody from removing it
    raise OSError(errno.EBUSY, f"{directory} does not get empty")


def is_zombie(pid: int) -> bool:
    """Whether a process has ended, be it waited for or not."""
    try:
        return stat_fields(read_small(f"{PROC}/{pid}/stat", STAT_SIZE))[0] in b"ZX"
    except OSError:
        return True


def find(directory: str, name: str) -> Iterator[str]:
    """Every cgroup of that name, from `directory` down. What goes meanwhile is left out."""
    for where, names, _ in os.walk(directory):
        if name in names:
            yield f"{where}/{name}"


# -- a process and its descendants


def start_of(pid: int) -> int:
    """When a process was started, in ticks since boot. OSError: it is not there."""
    return int(stat_fields(read_small(f"{PROC}/{pid}/stat", STAT_SIZE))[19])


def children(pid: int) -> list[int]:
    """PIDs of the children of all threads of a process; none when it has ended."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"{PROC}/{pid}/task"):
            with suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, _read(f"{PROC}/{pid}/task/{thread}/children").split())
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def tree(pid: int) -> list[int]:
    """A process and its descendants as they are now, itself first; none when it has ended.

    Processes that fork meanwhile may be missed: `each_of_tree` asks again.
    """
    found = [pid] if os.path.exists(f"{PROC}/{pid}") else []
    for one in found:
        found += children(one)
    return list(dict.fromkeys(found))


def each_of_tree(pid: int, visit: Callable[[int], None]) -> set[int]:
    """Calls `visit` once for a process and each of its descendants, until no new one appears.

    `visit` should keep the process from forking behind one's back: move it to where its children
    will be, freeze it. What it raises for a process that has ended (ProcessLookupError,
    FileNotFoundError) is passed over.
    """
    seen: set[int] = set()
    for _ in range(_ROUNDS):
        new = [one for one in tree(pid) if one not in seen]
        if not new:
            break
        for one in new:
            seen.add(one)
            with suppress(ProcessLookupError, FileNotFoundError):
                visit(one)
    return seen
