"""Processes under Linux, held by a pidfd: it names one process for ever, its PID does not."""

from __future__ import annotations

import errno
import os
import pwd
import re
import signal
from collections.abc import Collection
from contextlib import ExitStack, suppress
from typing import Final

from asys.node.platform.base import NoSuchTarget, translate
from asys.node.platform.processes import pidfd
from asys.node.platform.procfs import PROC, STAT_SIZE, read_small, stat_fields
from asys.node.platform.services import own_unit

_KERNEL_THREAD: Final = 0x00200000
"""PF_KTHREAD in the flags of /proc/PID/stat."""

_NOT_A_PROCESS: Final = (errno.EINVAL, errno.ENOENT, errno.ESRCH)
"""What pidfd_open says of PIDs that nobody has and of threads, depending on the kernel."""

_GUARDED: Final = frozenset(
    {"systemd-journald", "dbus-daemon", "dbus-broker", "dbus-broker-launch"}
)
_GUARDED_NAMES: Final = frozenset(name[:15].encode("ascii") for name in _GUARDED)
_GUARDED_UNIT: Final = re.compile(
    r"/system\.slice/(systemd-journald(@[^/]*)?|dbus|dbus-broker)\.service(/|$)"
)
_BUS_USERS: Final = ("messagebus", "dbus")
_BUS_SOCKET: Final = "/run/dbus/system_bus_socket"


class Guard:
    """Which processes nobody may touch, whatever was granted."""

    def __init__(self, own_cgroup: str, bus_owners: frozenset[int], pid: int) -> None:
        self.own_cgroup = own_cgroup
        self.bus_owners = bus_owners
        self.pid = pid

    @classmethod
    def here(cls) -> Guard:
        """For this process as asyd."""
        return cls(own_unit.own_cgroup() or "", bus_owners(), os.getpid())

    def refusal(self, process: LinuxProcess) -> str:
        """As ProcessHandle.refusal."""
        if process.flags & _KERNEL_THREAD:
            return "a kernel thread"
        if process.parent == self.pid:
            return "a child of asyd"
        if process.name in _GUARDED_NAMES and self._is_journal_or_bus(process):
            return "the journal or the message bus"
        if self.own_cgroup and is_within(cgroup_of(process.pid), self.own_cgroup):
            return "in the cgroup of asyd"
        return ""

    def _is_journal_or_bus(self, process: LinuxProcess) -> bool:
        """Whether it is what it is called: anybody may call a process `dbus-daemon`."""
        if _GUARDED_UNIT.match(cgroup_of(process.pid)):
            return True
        if process.uid not in self.bus_owners:
            return False
        try:
            program = os.readlink(f"{PROC}/{process.pid}/exe")
        except PermissionError:
            return True  # asyd may not look; the owner and the name say so
        except OSError as error:
            raise translate(error, f"looking at process {process.pid}") from error
        return os.path.basename(program).removesuffix(" (deleted)") in _GUARDED


STATUS_SIZE: Final = 4096
"""Bytes to read of /proc/PID/status: the uids stand near its begin."""


class LinuxProcess:
    """A ProcessHandle; `start` is in clock ticks since boot."""

    __slots__ = ("_fd", "_guard", "flags", "name", "parent", "pid", "start", "zombie")

    def __init__(self, pid: int, guard: Guard) -> None:
        self.pid = pid
        self._guard = guard
        try:
            self._fd = os.pidfd_open(pid)
        except OverflowError:
            raise NoSuchTarget(f"no process can have the PID {pid}") from None
        except OSError as error:
            if error.errno in _NOT_A_PROCESS:
                raise NoSuchTarget(f"there is no process {pid}") from error
            raise translate(error, f"opening process {pid}") from error
        try:
            self._look()
        except BaseException:
            self.close()
            raise

    def _look(self) -> None:
        """Reads what it is; should the PID be another's by now, no signal will reach that one."""
        try:
            stat = read_small(f"{PROC}/{self.pid}/stat", STAT_SIZE)
        except OSError as error:
            raise translate(error, f"looking at process {self.pid}") from error
        fields = stat_fields(stat)
        self.name = stat[stat.index(b"(") + 1 : stat.rindex(b")")]
        self.parent = int(fields[1])
        self.flags = int(fields[6])
        self.start = int(fields[19])
        # A process whose first thread has ended while others go on is no zombie.
        self.zombie = fields[0] in b"ZX" and int(fields[17]) <= 1

    @property
    def uid(self) -> int:
        """As ProcessHandle.uid; read when it is asked for, which is rare."""
        try:
            return os.stat(f"{PROC}/{self.pid}").st_uid
        except OSError as error:
            raise translate(error, f"looking at process {self.pid}") from error

    def owners(self) -> Collection[int]:
        """As ProcessHandle.owners."""
        try:
            return pidfd.owners(self._fd) or self.read_owners()
        except OSError as error:
            raise translate(error, f"looking at process {self.pid}") from error

    def read_owners(self) -> tuple[int, ...]:
        """The same of /proc: not its owner, which is root for what must not be traced."""
        status = read_small(f"{PROC}/{self.pid}/status", STATUS_SIZE)
        line = status.index(b"\nUid:") + len(b"\nUid:")
        return tuple(map(int, status[line : status.index(b"\n", line)].split()))

    def refusal(self) -> str:
        """As ProcessHandle.refusal."""
        return self._guard.refusal(self)

    def suspend(self) -> None:
        """As ProcessHandle.suspend."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """As ProcessHandle.resume."""
        self._signal(signal.SIGCONT)

    def suspended(self) -> bool:
        """As ProcessHandle.suspended."""
        try:
            with ExitStack() as files:
                ours = f"{PROC}/{self.pid}/task"
                threads = os.open(ours, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                files.callback(os.close, threads)
                if int(stat_fields(read_small(f"{self.pid}/stat", STAT_SIZE, threads))[19]) != (
                    self.start
                ):
                    raise NoSuchTarget(f"process {self.pid} has ended")
                for thread in (str(self.pid), *os.listdir(threads)):
                    with suppress(FileNotFoundError, ProcessLookupError):  # it has ended since
                        status = read_small(f"{thread}/status", STATUS_SIZE, threads)
                        if b"\nState:\tZ" not in status:  # they stand all, or none does
                            return is_stopped(status)
                return False
        except OSError as error:
            raise translate(error, f"looking at process {self.pid}") from error

    def _signal(self, number: signal.Signals) -> None:
        try:
            signal.pidfd_send_signal(self._fd, number)
        except OSError as error:
            raise translate(error, f"{number.name} to process {self.pid}") from error

    def close(self) -> None:
        """As ProcessHandle.close."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def is_stopped(status: bytes) -> bool:
    """Whether /proc/PID/task/TID/status is of a thread that is stopped, or has SIGSTOP before it.

    A signal stops all threads of a process, each once it is not within a system call that waits for
    a device: such a one counts as stopped, as it will be.
    """
    state = status[status.index(b"\nState:") + 7 :].lstrip()[:1]
    if state in b"TtD":
        return True
    pending = 0
    for name in (b"\nSigPnd:", b"\nShdPnd:"):
        at = status.index(name) + len(name)
        pending |= int(status[at : status.index(b"\n", at)], 16)
    return bool(pending >> (signal.SIGSTOP - 1) & 1)


def can_hold_processes() -> bool:
    """Whether this kernel, and what confines asyd, allow pidfds and signals through them."""
    try:
        fd = os.pidfd_open(os.getpid())
    except (AttributeError, OSError):  # a Python built without it; a kernel, a seccomp filter
        return False
    try:
        signal.pidfd_send_signal(fd, 0)
    except (AttributeError, OSError):
        return False
    finally:
        os.close(fd)
    return True


def ancestors() -> frozenset[int]:
    """PIDs of this process and of all its ancestors that this PID namespace shows."""
    pids = set()
    pid = os.getpid()
    while pid and pid not in pids:
        pids.add(pid)
        try:
            pid = int(stat_fields(read_small(f"{PROC}/{pid}/stat", STAT_SIZE))[1])
        except OSError:  # hidden from asyd, or it has just ended: then PID 1 took its children
            pid = 1
    return frozenset(pids)


def bus_owners() -> frozenset[int]:
    """Who may own the system's message bus or journal: root, the bus's users, the socket's."""
    owners = {0}
    with suppress(OSError):
        owners.add(os.stat(_BUS_SOCKET).st_uid)
    for user in _BUS_USERS:
        with suppress(KeyError):
            owners.add(pwd.getpwnam(user).pw_uid)
    return frozenset(owners)


def cgroup_of(pid: int) -> str:
    """The cgroup that the service manager keeps a process in, or ''. PlatformError."""
    try:
        text = read_small(f"{PROC}/{pid}/cgroup", 1 << 16).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise translate(error, f"looking at process {pid}") from error
    return cgroup_path(text)


def cgroup_path(text: str) -> str:
    """The path in the unified hierarchy, or, where that is not in use, in systemd's own.

    `text` is /proc/PID/cgroup: `id:controllers:path` a line. '' when it is the root of both.
    """
    unified = named = "/"
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            unified = path
        elif controllers == "name=systemd":
            named = path
    return (unified if unified != "/" else named).removesuffix("/")


def is_within(cgroup: str, parent: str) -> bool:
    """Whether `cgroup` is `parent` or below it."""
    return cgroup == parent or cgroup.startswith(parent + "/")
