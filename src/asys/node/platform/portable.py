"""Any POSIX system through psutil: the Core ISA, and services where a supervisord is configured.

Processes cannot be suspended: without a pidfd the PID could be another process's by then.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Final

import psutil

from asys.isa import PressureSource, ProcessFlags, Status
from asys.node.clock import Clock
from asys.node.platform import machine
from asys.node.platform.base import (
    Isolator,
    Logs,
    MachineFacts,
    ProcessHandle,
    ProcessTable,
    ProcessTrees,
    ServiceManager,
    SystemFailure,
    TableSnapshot,
    Throttler,
    Unsupported,
    Vitals,
    node_failure,
)
from asys.node.platform.meters import CpuMeter, NetworkMeter, ProcessMeter
from asys.node.platform.processes.signals import SignalThrottler
from asys.protocol.status import SW

_LOOPBACK: Final = re.compile(r"lo\d*")
_STATES: Final = {
    psutil.STATUS_ZOMBIE: ProcessFlags.ZOMBIE.value,
    psutil.STATUS_DISK_SLEEP: ProcessFlags.UNINTERRUPTIBLE.value,
}


class PortableVitals:
    """Vitals through psutil; the pressure index is simulated from the load."""

    def __init__(self) -> None:
        self._cpu = CpuMeter()
        self._network = NetworkMeter()

    def read(self, now: float) -> Status:
        """As Vitals.read."""
        try:
            return self._read(now)
        except OSError as error:
            raise node_failure(error, "reading the vitals") from error
        except psutil.Error as error:
            raise SystemFailure(f"reading the vitals: {error}", SW.NODE_IO_ERROR) from error

    def _read(self, now: float) -> Status:
        load1, load5, _ = os.getloadavg()
        times = psutil.cpu_times()._asdict()
        io_wait = times.get("iowait", 0.0)
        idle = times["idle"]
        guest = times.get("guest", 0.0) + times.get("guest_nice", 0.0)  # in user and nice as well
        busy = sum(times.values()) - idle - io_wait - guest
        cpu_percent, io_wait_ms = self._cpu.update(now, busy, idle, io_wait)
        interfaces = psutil.net_io_counters(pernic=True, nowrap=False)
        inbound, outbound = self._network.update(
            now,
            {
                name: (counters.bytes_recv, counters.bytes_sent)
                for name, counters in interfaces.items()
                if not _LOOPBACK.fullmatch(name)
            },
        )
        return Status(
            load1=load1,
            load5=load5,
            cpu_percent=cpu_percent,
            available_mb=psutil.virtual_memory().available // machine.MB,
            root_used_percent=machine.root_used_percent(),
            io_wait_ms=io_wait_ms,
            inbound_mbps=inbound,
            outbound_mbps=outbound,
            rpi_percent=machine.simulated_pressure(load1, machine.cpus_online()),
        )

    def close(self) -> None:
        """As Vitals.close; psutil keeps nothing open."""


class PortableTable:
    """Scans the process table through psutil; a process's start is in ms of Unix time."""

    def __init__(self, *, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._meter = ProcessMeter(1, psutil.virtual_memory().total)
        self.latest = TableSnapshot(0, (), {})

    def forget(self) -> None:
        """As ProcessTable.forget."""
        self._meter.forget()

    def scan(self, now: float) -> Iterator[None]:
        """As ProcessTable.scan."""
        try:
            yield from self._scan(now)
        except OSError as error:
            raise node_failure(error, "reading the process table") from error
        except psutil.Error as error:
            raise SystemFailure(f"reading the process table: {error}", SW.NODE_IO_ERROR) from error

    def _scan(self, now: float) -> Iterator[None]:
        ahead = now - self._timer()
        self._meter.begin(now, int(time.time() * 1000))
        for process in psutil.process_iter():
            self._add(process, ahead)
            yield
        roots = set()
        for pid in self._meter.leaders():
            if _owned_by_root(pid):
                roots.add(pid)
            yield
        self.latest = self._meter.finish(roots)

    def _add(self, process: psutil.Process, ahead: float) -> None:
        try:
            with process.oneshot():
                state = process.status()
                start = int(process.create_time() * 1000)
                times = process.cpu_times()
                resident = process.memory_info().rss
        except psutil.ZombieProcess:
            self._meter.add(process.pid, 0, 0.0, 0, 0.0, ProcessFlags.ZOMBIE.value)
        except psutil.NoSuchProcess:
            return
        except psutil.AccessDenied:  # it is there, and the system hides what it does
            self._meter.count += 1
        else:
            now = self._timer() + ahead
            cpu = times.user + times.system
            self._meter.add(process.pid, start, cpu, resident, now, _STATES.get(state, 0))

    def close(self) -> None:
        """As ProcessTable.close; psutil keeps nothing open."""


class PortablePlatform:
    """The Platform that any POSIX system is."""

    name: ClassVar[str] = "portable"

    def facts(self) -> MachineFacts:
        """As Platform.facts."""
        name = os.uname()
        try:
            root = [
                part.fstype for part in psutil.disk_partitions(all=True) if part.mountpoint == "/"
            ]
            return MachineFacts(
                kernel=machine.kernel_version(name.release),
                cpu_count=machine.cpus_online(),
                architecture=machine.architecture(name.machine),
                ram_mb=psutil.virtual_memory().total // machine.MB,
                swap_mb=psutil.swap_memory().total // machine.MB,
                root_size_mb=machine.root_size_mb(),
                root_file_system=machine.file_system(root[-1] if root else ""),
                rpi_source=PressureSource.SIMULATED,
            )
        except OSError as error:
            raise node_failure(error, "reading what the machine is") from error
        except psutil.Error as error:
            raise SystemFailure(
                f"reading what the machine is: {error}", SW.NODE_IO_ERROR
            ) from error

    def node_uid(self) -> int:
        """As Platform.node_uid."""
        return machine.node_uid()

    def vitals(self) -> Vitals:
        """As Platform.vitals."""
        return PortableVitals()

    def process_table(self) -> ProcessTable:
        """As Platform.process_table."""
        return PortableTable()

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
        """As Platform.spare_me."""
        return "nothing is known here of whom the system ends when memory runs out"

    def lock_memory(self) -> str:
        """As Platform.lock_memory."""
        return "memory is locked on Linux only"

    def locked_bytes(self) -> int:
        """As Platform.locked_bytes."""
        return 0

    def lacks(self) -> list[str]:
        """As Platform.lacks."""
        return ["PROC_THROTTLE, LOG_SUMMARY, LOG_DETAIL and PROC_TREE answer 6D00: they need Linux"]

    def process(self, pid: int) -> ProcessHandle:
        """As Platform.process."""
        raise Unsupported(f"process {pid} cannot be held on this system")

    def ancestors(self) -> frozenset[int]:
        """As Platform.ancestors."""
        me = psutil.Process()
        try:
            return frozenset({me.pid, *(parent.pid for parent in me.parents())})
        except psutil.Error:  # one of them ended, or may not be looked at
            return frozenset({me.pid, os.getppid()})

    def service_manager(self, supervisord: str | None) -> ServiceManager | None:
        """As Platform.service_manager."""
        from asys.node.platform.services.find import find_service_manager

        return find_service_manager(supervisord)


def _owned_by_root(pid: int) -> bool:
    try:
        return psutil.Process(pid).uids().effective == 0
    except psutil.Error:
        return False
