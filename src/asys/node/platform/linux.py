"""Linux: /proc for what is, pidfds for what is done, systemd or supervisord for services."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from asys.node.clock import Clock
from asys.node.platform import machine, memory, oom, privileges
from asys.node.platform.base import (
    Isolator,
    Logs,
    MachineFacts,
    ProcessHandle,
    ProcessTable,
    ProcessTrees,
    ServiceManager,
    Throttler,
    Vitals,
)
from asys.node.platform.logs import place as log_place
from asys.node.platform.processes import process as processes
from asys.node.platform.processes import throttles
from asys.node.platform.processes.proctable import ProcfsTable
from asys.node.platform.processes.proctree import ProcfsTrees
from asys.node.platform.procfs import ProcfsVitals, machine_facts


class LinuxPlatform:
    """The Platform that Linux is. Made in the process that is asyd: it is what it protects."""

    name: ClassVar[str] = "linux"

    def __init__(self) -> None:
        self._guard = processes.Guard.here()
        self._isolator_lack = ""
        self._logs = log_place.find()

    def facts(self) -> MachineFacts:
        """As Platform.facts."""
        return machine_facts()

    def node_uid(self) -> int:
        """As Platform.node_uid."""
        return machine.node_uid()

    def vitals(self) -> Vitals:
        """As Platform.vitals."""
        return ProcfsVitals()

    def process_table(self) -> ProcessTable:
        """As Platform.process_table."""
        return ProcfsTable()

    def can_throttle(self) -> bool:
        """As Platform.can_throttle."""
        return processes.can_hold_processes()

    def process_trees(self) -> ProcessTrees | None:
        """As Platform.process_trees."""
        return ProcfsTrees()

    def logs(self, clock: Clock) -> Logs | None:
        """As Platform.logs."""
        if self._logs.place is log_place.LogPlace.NONE:
            return None
        from asys.node.platform.logs.reader import LogReader

        return LogReader(self._logs.place, clock)

    def throttler(self, how: str) -> Throttler:
        """As Platform.throttler."""
        return throttles.throttler(how, self._guard)

    def isolator(self, state_dir: Path) -> Isolator | None:
        """As Platform.isolator."""
        from asys.node.platform.isolation.isolator import LinuxIsolator

        isolator = LinuxIsolator(state_dir, self._guard)
        self._isolator_lack = isolator.lack
        return isolator

    def spare_me(self) -> str:
        """As Platform.spare_me."""
        return oom.spare_me()

    def lock_memory(self) -> str:
        """As Platform.lock_memory."""
        memory.take_room()
        return memory.lock()

    def locked_bytes(self) -> int:
        """As Platform.locked_bytes."""
        return memory.locked_bytes()

    def lacks(self) -> list[str]:
        """As Platform.lacks."""
        lacks = privileges.limits(throttles=self.can_throttle())
        if self._isolator_lack:
            lacks.append(f"NET_ISOLATE answers 6D00: {self._isolator_lack}")
        return [*lacks, *filter(None, [self._logs.lack])]

    def process(self, pid: int) -> ProcessHandle:
        """As Platform.process."""
        return processes.LinuxProcess(pid, self._guard)

    def ancestors(self) -> frozenset[int]:
        """As Platform.ancestors."""
        return processes.ancestors()

    def service_manager(self, supervisord: str | None) -> ServiceManager | None:
        """As Platform.service_manager."""
        from asys.node.platform.services.find import find_service_manager

        return find_service_manager(supervisord)
