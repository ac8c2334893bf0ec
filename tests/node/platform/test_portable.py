"""The portable platform where psutil has bad news."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from types import SimpleNamespace

import psutil
import pytest

from asys.isa import FileSystem, ProcessFlags
from asys.node.platform.base import SystemFailure
from asys.node.platform.portable import PortablePlatform, PortableTable, PortableVitals
from asys.protocol.status import SW
from support.children import gone, waiting, zombie


def _only(monkeypatch: pytest.MonkeyPatch, *processes: object) -> PortableTable:
    """A table in which psutil finds these processes."""

    def process_iter() -> Iterator[object]:
        yield from processes

    monkeypatch.setattr(psutil, "process_iter", process_iter)
    return PortableTable()


def _scan(table: PortableTable, now: float = 1.0) -> None:
    for _ in table.scan(now):
        pass


def test_a_zombie(monkeypatch: pytest.MonkeyPatch) -> None:
    with zombie() as pid:
        table = _only(monkeypatch, psutil.Process(pid))
        _scan(table)
        top = table.latest.top[0]
        assert (top.pid, top.flags & ProcessFlags.ZOMBIE) == (pid, ProcessFlags.ZOMBIE)


class Failing(psutil.Process):
    """A process of which psutil may not or cannot say anything."""

    error: psutil.Error

    def create_time(self) -> float:
        """Never says it."""
        raise self.error


def _failing(pid: int, error: psutil.Error) -> Failing:
    process = Failing(pid)
    process.error = error
    return process


def test_what_psutil_may_not_look_at_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with waiting() as child:
        table = _only(monkeypatch, _failing(child.pid, psutil.AccessDenied(child.pid)))
        _scan(table)
    assert table.latest.count == 1
    assert table.latest.top == ()


def test_a_zombie_on_systems_that_say_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with waiting() as child:
        table = _only(monkeypatch, _failing(child.pid, psutil.ZombieProcess(child.pid)))
        for now in (1.0, 2.0):
            _scan(table, now)
    assert table.latest.count == 1
    assert table.latest.top[0].pid == child.pid
    assert table.latest.top[0].cpu_percent == 0
    assert table.latest.top[0].flags & ProcessFlags.ZOMBIE


def test_a_process_that_ends_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    with waiting() as child:
        process = psutil.Process(child.pid)
        table = _only(monkeypatch, process)
    _scan(table)
    assert table.latest.count == 0


def test_a_leader_that_ends_before_its_owner_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with waiting() as child:
        table = _only(monkeypatch, psutil.Process(child.pid))
        steps = table.scan(1.0)
        next(steps)
    for _ in steps:
        pass
    assert table.latest.top[0].pid == child.pid
    assert table.latest.top[0].flags == 0


@pytest.mark.parametrize("error", [OSError(5, "io"), psutil.Error("broken")])
def test_a_table_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    table = PortableTable()

    def fail() -> Iterator[psutil.Process]:
        raise error

    monkeypatch.setattr(psutil, "process_iter", fail)
    with pytest.raises(SystemFailure) as failure:
        _scan(table)
    assert failure.value.sw == SW.NODE_IO_ERROR
    table.close()


@pytest.mark.parametrize("error", [OSError(5, "io"), psutil.AccessDenied()])
def test_vitals_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    vitals = PortableVitals()

    def fail() -> object:
        raise error

    monkeypatch.setattr(psutil, "virtual_memory", fail)
    with pytest.raises(SystemFailure) as failure:
        vitals.read(1.0)
    assert failure.value.sw == SW.NODE_IO_ERROR
    with pytest.raises(SystemFailure):
        PortablePlatform().facts()
    vitals.close()


def _times(**seconds: float) -> object:
    """CPU times with the fields that a system has."""

    class Times(SimpleNamespace):
        def _asdict(self) -> dict[str, float]:
            return dict(vars(self))

    return Times(**seconds)


def test_rates_where_there_is_neither_io_wait_nor_lo(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = SimpleNamespace
    vitals = PortableVitals()
    for now, cpu, received in ((1.0, 0.0, 0), (2.0, 1.0, 1_000_000)):
        times = _times(user=cpu, nice=0.0, system=cpu, idle=2 * cpu)
        interfaces = {
            "lo0": counters(bytes_recv=9 * received, bytes_sent=9 * received),
            "en0": counters(bytes_recv=received, bytes_sent=0),
        }
        monkeypatch.setattr(psutil, "cpu_times", lambda times=times: times)
        monkeypatch.setattr(psutil, "net_io_counters", lambda found=interfaces, **_options: found)
        status = vitals.read(now)
    assert (status.cpu_percent, status.io_wait_ms) == (50, 0)
    assert (status.inbound_mbps, status.outbound_mbps) == (8, 0)


def test_guest_time_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    vitals = PortableVitals()
    for now, cpu in ((1.0, 0.0), (2.0, 1.0)):
        times = _times(user=cpu, system=0.0, idle=cpu, iowait=0.0, guest=cpu)
        monkeypatch.setattr(psutil, "cpu_times", lambda times=times: times)
        status = vitals.read(now)
    assert status.cpu_percent == 50


def test_a_root_that_is_not_in_the_mount_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_options: [])
    assert PortablePlatform().facts().root_file_system is FileSystem.UNKNOWN


def test_ancestors_that_psutil_may_not_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_process: psutil.Process) -> list[psutil.Process]:
        raise psutil.NoSuchProcess(gone())

    monkeypatch.setattr(psutil.Process, "parents", denied)
    assert PortablePlatform().ancestors() == {os.getpid(), os.getppid()}


def test_starts_are_when_the_process_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    before = time.time()
    with waiting() as child:
        table = _only(monkeypatch, psutil.Process(child.pid))
        _scan(table)
    start = table.latest.starts[child.pid] / 1000
    assert before - 60 < start < time.time() + 60
