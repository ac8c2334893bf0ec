"""The process table: the real one against other tools, made ones for size and rare cases."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from asys.isa import Process, ProcessFlags
from asys.node.platform.base import SystemFailure, TableSnapshot
from asys.node.platform.processes.proclist import choose_listing, list_by_scandir
from asys.node.platform.processes.proctable import ProcfsTable
from asys.node.platform.procfs import TICKS_PER_SECOND
from asys.protocol.status import SW
from support.agree import agree
from support.children import hog, named, zombie

PAGES = os.sysconf("SC_PHYS_PAGES")


def _stat(pid: int, name: str = "made", state: str = "S", cpu: int = 0, rss: int = 0) -> str:
    """/proc/PID/stat with the fields that matter; every process was started at tick 1000."""
    before = f"{pid} ({name}) {state} 1 {pid} {pid} 0 -1 4194304 1 2 3 4"
    return f"{before} {cpu} 1 99 98 20 0 1 0 1000 123456 {rss} 18446744073709551615 0 0 0 17 3\n"


class Tree:
    """A /proc of a test's own making; what is no process in it must not disturb."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("self", "sys", "1a", "net"):
            (root / name).mkdir()
        (root / "uptime").touch()

    def add(self, pid: int, stat: str) -> None:
        """A process; its stat replaces an older one."""
        (self.root / str(pid)).mkdir(exist_ok=True)
        (self.root / str(pid) / "stat").write_bytes(stat.encode())

    def table(self, timer: Callable[[], float] = time.monotonic) -> ProcfsTable:
        """A scanner of it."""
        return ProcfsTable(str(self.root), timer=timer)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.fixture
def table() -> Iterator[ProcfsTable]:
    """A scanner of the real /proc."""
    made = ProcfsTable()
    yield made
    made.close()


def _scan(table: ProcfsTable, now: float = 1.0) -> TableSnapshot:
    for _ in table.scan(now):
        pass
    return table.latest


def _only(tree: Tree, pid: int, stat: str) -> Process:
    """What a table of this one process shows."""
    tree.add(pid, stat)
    table = tree.table()
    snapshot = _scan(table)
    table.close()
    assert snapshot.count == 1
    return snapshot.top[0]


def test_five_thousand_processes_in_small_steps(tree: Tree) -> None:
    for pid in range(1, 5001):
        tree.add(pid, _stat(pid, rss=pid))
    table = tree.table(timer=lambda: 0.0)
    steps = sum(1 for _ in table.scan(1.0))
    assert steps >= 5000
    assert table.latest.count == 5000
    assert [one.pid for one in table.latest.top] == [5000, 4999, 4998, 4997, 4996]
    for pid, cpu in ((17, 500), (4321, 25), (5, 50), (6, 50), (4000, 1)):
        tree.add(pid, _stat(pid, cpu=cpu))
    assert [one.pid for one in _scan(table, 2.0).top] == [17, 5, 6, 4321, 4000]
    table.close()


def test_nothing_is_published_before_the_scan_ends(tree: Tree) -> None:
    tree.add(1, _stat(1))
    table = tree.table()
    steps = table.scan(1.0)
    next(steps)
    assert table.latest == TableSnapshot(0, (), {})
    for _ in steps:
        pass
    assert table.latest.starts == {1: 1000}
    table.close()


@pytest.mark.parametrize(
    "name", ["a) R 1 (b", ") Z 1 1", "with space", "new\nline", "", ")", "((((", "1 (x) S 2"]
)
def test_a_name_may_hold_anything(tree: Tree, name: str) -> None:
    tree.add(42, _stat(42, name=name, state="D", rss=PAGES // 2))
    table = tree.table(lambda: 0.0)
    first = _scan(table, 1.0)
    assert first.starts == {42: 1000}
    assert first.top[0].flags & ProcessFlags.UNINTERRUPTIBLE
    assert first.top[0].memory_percent in (49, 50)
    tree.add(42, _stat(42, name=name, cpu=TICKS_PER_SECOND))
    second = _scan(table, 3.0)
    assert second.top[0].cpu_percent == 50
    table.close()


@pytest.mark.parametrize(
    ("state", "flags"),
    [
        ("Z", ProcessFlags.ZOMBIE),
        ("D", ProcessFlags.UNINTERRUPTIBLE),
        ("R", ProcessFlags(0)),
        ("S", ProcessFlags(0)),
        ("T", ProcessFlags(0)),
        ("I", ProcessFlags(0)),
    ],
)
def test_flags_of_states(tree: Tree, state: str, flags: ProcessFlags) -> None:
    assert _only(tree, 9, _stat(9, state=state)).flags & ~ProcessFlags.ROOT == flags


def test_cpu_is_over_each_process_s_own_interval(tree: Tree) -> None:
    times = iter([0.0, 0.3, 10.0, 10.5])  # begin and reading, of two scans
    tree.add(7, _stat(7))
    table = tree.table(timer=lambda: next(times))
    _scan(table, 100.0)
    tree.add(7, _stat(7, cpu=TICKS_PER_SECOND))
    assert _scan(table, 101.8).top[0].cpu_percent == pytest.approx(100 / 2.0)
    table.close()


def test_after_forget_there_is_no_cpu(tree: Tree) -> None:
    tree.add(7, _stat(7))
    table = tree.table()
    _scan(table, 1.0)
    tree.add(7, _stat(7, cpu=1000))
    table.forget()
    assert _scan(table, 2.0).top[0].cpu_percent == 0
    table.close()


def test_a_process_that_ends_meanwhile_is_left_out(tree: Tree) -> None:
    for pid in (1, 2, 3):
        tree.add(pid, _stat(pid))
    (tree.root / "2/stat").unlink()
    table = tree.table()
    assert _scan(table).starts == {1: 1000, 3: 1000}
    assert table.latest.count == 2
    table.close()


def test_a_leader_that_ends_before_its_owner_is_read(tree: Tree) -> None:
    tree.add(1, _stat(1))
    table = tree.table()
    steps = table.scan(1.0)
    next(steps)  # the listing
    next(steps)  # the process
    (tree.root / "1/stat").unlink()
    (tree.root / "1").rmdir()
    for _ in steps:
        pass
    assert table.latest.top[0].flags == 0
    table.close()


@pytest.mark.root
def test_processes_that_are_hidden_are_counted(tree: Tree) -> None:
    for pid in range(1, 101):
        tree.add(pid, _stat(pid))
    for pid in range(1, 100):
        (tree.root / str(pid) / "stat").chmod(0)
    tree.root.chmod(0o755)
    table = tree.table()
    os.seteuid(65534)
    try:
        steps = sum(1 for _ in table.scan(1.0))
    finally:
        os.seteuid(0)
    assert table.latest.count == 100
    assert table.latest.starts == {100: 1000}
    assert steps >= 100
    table.close()


@pytest.mark.parametrize("stat", ["", "nonsense", "1 (x) S 1 2 3", "1 (x) S" + " x" * 49])
def test_an_entry_of_another_form(tree: Tree, stat: str) -> None:
    tree.add(1, stat)
    table = tree.table()
    if stat:
        with pytest.raises(SystemFailure) as failure:
            _scan(table)
        assert failure.value.sw == SW.NODE_IO_ERROR
    else:  # nothing to read: it has ended
        assert _scan(table).count == 0
    table.close()


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure):
        ProcfsTable(str(tmp_path / "none"))


def test_a_table_that_was_closed(table: ProcfsTable) -> None:
    table.close()
    table.close()
    with pytest.raises(SystemFailure) as failure:
        _scan(table)
    assert failure.value.sw == SW.NODE_IO_ERROR


def test_an_error_of_the_kernel_is_a_node_error(tree: Tree) -> None:
    tree.add(1, _stat(1))
    (tree.root / "2").mkdir()
    (tree.root / "2/stat").mkdir()
    table = tree.table()
    with pytest.raises(SystemFailure):
        _scan(table)
    table.close()


@pytest.mark.parametrize("listing", [choose_listing(), list_by_scandir], ids=["direct", "scandir"])
def test_both_ways_of_listing_find_all(
    tree: Tree, listing: Callable[[int], Iterator[list[str]]]
) -> None:
    for pid in range(1, 301):
        tree.add(pid, _stat(pid))
    fd = os.open(tree.root, os.O_RDONLY)
    try:
        for _ in range(2):
            pieces = list(listing(fd))
            assert len(pieces) > 5
            assert sorted(int(name) for names in pieces for name in names) == [*range(1, 301)]
    finally:
        os.close(fd)


def test_a_listing_that_fails_says_why() -> None:
    fd = os.open("/proc/uptime", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Not a directory") as failure:
            list(choose_listing()(fd))
    finally:
        os.close(fd)
    assert failure.value.errno == errno.ENOTDIR


@pytest.mark.parametrize("failure", [AttributeError, OSError])
def test_without_getdents64_the_table_is_the_same(
    monkeypatch: pytest.MonkeyPatch, tree: Tree, failure: type[Exception]
) -> None:
    def missing(*_arguments: object, **_options: object) -> object:
        raise failure

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert choose_listing() is list_by_scandir
    tree.add(5, _stat(5))
    table = tree.table()
    assert _scan(table).starts == {5: 1000}
    table.close()


SPARE = (errno.EMFILE, errno.ENFILE)


@pytest.mark.parametrize("number", SPARE)
def test_without_descriptors_a_process_that_ends_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tree: Tree, number: int
) -> None:
    tree.add(1, _stat(1))
    tree.add(2, _stat(2))
    (tree.root / "2/stat").unlink()
    table = tree.table()
    really_open = os.open
    calls = []

    def scarce(path: str, flags: int, **options: int) -> int:
        calls.append(path)
        if len(calls) % 2:  # the spare one has not been given up yet
            raise OSError(number, os.strerror(number))
        return really_open(path, flags, **options)

    monkeypatch.setattr("os.open", scarce)
    assert _scan(table).starts == {1: 1000}
    assert sorted(calls) == ["1/stat", "1/stat", "2/stat", "2/stat"]
    monkeypatch.undo()
    table.close()


def test_a_spare_descriptor_that_was_lost_is_replaced(
    monkeypatch: pytest.MonkeyPatch, tree: Tree
) -> None:
    tree.add(1, _stat(1))
    table = tree.table()

    def none(*_arguments: object, **_options: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("os.open", none)
    monkeypatch.setattr("os.dup", none)
    for _ in range(2):
        with pytest.raises(SystemFailure):
            _scan(table)
    monkeypatch.undo()
    before = len(os.listdir("/proc/self/fd"))
    assert _scan(table).starts == {1: 1000}
    assert len(os.listdir("/proc/self/fd")) == before + 1
    table.close()


def test_count_is_what_ps_says(table: ProcfsTable) -> None:
    def ps() -> int:
        lines = subprocess.run(["ps", "-e", "-o", "pid="], check=True, capture_output=True).stdout
        return len(lines.splitlines()) - 1  # ps itself

    agree(lambda: _scan(table).count, ps, 0)
    agree(lambda: _scan(table).count, lambda: len(psutil.pids()), 0)


def test_a_hog_is_first(table: ProcfsTable) -> None:
    with hog() as pid:
        process = psutil.Process(pid)

        def used() -> float:
            times = process.cpu_times()
            return times.user + times.system

        deadline = time.monotonic() + 60
        while True:
            earliest, least = time.monotonic(), used()
            _scan(table, time.monotonic())
            latest, most = time.monotonic(), used()
            while used() < most + 0.5:  # until it has had half a second
                time.sleep(0.02)
            end_earliest, end_least = time.monotonic(), used()
            snapshot = _scan(table, time.monotonic())
            end_latest, end_most = time.monotonic(), used()
            if snapshot.top[0].pid == pid:
                break
            assert time.monotonic() < deadline, f"never first: {snapshot.top}"
        shown = snapshot.top[0].cpu_percent
        tick = 2 / TICKS_PER_SECOND
        assert shown >= 100 * (end_least - most - tick) / (end_latest - earliest)
        assert shown <= 100 * (end_most - least + tick) / (end_earliest - latest)
        assert snapshot.starts[pid] == _start(pid)
        owner = ProcessFlags.ROOT if os.geteuid() == 0 else ProcessFlags(0)
        assert snapshot.top[0].flags == owner


def _start(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[19])


def test_a_real_process_with_a_strange_name(tmp_path: Path) -> None:
    with named(tmp_path, "a) R 1 (b") as pid:
        assert Path(f"/proc/{pid}/comm").read_text() == "a) R 1 (b\n"
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc" / str(pid)).symlink_to(f"/proc/{pid}")
        table = ProcfsTable(str(tmp_path / "proc"))
        snapshot = _scan(table)
        table.close()
        assert snapshot.starts == {pid: _start(pid)}
        assert snapshot.top[0].flags & ~ProcessFlags.ROOT == 0
        assert snapshot.top[0].cpu_percent == 0
        rss = psutil.Process(pid).memory_info().rss
        assert snapshot.top[0].memory_percent == rss * 100 // psutil.virtual_memory().total


def test_a_real_zombie(tmp_path: Path) -> None:
    with zombie() as pid:
        (tmp_path / str(pid)).symlink_to(f"/proc/{pid}")
        table = ProcfsTable(str(tmp_path))
        snapshot = _scan(table)
        table.close()
        assert snapshot.top[0].pid == pid
        assert snapshot.top[0].flags & ProcessFlags.ZOMBIE
        owner = ProcessFlags.ROOT if os.geteuid() == 0 else ProcessFlags(0)
        assert snapshot.top[0].flags & ProcessFlags.ROOT == owner
