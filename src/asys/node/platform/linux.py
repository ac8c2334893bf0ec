"""Linux: /proc for what is, pidfds for what is done, systemd or supervisord for services."""

from __future__ import annotations

from typing import ClassVar

from asys.node.platform import machine, privileges, processes
from asys.node.platform.base import (
    MachineFacts,
    ProcessHandle,
    ProcessTable,
    ServiceManager,
    Vitals,
)
from asys.node.platform.procfs import ProcfsVitals, machine_facts
from asys.node.platform.proctable import ProcfsTable


class LinuxPlatform:
    """The Platform that Linux is. Made in the process that is asyd: it is what it protects."""

    name: ClassVar[str] = "linux"

    def __init__(self) -> None:
        self._guard = processes.Guard.here()

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

    def lacks(self) -> list[str]:
        """As Platform.lacks."""
        return privileges.limits(throttles=self.can_throttle())

    def process(self, pid: int) -> ProcessHandle:
        """As Platform.process."""
        return processes.LinuxProcess(pid, self._guard)

    def ancestors(self) -> frozenset[int]:
        """As Platform.ancestors."""
        return processes.ancestors()

    def service_manager(self, supervisord: str | None) -> ServiceManager | None:
        """As Platform.service_manager."""
        from asys.node.platform.services import find_service_manager

        return find_service_manager(supervisord)
