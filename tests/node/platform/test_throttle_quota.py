"""`--throttle=cpu:PERCENT` with the cpu controller of cgroup v1, and what cgroup v2 would be told.

The controller is in one version at a time. Where it is in the first, cpu.max of the second is tried
out on a tree of plain files: that shows what asyd writes, and not what a kernel makes of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from asys.node.platform.base import Unsupported
from asys.node.platform.processes import cgroups
from asys.node.platform.processes.cgroups import Hierarchies, Hierarchy
from asys.node.platform.processes.process import Guard, LinuxProcess
from asys.node.platform.processes.throttles import (
    QUOTA_V1,
    LinuxThrottler,
    QuotaV1,
    QuotaV2,
    force_of,
    throttler,
)
from support.cgroup import PATIENCE, cgroup, version1
from support.children import waiting
from support.family import Family, cpu_ticks, family

GUARD = Guard("", frozenset(), 0)


@pytest.fixture
def room() -> Iterator[str]:
    """A cgroup for what a test starts."""
    with cgroup(version1()) as directory:
        yield directory


@pytest.fixture
def first(room: str) -> Iterator[Family]:
    """A process in the room."""
    with family() as made:
        cgroups.move(room, made.pid)
        yield made


def quota(percent: int) -> LinuxThrottler:
    """What holds processes to that."""
    made = throttler(f"cpu:{percent}", GUARD)
    assert (made.how, made.lack, made.quick) == (f"cpu:{percent}", "", False)
    return made


def stop(by: LinuxThrottler, pid: int) -> str:
    """Holds a process; its place."""
    with closing(LinuxProcess(pid, GUARD)) as process:
        return by.stop(process)


def release(by: LinuxThrottler, pid: int, place: str = "") -> None:
    """Lets a process go."""
    with closing(LinuxProcess(pid, GUARD)) as process:
        by.release(process, by.how, place)


def is_held(by: LinuxThrottler, pid: int, place: str) -> bool:
    """Whether a process is held."""
    with closing(LinuxProcess(pid, GUARD)) as process:
        return by.is_held(process, by.how, place)


def where(pid: int) -> str:
    """The cgroup of a process."""
    return version1().of(pid)


def share(pid: int, twin: int) -> float:
    """What a process gets of the CPU, against its twin on the same one, until that has had 1 s."""
    mine, other = cpu_ticks(pid), cpu_ticks(twin)
    end = time.monotonic() + PATIENCE
    while cpu_ticks(twin) - other < 100:
        assert time.monotonic() < end, "the twin gets no CPU"
        time.sleep(0.01)
    return (cpu_ticks(pid) - mine) / (cpu_ticks(twin) - other)


@pytest.mark.root
def test_a_hog_gets_far_less_than_its_twin_until_it_is_let_go(room: str, first: Family) -> None:
    hog, twin = first.child("spin"), first.child("spin")
    cpu = min(os.sched_getaffinity(0))
    for pid in (hog, twin):
        os.sched_setaffinity(pid, {cpu})
    by = quota(2)

    place = stop(by, hog)

    assert where(hog) == f"{room}/{place}"
    assert cgroups.read(where(hog), QUOTA_V1) == "2000\n"
    assert is_held(by, hog, place)
    assert share(hog, twin) < 0.5  # 0.02 against a half, where nobody else wants the CPU
    throttled = int(cgroups.read(where(hog), "cpu.stat").split("nr_throttled ")[1].split()[0])
    assert throttled > 0

    release(by, hog, place)

    assert where(hog) == room
    assert not os.path.exists(f"{room}/{place}")
    assert not is_held(by, hog, place)
    assert share(hog, twin) > 0.5


@pytest.mark.root
def test_children_that_come_later_are_in_it(room: str, first: Family) -> None:
    before = first.child()
    by = quota(50)
    place = stop(by, first.pid)
    after = first.child()

    held = f"{room}/{place}"
    assert {where(pid) for pid in (first.pid, before, after)} == {held}
    assert cgroups.read(held, QUOTA_V1) == "50000\n"

    release(by, first.pid)
    assert {where(pid) for pid in (first.pid, before, after, first.child())} == {room}


@pytest.mark.root
def test_no_more_than_what_a_cgroup_above_has(room: str, first: Family) -> None:
    cgroups.write(room, "cpu.cfs_period_us", 50_000)
    cgroups.write(room, QUOTA_V1, 5_000)
    for percent, written in ((50, "10000\n"), (5, "5000\n")):
        by = quota(percent)
        held = f"{room}/{stop(by, first.pid)}"
        assert cgroups.read(held, QUOTA_V1) == written
        release(by, first.pid)


@pytest.mark.root
def test_the_least_that_the_kernel_takes(room: str, first: Family) -> None:
    assert cgroups.read(f"{room}/{stop(quota(1), first.pid)}", QUOTA_V1) == "1000\n"


@pytest.mark.root
def test_stop_within_stop_in_either_order_of_release(room: str, first: Family) -> None:
    by = quota(20)
    for outer_first in (True, False):
        child = first.child()
        outer, inner = stop(by, first.pid), stop(by, child)
        assert where(child) == f"{room}/{outer}/{inner}"

        release(by, first.pid if outer_first else child)
        assert is_held(by, child, inner) == outer_first
        assert is_held(by, first.pid, outer) != outer_first

        release(by, child if outer_first else first.pid)
        assert where(child) == where(first.pid) == room
        assert not [name for name in os.listdir(room) if name.startswith("asyd-")]


# -- version 2, as far as plain files show it


class Fake:
    """A tree of cgroups of version 2 with the cpu controller, of plain files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.make("")
        (root / "cgroup.controllers").write_text("cpu memory\n")

    def make(self, name: str, *, kind: str = "domain", enabled: str = "") -> str:
        """A cgroup."""
        directory = self.root / name
        directory.mkdir(parents=True, exist_ok=True)
        files = {
            "cgroup.type": f"{kind}\n",
            "cgroup.subtree_control": f"{enabled}\n",
            "cpu.max": "max 100000\n",
            "cgroup.procs": "",
        }
        for file, text in files.items():
            (directory / file).write_text(text)
        if not name:
            (directory / "cgroup.type").unlink()
        return str(directory)

    @property
    def hierarchies(self) -> Hierarchies:
        """As they would be mounted."""
        return Hierarchies(Hierarchy(str(self.root), "/", frozenset()))

    def read(self, name: str, file: str) -> str:
        """What asyd has written last into a file, which it does not empty before."""
        return (self.root / name / file).read_text()


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path / "cgroup")


def test_version_2_is_taken_where_the_controller_is_there(fake: Fake) -> None:
    version_1 = {"cpu": version1()}
    both = Hierarchies(fake.hierarchies.unified, version_1)
    assert isinstance(force_of("cpu:20", both), QuotaV2)

    (fake.root / "cgroup.controllers").write_text("memory\n")
    assert isinstance(force_of("cpu:20", both), QuotaV1)
    with pytest.raises(Unsupported, match="no cpu controller"):
        force_of("cpu:20", fake.hierarchies)

    (fake.root / "cgroup.controllers").unlink()
    assert throttler("cpu:20", GUARD, both).lack.startswith("--throttle=cpu:20: looking at ")


@pytest.mark.parametrize(("percent", "written"), [(1, 1000), (20, 20_000), (99, 99_000)])
def test_percent_of_one_cpu(fake: Fake, percent: int, written: int) -> None:
    force = force_of(f"cpu:{percent}", fake.hierarchies)
    child = fake.make("asyd-throttle-7-1")

    force.apply(child)

    assert fake.read("asyd-throttle-7-1", "cpu.max").startswith(f"{written} 100000")
    assert force.is_on(child)
    assert fake.read("", "cgroup.subtree_control") == "+cpu"
    assert fake.read("asyd-throttle-7-1", "cgroup.type") == "domain\n"  # at the top it may be one

    force.lift(child)
    assert not force.is_on(child)
    assert fake.read("asyd-throttle-7-1", "cpu.max").startswith("max 100000")


def test_the_child_of_a_cgroup_with_processes_is_threaded(fake: Fake) -> None:
    force = force_of("cpu:20", fake.hierarchies)
    fake.make("system.slice", enabled="memory")
    service = fake.make("system.slice/a.service")
    child = fake.make("system.slice/a.service/asyd-throttle-7-1")

    force.apply(child)

    assert fake.read("", "cgroup.subtree_control") == "+cpu"
    assert fake.read("system.slice", "cgroup.subtree_control").startswith("+cpu")
    assert fake.read("system.slice/a.service", "cgroup.subtree_control") == "+cpu"
    assert fake.read("system.slice", "cgroup.type") == "domain\n"
    assert fake.read("system.slice/a.service/asyd-throttle-7-1", "cgroup.type") == "threaded"

    # What the kernel makes of the parent; and with the last child it has nothing of it left.
    (fake.root / "system.slice/a.service/cgroup.type").write_text("domain threaded\n")
    force.tidy(service)
    assert fake.read("system.slice/a.service", "cgroup.subtree_control") == "+cpu"
    for file in Path(child).iterdir():
        file.unlink()
    Path(child).rmdir()
    force.tidy(service)
    assert fake.read("system.slice/a.service", "cgroup.subtree_control") == "-cpu"


def test_what_has_the_controller_already_is_left_as_it_is(fake: Fake) -> None:
    force = force_of("cpu:20", fake.hierarchies)
    for name in ("", "system.slice", "system.slice/a.service"):
        fake.make(name, enabled="cpu")
    child = fake.make("system.slice/a.service/asyd-throttle-7-1")

    force.apply(child)
    force.apply(child)

    assert fake.read("system.slice", "cgroup.subtree_control") == "cpu\n"
    assert fake.read("system.slice/a.service/asyd-throttle-7-1", "cgroup.type") == "domain\n"
    force.tidy(str(fake.root / "system.slice/a.service"))
    assert fake.read("system.slice/a.service", "cgroup.subtree_control") == "cpu\n"


def test_what_has_gone_need_not_be_lifted(fake: Fake) -> None:
    by_v2 = force_of("cpu:20", fake.hierarchies)
    by_v1 = QuotaV1(Hierarchy(str(fake.root), "/", frozenset({"cpu"})), 20)
    for force in (by_v1, by_v2):
        force.lift(str(fake.root / "gone"))
        force.tidy(str(fake.root / "gone"))


@pytest.mark.root
def test_a_way_that_is_gone_after_a_restart_is_told(first: Family, room: str) -> None:
    by = quota(20)
    place = stop(by, first.pid)
    without = throttler("signal", GUARD, Hierarchies())
    with closing(LinuxProcess(first.pid, GUARD)) as process, pytest.raises(Unsupported):
        without.release(process, "cpu:20", place)

    with closing(LinuxProcess(first.pid, GUARD)) as process:
        throttler("signal", GUARD).release(process, "cpu:20", place)
    assert where(first.pid) == room


@pytest.mark.root
def test_a_process_that_ended_and_its_cgroup_with_it_are_not_held() -> None:
    with waiting() as child, closing(LinuxProcess(child.pid, GUARD)) as process:
        assert not quota(20).is_held(process, "cpu:20", "asyd-throttle-1-1")
    assert not quota(20).is_held(process, "cpu:20", "asyd-throttle-1-1")
