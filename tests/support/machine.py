"""A platform whose vitals and process table a test decides on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from asys.isa import Architecture, FileSystem, PressureSource, Process, ProcessFlags, Status
from asys.node.clock import Clock
from asys.node.platform.base import (
    Isolator,
    Logs,
    MachineFacts,
    ProcessHandle,
    ProcessTrees,
    ServiceManager,
    TableSnapshot,
    Throttler,
    Unsupported,
)
from asys.node.platform.processes.signals import SignalThrottler


class MadeTimer:
    """A clock for slices: stands still but for what a step costs."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        """The time, in seconds."""
        return self.seconds


class MadeVitals:
    """Vitals that say how often they were read: `available_mb` is 1 at the first reading."""

    def __init__(self) -> None:
        self.read_at: list[float] = []
        self.error: Exception | None = None
        self.closed = False

    def read(self, now: float) -> Status:
        """As Vitals.read."""
        self.read_at.append(now)
        if self.error is not None:
            raise self.error
        return Status(0.0, 0.0, 0, len(self.read_at), 0, 0, 0, 0, None)

    def close(self) -> None:
        """As Vitals.close."""
        self.closed = True


class MadeTable:
    """A table of `steps` steps of `cost` seconds each; the PID at the top counts the scans."""

    def __init__(self, timer: MadeTimer) -> None:
        self._timer = timer
        self.steps = 3
        self.cost = 0.0
        self.began_at: list[float] = []
        self.forgotten = 0
        self.error: Exception | None = None
        self.latest = TableSnapshot(0, (), {})
        self.closed = False

    def scan(self, now: float) -> Iterator[None]:
        """As ProcessTable.scan."""
        self.began_at.append(now)
        for _ in range(self.steps):
            self._timer.seconds += self.cost
            yield
        if self.error is not None:
            raise self.error
        pid = len(self.began_at)
        top = Process(pid, 100.0, 1, ProcessFlags.ROOT)
        self.latest = TableSnapshot(self.steps, (top,), {pid: 7})

    def forget(self) -> None:
        """As ProcessTable.forget."""
        self.forgotten += 1

    def close(self) -> None:
        """As ProcessTable.close."""
        self.closed = True


class MadePlatform:
    """A Platform that has the above and nothing else."""

    name: ClassVar[str] = "made"

    def __init__(self) -> None:
        self.timer = MadeTimer()
        self.made_vitals = MadeVitals()
        self.made_table = MadeTable(self.timer)

    def facts(self) -> MachineFacts:
        """As Platform.facts."""
        return MachineFacts(
            kernel=(6, 1, 2),
            cpu_count=4,
            architecture=Architecture.X86_64,
            ram_mb=1024,
            swap_mb=512,
            root_size_mb=2048,
            root_file_system=FileSystem.EXT,
            rpi_source=PressureSource.NONE,
        )

    def node_uid(self) -> int:
        """As Platform.node_uid."""
        return 0x01020304

    def vitals(self) -> MadeVitals:
        """As Platform.vitals."""
        return self.made_vitals

    def process_table(self) -> MadeTable:
        """As Platform.process_table."""
        return self.made_table

    def can_throttle(self) -> bool:
        """As Platform.can_throttle."""
        return False

    def throttler(self, how: str) -> Throttler:
        """As Platform.throttler."""
        return SignalThrottler(how)

    def isolator(self, state_dir: Path) -> Isolator | None:
        """As Platform.isolator."""
        return None

    def process_trees(self) -> ProcessTrees | None:
        """As Platform.process_trees."""
        return None

    def logs(self, clock: Clock) -> Logs | None:
        """As Platform.logs."""
        return None

    def spare_me(self) -> str:
        return ""

    def lock_memory(self) -> str:
        return ""

    def locked_bytes(self) -> int:
        return 0

    def lacks(self) -> list[str]:
        """As Platform.lacks."""
        return []

    def process(self, pid: int) -> ProcessHandle:
        """As Platform.process."""
        raise Unsupported(f"process {pid} is not made")

    def ancestors(self) -> frozenset[int]:
        """As Platform.ancestors."""
        return frozenset()

    def service_manager(self, supervisord: str | None) -> ServiceManager | None:
        """As Platform.service_manager."""
        return None
