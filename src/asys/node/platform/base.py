"""What asyd asks of an operating system, and the errors that it may answer with."""

from __future__ import annotations

import errno
from collections.abc import Collection, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final, Protocol

from asys.isa import Architecture, FileSystem, PressureSource, Process, Status, TaskStatus
from asys.node.clock import Clock
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
    errno.EROFS: SW.NODE_IO_ERROR,
    errno.ENOSPC: SW.NODE_NO_SPACE,
    errno.EDQUOT: SW.NODE_NO_SPACE,
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
    one process for ever. `busy` has the CPU in percent of every process that used any, by
    start << 32 | PID.
    """

    count: int
    top: tuple[Process, ...]
    starts: dict[int, int]
    busy: Mapping[int, float] = field(default_factory=dict, repr=False)


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
    name: bytes
    """What it is called, as the system has it: not to be trusted."""

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

    def suspended(self) -> bool:
        """Whether it is stopped, by whomever, or will be once it can. PlatformError."""

    def close(self) -> None:
        """Gives the handle back."""


class Throttler(Protocol):
    """One way of stopping processes; lets go what was stopped in any of them."""

    how: str
    """`signal`, `freeze` or `cpu:PERCENT` (docs/protocol.md, section 7.2)."""

    lack: str
    """Why this way cannot be had here, in words; '' where it can."""

    quick: bool
    """Whether `stop`, and `release` of what it stopped, are as short as a signal. What is not
    belongs beside the event loop, one call at a time.
    """

    def stop(self, process: ProcessHandle, users: Collection[int] | None = None) -> str:
        """Stops it; idempotent. Gives the place that `release` needs, '' where it needs none.

        Where that is also for its descendants, those run on that have a uid not in `users`, and
        those that nobody may touch. PlatformError: nothing has changed.
        """

    def release(self, process: ProcessHandle | None, how: str, place: str) -> None:
        """Takes back what was done in the way `how` at `place`; idempotent. PlatformError.

        `process` is None when it has ended; what it left behind may be held all the same.
        """

    def is_held(self, process: ProcessHandle | None, how: str, place: str) -> bool:
        """Whether that is still in force. PlatformError."""


@dataclass(frozen=True, slots=True)
class Isolated:
    """A process that stands isolated: PID and start name it also when it has ended."""

    pid: int
    start: int
    keep_loopback: bool


class Isolator(Protocol):
    """Cuts processes off the network. What it has done outlasts asyd.

    It takes milliseconds: it belongs beside the event loop, one call at a time.
    """

    lack: str
    """Why that cannot be had here, in words; '' where it can."""

    def isolate(self, process: ProcessHandle, *, keep_loopback: bool) -> None:
        """Cuts off a process and its descendants, those aside that nobody may touch; with all
        connections that they have. Once more: with what has come since, under the new rule.

        PlatformError: what was before is so still, and nothing stands still.
        """

    def release(self, pid: int, start: int) -> bool:
        """Takes that back, whether the process lives or not; False: it was not isolated.

        PlatformError: some of it may be in force still.
        """

    def recover(self) -> tuple[Isolated, ...]:
        """What stands from before asyd was started. What was half made or half taken away then is
        undone. PlatformError.
        """

    def name(self, pid: int, start: int) -> str:
        """What an isolated process is called, where it still lives; else ''."""

    def close(self) -> None:
        """Gives back what it holds open; what is isolated stays so."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The payload of a PROC_TREE, and for each PID in it when it was started."""

    payload: bytes
    starts: dict[int, int]


class ProcessTrees(Protocol):
    """Finds out who started whom, in steps, so that nobody waits for thousands of processes."""

    def holds(self, pid: int) -> bool:
        """Whether there is such a process now. One short look; OSError."""

    def tree(self, pid: int, depth: int, busy: Mapping[int, float]) -> Generator[None, None, Tree]:
        """A process, its ancestors and what is below it, `depth` levels down; 0: as the protocol
        has it.

        Every step is far below 0.3 ms. `busy` is TableSnapshot.busy. NoSuchTarget: it has ended;
        other PlatformErrors.
        """

    def close(self) -> None:
        """Gives back what it holds open."""


class Logs(Protocol):
    """Reads the machine's logs, elsewhere: here nothing ever waits for them."""

    @property
    def pids(self) -> tuple[int, ...]:
        """Processes that do so: nobody may touch them, whatever was granted."""

    @property
    def has_room(self) -> bool:
        """Whether one more question may wait."""

    def remembers(self, event: int) -> bool:
        """Whether `summary` has shown this event lately."""

    async def summary(self, window_s: int, priority: int, wanted: int) -> bytes:
        """The payload of a LOG_SUMMARY. PlatformError."""

    async def detail(self, event: int, before: int, after: int) -> bytes:
        """The payload of a LOG_DETAIL. NoSuchTarget: not remembered, or gone; PlatformError."""

    def start(self) -> None:
        """Gets ready; questions may be asked before it is."""

    async def close(self) -> None:
        """Ends it; whoever waits is told."""


class RestartJob(Protocol):
    """A restart that a service manager has queued."""

    async def wait(self) -> TaskStatus:
        """SUCCESS, FAILED or CANCELLED, once the manager says so. Never raises PlatformError."""

    async def cancel(self) -> TaskStatus:
        """Takes it out of the manager's queue where it has not begun; then where it stands.

        CANCELLED only when the manager says so, PENDING where it goes on. PlatformError when the
        manager cannot be asked, or does not let asyd do it.
        """


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

    def throttler(self, how: str) -> Throttler:
        """How processes are stopped here, given as in Throttler.how."""

    def isolator(self, state_dir: Path) -> Isolator | None:
        """How processes are cut off the network, by the node with that state directory; None where
        that cannot be done at all.
        """

    def process_trees(self) -> ProcessTrees | None:
        """What finds out who started whom; None where that cannot be had."""

    def logs(self, clock: Clock) -> Logs | None:
        """A reader of logs, not started; None where asyd may read none, or there are none."""

    def spare_me(self) -> str:
        """Has the system end others before asyd and its helpers when memory runs out; why not, or
        ''.
        """

    def lock_memory(self) -> str:
        """Keeps in memory what asyd has there, and what it will have; why not, or ''. For when all
        is started.
        """

    def locked_bytes(self) -> int:
        """How much is kept so now."""

    def lacks(self) -> list[str]:
        """What asyd cannot do here for want of privileges, in sentences for its log."""

    def process(self, pid: int) -> ProcessHandle:
        """A handle on a process. NoSuchTarget, NotPermitted or Unsupported."""

    def ancestors(self) -> frozenset[int]:
        """PIDs of asyd itself and of all its ancestors, now."""

    def service_manager(self, supervisord: str | None) -> ServiceManager | None:
        """The service manager, if there is one; `supervisord` is its XML-RPC URL if configured."""
