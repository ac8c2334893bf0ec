"""What every platform must do, and which one is chosen; both run on Linux."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from asys.isa import PressureSource, Process, ProcessFlags, Status
from asys.node.platform import choose_platform
from asys.node.platform.base import Platform, TableSnapshot, Unsupported
from asys.node.platform.linux import LinuxPlatform
from asys.node.platform.portable import PortablePlatform
from asys.node.platform.services.find import find_service_manager
from support.agree import agree
from support.children import hog, waiting


@pytest.fixture(params=["linux", "portable"])
def platform(request: pytest.FixtureRequest) -> Platform:
    return choose_platform(portable=request.param == "portable")


def _scan(platform: Platform, times: int = 1) -> TableSnapshot:
    table = platform.process_table()
    for now in range(times):
        steps = sum(1 for _ in table.scan(float(now)))
        assert steps >= table.latest.count
    table.close()
    return table.latest


def test_facts_are_the_machine_s(platform: Platform) -> None:
    facts = platform.facts()
    assert facts.ram_mb == psutil.virtual_memory().total >> 20
    assert facts.swap_mb == psutil.swap_memory().total >> 20
    assert facts.cpu_count == os.sysconf("SC_NPROCESSORS_ONLN")
    assert ".".join(map(str, facts.kernel[:2])) in os.uname().release
    other = choose_platform(portable=platform.name == "linux").facts()
    assert (facts.architecture, facts.root_file_system, facts.root_size_mb) == (
        other.architecture,
        other.root_file_system,
        other.root_size_mb,
    )


def test_vitals_can_travel(platform: Platform) -> None:
    vitals = platform.vitals()
    first = vitals.read(time.monotonic())
    assert (first.cpu_percent, first.io_wait_ms) == (0, 0)
    assert (first.inbound_mbps, first.outbound_mbps) == (0, 0)
    second = vitals.read(time.monotonic())
    vitals.close()
    second.check()
    assert Status.unpack(second.pack()).available_mb == second.available_mb
    assert 0 < second.available_mb <= platform.facts().ram_mb
    assert second.rpi_percent is not None
    assert 0 <= second.rpi_percent <= 100


def test_a_hog_is_in_the_vitals(platform: Platform) -> None:
    with hog() as pid:
        process = psutil.Process(pid)
        vitals = platform.vitals()
        vitals.read(0.0)
        start = sum(process.cpu_times()[:2])
        while sum(process.cpu_times()[:2]) < start + 0.3:
            time.sleep(0.02)
        assert vitals.read(1.0).cpu_percent > 0
        vitals.close()


def test_the_table_has_everybody(platform: Platform) -> None:
    agree(lambda: _scan(platform).count, lambda: len(psutil.pids()), 0)
    snapshot = _scan(platform)
    assert len(snapshot.top) == 5
    assert snapshot.starts.keys() == {one.pid for one in snapshot.top}
    for one in snapshot.top:
        assert one.cpu_percent == 0
        one.check()
        assert Process.unpack(one.pack()).pid == one.pid


def test_a_hog_is_in_the_table(platform: Platform) -> None:
    with hog() as pid:
        process = psutil.Process(pid)
        table = platform.process_table()
        deadline = time.monotonic() + 60
        while True:
            for _ in table.scan(time.monotonic()):
                pass
            top = table.latest.top[0]
            if top.pid == pid and top.cpu_percent > 0:
                break
            assert time.monotonic() < deadline
            before = sum(process.cpu_times()[:2])
            while sum(process.cpu_times()[:2]) < before + 0.2:
                time.sleep(0.02)
        table.close()
        owner = ProcessFlags.ROOT if os.geteuid() == 0 else ProcessFlags(0)
        assert top.flags & ProcessFlags.ROOT == owner


def test_ancestors(platform: Platform) -> None:
    me = psutil.Process()
    assert platform.ancestors() == {me.pid, *(parent.pid for parent in me.parents())}


def test_node_uid(platform: Platform) -> None:
    try:
        with open("/etc/machine-id") as file:
            assert f"{platform.node_uid():08x}" == file.read(8)
    except FileNotFoundError:
        assert platform.node_uid() == 0


def test_the_service_manager_is_looked_for(platform: Platform) -> None:
    assert type(platform.service_manager(None)) is type(find_service_manager(None))


def test_linux_holds_processes() -> None:
    platform = LinuxPlatform()
    assert platform.name == "linux"
    assert platform.can_throttle()
    with waiting() as child:
        process = platform.process(child.pid)
        assert process.refusal() == "a child of asyd"
        process.close()


def test_elsewhere_nothing_is_simulated_but_the_pressure() -> None:
    platform = PortablePlatform()
    assert platform.name == "portable"
    assert platform.facts().rpi_source is PressureSource.SIMULATED
    assert not platform.can_throttle()
    with pytest.raises(Unsupported):
        platform.process(os.getpid())


@pytest.mark.parametrize(
    ("system", "portable", "expected"),
    [
        ("linux", False, "linux"),
        ("linux", True, "portable"),
        ("darwin", False, "portable"),
        ("freebsd14", False, "portable"),
    ],
)
def test_choose_platform(
    monkeypatch: pytest.MonkeyPatch, system: str, portable: bool, expected: str
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    assert choose_platform(portable=portable).name == expected


LOADED = """
import sys
from asys.node.platform import choose_platform
platform = choose_platform(portable={portable})
platform.facts(); platform.vitals().read(1.0); list(platform.process_table().scan(1.0))
print(*sorted(name for name in sys.modules if name in {names!r}))
"""


@pytest.mark.parametrize(
    ("portable", "others"),
    [
        (False, ["psutil", "asys.node.platform.portable"]),
        (
            True,
            [
                f"asys.node.platform.{name}"
                for name in ("linux", "procfs", "processes.process", "services.systemd")
            ],
        ),
    ],
)
def test_a_platform_imports_nothing_of_the_other(portable: bool, others: list[str]) -> None:
    script = LOADED.format(portable=portable, names=others)
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert done.stdout.strip() == b""
