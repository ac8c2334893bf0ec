"""What asyd asks of an operating system, and the errors that it may answer with."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

from asys.isa import Architecture, FileSystem, PressureSource, Process, Status, TaskStatus
from asys.protocol.status import SW


class PlatformError(Exception):
    """The operating system said no; `sw` is what the agent is told."""

    sw: SW = SW.NODE_UNKNOWN_ERROR


class NoSuchTarget(PlatformError):
    """There is no such process: 6A80."""

    sw = SW.INVALID_PAYLOAD


class NotPermitted(PlatformError):
    """asyd itself may not do this here: 6982."""

    sw = SW.DENIED


class Unsupported(PlatformError):
    """This platform cannot do it: 6D00. Never simulated."""

    sw = SW.NOT_SUPPORTED


class SystemFailure(PlatformError):
    """A node error, 6Fxx, from an errno."""

    def __init__(self, message: str, sw: SW) -> None:
        super().__init__(message)
        self.sw = sw


_FAILURES: Final = {
    errno.ENOMEM: SW.NODE_OUT_OF_MEMORY,
    errno.EIO: SW.NODE_IO_ERROR,
    errno.ENOSPC: SW.NODE_NO_SPACE,
    errno.ETIMEDOUT: SW.NODE_TIMED_OUT,
    errno.EBUSY: SW.NODE_BUSY,
}


def translate(error: OSError, what: str) -> PlatformError:
    """The platform error for an OSError; `what` was being tried."""
    message = f"{what}: {error.strerror or error}"
    if error.errno in (errno.ESRCH, errno.ENOENT):
        return NoSuchTarget(message)
    if error.errno in (errno.EPERM, errno.EACCES):
        return NotPermitted(message)
    if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
        return Unsupported(message)
    return SystemFailure(message, _FAILURES.get(error.errno or 0, SW.NODE_UNKNOWN_ERROR))


def node_failure(error: OSError, what: str) -> SystemFailure:
    """As `translate`, where no target was named that could be missing or forbidden: always 6Fxx."""
    message = f"{what}: {error.strerror or error}"
    return SystemFailure(message, _FAILURES.get(error.errno or 0, SW.NODE_IO_ERROR))


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What SYS_CAPS says of the machine; it changes rarely. Sizes in MB of 2^20 bytes."""

    kernel: tuple[int, int, int]
    cpu_count: int
    architecture: Architecture
    ram_mb: int
    swap_mb: int
    root_size_mb: int
    root_file_system: FileSystem
    rpi_source: PressureSource


@dataclass(frozen=True, slots=True)
class TableSnapshot:
    """The process table after one scan.

    `top` has at most five processes, most CPU since the previous scan first. `starts` tells for
    each PID in `top` when it was started, in the platform's own unit: PID and start together name
    one process for ever.
    """

    count: int
    top: tuple[Process, ...]
    starts: dict[int, int]


class Vitals(Protocol):
    """Reads the machine's vitals."""

    def read(self, now: float) -> Status:
        """Vitals now; rates are over the time since the previous read, 0 at the first one.

        `now` is monotonic, in seconds. PlatformError when they cannot be had.
        """

    def close(self) -> None:
        """Gives back what it holds open."""


class ProcessTable(Protocol):
    """Scans the process table, in steps, so that nobody waits for thousands of processes."""

    def scan(self, now: float) -> Iterator[None]:
        """One scan: every step reads a process or a few, far below 0.3 ms. At the end, `latest`
        has the snapshot; CPU is over the time since the previous scan's own reading.

        `now` is monotonic, in seconds. PlatformError when the table cannot be read; a process that
        ends meanwhile is no error.
        """

    def forget(self) -> None:
        """Drops what earlier scans saw: the next one measures from nothing, its CPU is 0."""

    @property
    def latest(self) -> TableSnapshot:
        """The result of the last scan that ended."""

    def close(self) -> None:
        """Gives back what it holds open."""


class ProcessHandle(Protocol):
    """One process that cannot be mistaken for another, even if its PID is given away."""

    pid: int
    start: int
    """When it was started, as in TableSnapshot.starts."""
    parent: int
    zombie: bool

    @property
    def uid(self) -> int:
        """Who owns it. PlatformError when it has gone."""

    def owners(self) -> Collection[int]:
        """Every uid that it has: real, effective, saved. PlatformError when it has gone."""

    def refusal(self) -> str:
        """Why nobody may touch it, or '': a kernel thread, the journal, the message bus, a child of
        asyd, a process of asyd's own cgroup. PlatformError when it has ended meanwhile.
        """

    def suspend(self) -> None:
        """Stops it. PlatformError."""

    def resume(self) -> None:
        """Lets it go on. PlatformError."""

    def close(self) -> None:
        """Gives the handle back."""


class RestartJob(Protocol):
    """A restart that a service manager has queued."""

    async def wait(self) -> TaskStatus:
        """SUCCESS, FAILED or CANCELLED, once the manager says so. Never raises PlatformError."""


class ServiceManager(Protocol):
    """Restarts services. One file per kind: systemd, supervisord, ..."""

    name: ClassVar[str]

    async def resolve(self, name: str) -> str:
        """The manager's own id for a service name as the agent sent it, aliases followed.

        A service that does not exist resolves to what it would be called. PlatformError when the
        manager cannot be asked.
        """

    def refusal(self, unit: str) -> str:
        """Why nobody may restart this id (asyd itself, the journal, the bus), or ''."""

    async def restart(self, unit: str) -> RestartJob:
        """Queues a restart. NoSuchTarget: no such service; other PlatformErrors as they are."""

    async def close(self) -> None:
        """Ends the connection to the manager."""


class Platform(Protocol):
    """An operating system, as far as asyd needs one."""

    name: ClassVar[str]

    def facts(self) -> MachineFacts:
        """What the machine is. Cheap; may be called again."""

    def node_uid(self) -> int:
        """First 8 hex digits of the machine's id, or 0."""

    def vitals(self) -> Vitals:
        """A new reader of vitals."""

    def process_table(self) -> ProcessTable:
        """A new scanner of the process table."""

    def can_throttle(self) -> bool:
        """Whether processes can be suspended here without ever hitting the wrong one."""

    def lacks(self) -> list[str]:
        """What asyd cannot do here for want of privileges, in sentences for its log."""

    def process(self, pid: int) -> ProcessHandle:
        """A handle on a process. NoSuchTarget, NotPermitted or Unsupported."""

    def ancestors(self) -> frozenset[int]:
        """PIDs of asyd itself and of all its ancestors, now."""

    def service_manager(self, supervisord: str | None) -> ServiceManager | None:
        """The service manager, if there is one; `supervisord` is its XML-RPC URL if configured."""
