"""Vitals and facts from /proc: the real one against other tools, and made ones for rare cases."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from asys.isa import FileSystem, PressureSource
from asys.node.platform import machine
from asys.node.platform.base import MachineFacts, SystemFailure
from asys.node.platform.procfs import (
    TICKS_PER_SECOND,
    ProcfsVitals,
    cpu_times,
    interface_bytes,
    machine_facts,
    memory_kb,
    open_pressure,
    root_file_system,
)
from asys.protocol.status import SW
from support.agree import agree

NET_DEV = (
    "Inter-|   Receive                           |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n"
    "    lo: 5000000 1 0 0 0 0 0 0 6000000 1 0 0 0 0 0 0\n"
    "  eth0:{received} 10 0 0 0 0 0 0 {sent} 10 0 0 0 0 0 0\n"
)


class Proc:
    """A /proc of a test's own making."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "net").mkdir()
        (root / "self").mkdir()
        (root / "pressure").mkdir()
        self.write("loadavg", "3.25 27.50 1.00 1/100 4242\n")
        self.write("meminfo", "MemTotal: 8388608 kB\nMemFree: 1 kB\nMemAvailable: 4195000 kB\n")
        self.write("pressure/cpu", "some avg10=12.99 avg60=1.00 avg300=0.00 total=5\n")
        self.write("self/mountinfo", "1 0 8:1 / / rw - ext4 /dev/sda rw\n")
        self.cpu()
        self.net(0, 0)

    def write(self, name: str, text: str) -> None:
        """Replaces the content of a file in place: it stays open elsewhere."""
        with (self.root / name).open("r+" if (self.root / name).exists() else "w") as file:
            file.truncate()
            file.write(text)

    def cpu(self, user: int = 0, idle: int = 0, io_wait: int = 0) -> None:
        """CPU times in ticks; every other kind is a constant."""
        self.write("stat", f"cpu  {user} 2 3 {idle} {io_wait} 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9\n")

    def net(self, received: int, sent: int) -> None:
        """Bytes of eth0."""
        self.write("net/dev", NET_DEV.format(received=received, sent=sent))

    def vitals(self) -> ProcfsVitals:
        """A reader of it."""
        return ProcfsVitals(str(self.root))


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


@pytest.fixture
def vitals() -> Iterator[ProcfsVitals]:
    """A reader of the real /proc."""
    made = ProcfsVitals()
    yield made
    made.close()


def test_the_first_reading_has_no_rates(proc: Proc) -> None:
    proc.cpu(user=1000, idle=1000, io_wait=1000)
    proc.net(10**9, 10**9)
    vitals = proc.vitals()
    status = vitals.read(50.0)
    vitals.close()
    assert (status.cpu_percent, status.io_wait_ms) == (0, 0)
    assert (status.inbound_mbps, status.outbound_mbps) == (0, 0)
    assert (status.load1, status.load5) == (3.25, 27.5)
    assert status.available_mb == 4195000 // 1024
    assert status.rpi_percent == 12
    assert status.pack()[:2] == bytes((32, 255))


def test_rates_are_over_the_time_since_the_last_reading(proc: Proc) -> None:
    vitals = proc.vitals()
    vitals.read(50.0)
    proc.cpu(user=TICKS_PER_SECOND, idle=2 * TICKS_PER_SECOND, io_wait=TICKS_PER_SECOND)
    proc.net(1_000_000, 250_000)
    status = vitals.read(52.0)
    assert (status.cpu_percent, status.io_wait_ms) == (25, 1000)
    assert (status.inbound_mbps, status.outbound_mbps) == (4, 1)
    proc.net(0, 0)
    status = vitals.read(54.0)
    vitals.close()
    assert (status.cpu_percent, status.io_wait_ms) == (0, 0)
    assert (status.inbound_mbps, status.outbound_mbps) == (0, 0)


def test_pressure_is_simulated_where_the_kernel_has_none(proc: Proc) -> None:
    (proc.root / "pressure/cpu").unlink()
    vitals = proc.vitals()
    status = vitals.read(1.0)
    vitals.close()
    assert status.rpi_percent == machine.simulated_pressure(3.25, machine.cpus_online())
    assert machine_facts_of(proc).rpi_source is PressureSource.SIMULATED


def test_pressure_that_is_switched_off_counts_as_none(proc: Proc) -> None:
    (proc.root / "pressure/cpu").unlink()
    (proc.root / "pressure/cpu").mkdir()  # opens, and fails to read, as a switched off one does
    before = len(os.listdir("/proc/self/fd"))
    assert open_pressure(str(proc.root)) is None
    assert len(os.listdir("/proc/self/fd")) == before


def machine_facts_of(proc: Proc) -> MachineFacts:
    """Facts of a /proc that is complete."""
    proc.write("meminfo", "MemTotal: 8388608 kB\nMemAvailable: 1 kB\nSwapTotal: 2097151 kB\n")
    return machine_facts(str(proc.root))


@pytest.mark.parametrize("name", ["loadavg", "stat", "meminfo", "net/dev"])
def test_a_file_that_is_missing_is_a_node_error(proc: Proc, name: str) -> None:
    (proc.root / name).unlink()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(SystemFailure) as failure:
        proc.vitals()
    assert failure.value.sw == SW.NODE_IO_ERROR
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *((name, "") for name in ("loadavg", "stat", "meminfo", "pressure/cpu")),
        *((name, "nonsense") for name in ("loadavg", "stat", "meminfo", "pressure/cpu")),
        ("loadavg", "a b c"),
        ("stat", "cpu  1 2 3 4"),
        ("stat", "cpu  1 2 3 4 5 x 7 8 9"),
        ("meminfo", "MemAvailable: many kB"),
        ("meminfo", "MemAvailable: 1"),
        ("net/dev", "a\nb\neth0: 1 2 3\n"),
        ("net/dev", "a\nb\neth0: 1 2 3 4 5 6 7 8 x 10\n"),
        ("pressure/cpu", "some avg10=1"),
    ],
)
def test_content_of_another_form_is_a_node_error(proc: Proc, name: str, text: str) -> None:
    vitals = proc.vitals()
    proc.write(name, text)
    with pytest.raises(SystemFailure) as failure:
        vitals.read(1.0)
    vitals.close()
    assert failure.value.sw == SW.NODE_IO_ERROR


def test_reading_what_was_closed_is_a_node_error(vitals: ProcfsVitals) -> None:
    vitals.close()
    vitals.close()
    with pytest.raises(SystemFailure):
        vitals.read(1.0)


def test_a_table_larger_than_one_read_is_read_to_its_end(proc: Proc) -> None:
    rows = [f"veth{number}: 5 0 0 0 0 0 0 0 5 0 0 0 0 0 0 0" for number in range(3000)]
    table = NET_DEV.format(received=0, sent=0) + "\n".join(rows) + "\n"
    assert len(table) > 1 << 16
    proc.write("net/dev", table)
    vitals = proc.vitals()
    vitals.read(1.0)
    proc.write("net/dev", table.replace("veth2999: 5", "veth2999: 500005"))
    assert vitals.read(2.0).inbound_mbps == 4
    vitals.close()


def test_interfaces_but_loopback() -> None:
    text = NET_DEV.format(received="4294967296", sent=" 7") + "  lo2:1 2 3 4 5 6 7 8 9 10\n"
    assert interface_bytes(text.encode()) == {"eth0": (4294967296, 7), "lo2": (1, 9)}


@pytest.mark.parametrize(
    ("mounts", "kind"),
    [
        (["1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda rw"], FileSystem.EXT),
        (["1 0 0:2 / / rw - rootfs rootfs rw", "2 1 8:1 / / rw - xfs /dev/sda rw"], FileSystem.XFS),
        (
            ["1 0 8:1 / / rw - btrfs /dev/sda rw", "2 1 8:2 / /boot rw - ext4 /dev/sdb rw"],
            FileSystem.BTRFS,
        ),
        (
            ["1 0 8:1 / /mnt/a\\040-\\040b rw - ext4 - rw", "2 0 0:1 / / rw - overlay - rw"],
            FileSystem.OVERLAY,
        ),
        (["1 0 0:1 / / rw - fuse.lxcfs lxcfs rw"], FileSystem.UNKNOWN),
        (["1 0 8:1 / /home rw - ext4 /dev/sda rw"], FileSystem.UNKNOWN),
        ([], FileSystem.UNKNOWN),
        (["", "x"], FileSystem.UNKNOWN),
    ],
)
def test_root_file_system(mounts: list[str], kind: FileSystem) -> None:
    assert root_file_system("\n".join(mounts) + "\n") == kind


def test_facts_that_cannot_be_read_are_a_node_error(proc: Proc) -> None:
    with pytest.raises(SystemFailure):  # no SwapTotal
        machine_facts(str(proc.root))
    (proc.root / "self/mountinfo").unlink()
    with pytest.raises(SystemFailure):
        machine_facts(str(proc.root))


def test_facts_are_what_the_machine_says() -> None:
    facts = machine_facts()
    release = os.uname().release
    assert facts.kernel == tuple(map(int, re.findall(r"\d+", release)[:3]))
    assert facts.ram_mb == psutil.virtual_memory().total >> 20
    assert facts.swap_mb == psutil.swap_memory().total >> 20
    assert facts.root_size_mb == psutil.disk_usage("/").total >> 20
    kinds = _output("findmnt", "--noheadings", "--output", "FSTYPE", "--mountpoint", "/").split()
    assert facts.root_file_system == machine.file_system(kinds[-1])
    has_psi = Path("/proc/pressure/cpu").exists()
    expected = PressureSource.KERNEL_PSI if has_psi else PressureSource.SIMULATED
    assert facts.rpi_source is expected


def _output(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def test_load_is_the_kernels(vitals: ProcfsVitals) -> None:
    agree(lambda: vitals.read(1.0).load1, lambda: os.getloadavg()[0], 0.011)
    agree(lambda: vitals.read(1.0).load5, lambda: os.getloadavg()[1], 0.011)


def test_available_memory_is_what_free_says(vitals: ProcfsVitals) -> None:
    def free() -> int:
        return int(_output("free", "--mebi").splitlines()[1].split()[-1])

    agree(lambda: vitals.read(1.0).available_mb, free, 2)


def test_memory_of_the_real_file() -> None:
    assert memory_kb(Path("/proc/meminfo").read_bytes(), b"MemTotal:") >> 10 == (
        psutil.virtual_memory().total >> 20
    )


@pytest.mark.parametrize("which", [0, 1, 2], ids=["busy", "idle", "io_wait"])
def test_cpu_times_are_what_psutil_says(which: int) -> None:
    def ours() -> float:
        return cpu_times(Path("/proc/stat").read_bytes())[which]

    def theirs() -> float:
        times = psutil.cpu_times()
        busy = times.user + times.nice + times.system + times.irq + times.softirq + times.steal
        return (busy, times.idle, times.iowait)[which]

    agree(ours, theirs, 0.02)


@pytest.mark.parametrize("which", [0, 1], ids=["received", "sent"])
def test_interfaces_are_what_psutil_says(which: int) -> None:
    def ours() -> int:
        counters = interface_bytes(Path("/proc/net/dev").read_bytes())
        return sum(both[which] for both in counters.values())

    def theirs() -> int:
        counters = psutil.net_io_counters(pernic=True, nowrap=False)
        counters.pop("lo", None)
        return sum((one.bytes_recv, one.bytes_sent)[which] for one in counters.values())

    agree(ours, theirs, 0)


def test_pressure_is_the_kernels(vitals: ProcfsVitals) -> None:
    def kernel() -> int:
        text = Path("/proc/pressure/cpu").read_text()
        return int(float(text.split("avg10=")[1].split()[0]))

    agree(lambda: vitals.read(1.0).rpi_percent or 0, kernel, 0)


NO_DESCRIPTORS = """
import os, resource, sys
from asys.node.platform.procfs import ProcfsVitals
from asys.node.platform.processes.proctable import ProcfsTable
vitals, table = ProcfsVitals(), ProcfsTable()
taken = max(map(int, os.listdir("/proc/self/fd"))) + 1
resource.setrlimit(resource.RLIMIT_NOFILE, (taken, taken))
while True:
    try:
        os.dup(0)
    except OSError:
        break
for now in (1.0, 2.0):
    status = vitals.read(now)
    list(table.scan(now))
try:
    os.open("/", os.O_RDONLY)
except OSError as error:
    print(error.errno, status.available_mb, table.latest.count, len(table.latest.top))
"""


def test_vitals_and_table_need_no_new_descriptor() -> None:
    output = _output(sys.executable, "-c", NO_DESCRIPTORS)
    errno, available_mb, count, shown = map(int, output.split())
    assert errno == 24
    assert available_mb > 0
    assert count >= 2
    assert shown == min(count, 5)
