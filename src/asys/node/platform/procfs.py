"""Vitals and machine facts from /proc.

What is read again and again is kept open: it can be read when there are no descriptors left.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from asys.isa import FileSystem, PressureSource, Status
from asys.node.platform import machine
from asys.node.platform.base import MachineFacts, SystemFailure, node_failure
from asys.node.platform.meters import CpuMeter, NetworkMeter
from asys.protocol.status import SW

PROC: Final = "/proc"

TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
"""Unit of the CPU times in /proc."""

STAT_SIZE: Final = 1024
"""Bytes to read of /proc/PID/stat: 52 numbers and a name of at most 63 bytes stay below it."""

_CHUNK: Final = 1 << 16
"""The most that one read takes of a file whose length is not known, in bytes."""


class ProcFile:
    """A file under /proc that stays open and is read from its start each time. OSError."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def head(self, size: int) -> bytes:
        """The first bytes, as they are now."""
        return os.pread(self._fd, size, 0)

    def whole(self) -> bytes:
        """All of it; the kernel hands long tables out in pieces."""
        parts = []
        offset = 0
        while part := os.pread(self._fd, _CHUNK, offset):
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Gives the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_small(path: str, size: int, dir_fd: int | None = None) -> bytes:
    """The first bytes of a file, in one read. OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        return os.read(fd, size)
    finally:
        os.close(fd)


def stat_fields(stat: bytes) -> list[bytes]:
    """The fields of /proc/PID/stat from the state on: 1 parent, 6 flags, 11 and 12 CPU ticks of
    user and system, 17 threads, 19 start in ticks since boot, 21 resident pages.

    The name before them may hold spaces, brackets and newlines; behind it there are only numbers.
    """
    return stat[stat.rindex(b")") + 2 :].split(None, 22)


def open_pressure(root: str = PROC) -> ProcFile | None:
    """The kernel's pressure stall information of the CPU, or None where it has none."""
    try:
        file = ProcFile(f"{root}/pressure/cpu")
    except OSError:
        return None
    try:
        file.head(1)
    except OSError:  # built in, but switched off at boot
        file.close()
        return None
    return file


class ProcfsVitals:
    """Vitals of a Linux machine. PlatformError from all methods but close."""

    def __init__(self, root: str = PROC) -> None:
        self._files: list[ProcFile] = []
        self._cpus = machine.cpus_online()
        self._cpu = CpuMeter()
        self._network = NetworkMeter()
        try:
            self._loadavg = self._open(f"{root}/loadavg")
            self._stat = self._open(f"{root}/stat")
            self._meminfo = self._open(f"{root}/meminfo")
            self._net = self._open(f"{root}/net/dev")
        except OSError as error:
            self.close()
            raise node_failure(error, "reading /proc") from error
        self._pressure = open_pressure(root)
        if self._pressure is not None:
            self._files.append(self._pressure)

    def _open(self, path: str) -> ProcFile:
        file = ProcFile(path)
        self._files.append(file)
        return file

    def read(self, now: float) -> Status:
        """As Vitals.read."""
        try:
            return self._read(now)
        except OSError as error:
            raise node_failure(error, "reading /proc") from error
        except (ValueError, IndexError) as error:
            raise SystemFailure(f"/proc is not as expected: {error}", SW.NODE_IO_ERROR) from error

    def _read(self, now: float) -> Status:
        load1, load5 = map(float, self._loadavg.head(128).split(None, 2)[:2])
        cpu_percent, io_wait_ms = self._cpu.update(now, *cpu_times(self._stat.head(512)))
        inbound, outbound = self._network.update(now, interface_bytes(self._net.whole()))
        if self._pressure is None:
            pressure = machine.simulated_pressure(load1, self._cpus)
        else:
            pressure = cpu_pressure(self._pressure.head(512))
        return Status(
            load1=load1,
            load5=load5,
            cpu_percent=cpu_percent,
            available_mb=memory_kb(self._meminfo.head(4096), b"MemAvailable:") // 1024,
            root_used_percent=machine.root_used_percent(),
            io_wait_ms=io_wait_ms,
            inbound_mbps=inbound,
            outbound_mbps=outbound,
            rpi_percent=pressure,
        )

    def close(self) -> None:
        """Gives back what it holds open."""
        for file in self._files:
            file.close()


def cpu_times(stat: bytes) -> tuple[float, float, float]:
    """Busy, idle and I/O wait of /proc/stat, in seconds over all CPUs.

    Guest time is part of user time already. Time stolen by a hypervisor counts as busy: the machine
    had work, and could not do it.
    """
    user, nice, system, idle, io_wait, irq, soft_irq, steal = map(int, stat.split(None, 9)[1:9])
    busy = user + nice + system + irq + soft_irq + steal
    return busy / TICKS_PER_SECOND, idle / TICKS_PER_SECOND, io_wait / TICKS_PER_SECOND


def memory_kb(meminfo: bytes, name: bytes) -> int:
    """One line of /proc/meminfo; `name` with its colon. ValueError when it is not there."""
    at = meminfo.index(name) + len(name)
    return int(meminfo[at : meminfo.index(b"kB", at)])


def interface_bytes(net_dev: bytes) -> dict[str, tuple[int, int]]:
    """Bytes received and sent by interface, from /proc/net/dev, without loopback."""
    counters = {}
    for line in net_dev.splitlines()[2:]:
        name, _, values = line.partition(b":")
        label = name.strip().decode("utf-8", "surrogateescape")
        if label != "lo":
            fields = values.split()
            counters[label] = int(fields[0]), int(fields[8])
    return counters


def cpu_pressure(pressure: bytes) -> int:
    """`some avg10` of a pressure file, rounded down."""
    at = pressure.index(b"some avg10=") + 11
    return int(pressure[at : pressure.index(b".", at)])


def root_file_system(mountinfo: str) -> FileSystem:
    """Type of what is mounted at /, from /proc/self/mountinfo; the last mount covers the others."""
    kind = ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if before.split(" ")[4:5] == ["/"]:
            kind = after.split(" ", 1)[0]
    return machine.file_system(kind)


def machine_facts(root: str = PROC) -> MachineFacts:
    """What SYS_CAPS says of a Linux machine. PlatformError when /proc cannot be read."""
    name = os.uname()
    try:
        meminfo = Path(root, "meminfo").read_bytes()
        mountinfo = Path(root, "self/mountinfo").read_text("utf-8", "surrogateescape")
        root_size_mb = machine.root_size_mb()
        ram_mb = memory_kb(meminfo, b"MemTotal:") // 1024
        swap_mb = memory_kb(meminfo, b"SwapTotal:") // 1024
    except OSError as error:
        raise node_failure(error, "reading /proc") from error
    except ValueError as error:
        raise SystemFailure(f"/proc is not as expected: {error}", SW.NODE_IO_ERROR) from error
    pressure = open_pressure(root)
    if pressure is not None:
        pressure.close()
    return MachineFacts(
        kernel=machine.kernel_version(name.release),
        cpu_count=machine.cpus_online(),
        architecture=machine.architecture(name.machine),
        ram_mb=ram_mb,
        swap_mb=swap_mb,
        root_size_mb=root_size_mb,
        root_file_system=root_file_system(mountinfo),
        rpi_source=PressureSource.SIMULATED if pressure is None else PressureSource.KERNEL_PSI,
    )
