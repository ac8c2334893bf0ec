"""bpf(2): what the kernel takes, and what it says where it does not."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from asys.node.platform.isolation import bpf
from asys.node.platform.isolation import programs as isolation_programs
from asys.node.platform.isolation.bpf import AttachType, ProgramType
from asys.node.platform.isolation.pins import Pins
from asys.node.platform.processes import cgroups
from support.cgroup import cgroup, unified
from support.isolating import isolation_missing

pytestmark = pytest.mark.skipif(bool(isolation_missing()), reason=isolation_missing())

Open = Callable[[int], int]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Sees to it that descriptors are closed."""
    found: list[int] = []

    def keep(fd: int) -> int:
        found.append(fd)
        return fd

    yield keep
    for fd in found:
        os.close(fd)


def number(value: int) -> bytes:
    return struct.pack("<Q", value)


def test_a_map(opened: Open) -> None:
    table = opened(bpf.create_hash("a_name_that_is_too_long", key_size=8, value_size=4, entries=3))
    assert not os.get_inheritable(table)
    assert list(bpf.keys(table, 8)) == []
    for value in (1, 2, 3, 3):
        bpf.update(table, number(value), bytes(4))
    assert sorted(bpf.keys(table, 8)) == sorted(map(number, (1, 2, 3)))
    with pytest.raises(OSError, match="MAP_UPDATE") as caught:
        bpf.update(table, number(4), bytes(4))
    assert caught.value.errno == errno.E2BIG
    assert bpf.delete(table, number(2))
    assert not bpf.delete(table, number(2))
    assert sorted(bpf.keys(table, 8)) == sorted(map(number, (1, 3)))


def test_the_verifier_says_what_is_wrong() -> None:
    with pytest.raises(OSError, match=r"the verifier: (.|\n)*R0 !read_ok"):
        bpf.load("bad", AttachType.EGRESS, b"\x95" + bytes(7))
    with pytest.raises(OSError, match=r"PROG_LOAD: Argument list too long$"):
        bpf.load("bad", AttachType.EGRESS, b"")


@pytest.mark.parametrize("programs", [isolation_programs.CUT, isolation_programs.CUT_BUT_LOOPBACK])
def test_there_is_a_program_for_each_hook(programs: dict[AttachType, bytes]) -> None:
    assert set(programs) == set(AttachType)
    assert {one.program_type for one in AttachType} == set(ProgramType)


def test_a_link_and_its_pin(tmp_path: Path, opened: Open) -> None:
    place = tmp_path / "bpf"
    place.mkdir()
    bpf.mount(str(place))
    try:
        assert bpf.is_mounted(str(place))
        program = opened(
            bpf.load("drop", AttachType.EGRESS, b"\xb7" + bytes(7) + b"\x95" + bytes(7))
        )
        assert bpf.knows_links(program)
        with cgroup(unified()) as where:
            link = opened(bpf.attach(program, where, AttachType.EGRESS))
            bpf.pin(link, f"{place}/link")
            with pytest.raises(FileExistsError):
                bpf.pin(link, f"{place}/link")
            again = opened(bpf.get(f"{place}/link"))
            bpf.replace(again, program)
        assert when_it_has_gone(again, program) == errno.ENOLINK
        with pytest.raises(FileNotFoundError):
            bpf.get(f"{place}/nothing")
        os.unlink(f"{place}/link")
    finally:
        bpf.unmount(str(place))
    with pytest.raises(OSError, match="unmounting"):
        bpf.unmount(str(place))
    with pytest.raises(OSError, match="mounting bpf at"):
        bpf.mount(str(tmp_path / "nowhere"))


def when_it_has_gone(link: int, program: int) -> int:
    """What a link says when its cgroup has gone, which the kernel gets to a little later."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            bpf.replace(link, program)
        except OSError as error:
            return error.errno or 0
    return 0


def test_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.byteorder", "big")
    assert "little-endian" in bpf.lack()
    monkeypatch.setattr(bpf, "_number", None)
    assert "not known" in bpf.lack()
    with pytest.raises(OSError, match="not on this machine"):
        bpf.create_hash("map", key_size=8, value_size=4, entries=1)


# -- where pins are


def test_pins_below_the_state_directory(tmp_path: Path) -> None:
    pins = Pins(tmp_path, system=str(tmp_path / "no-bpf-here"))
    assert pins.lack() == ""
    assert not pins.found()
    pins.make()
    pins.make()
    assert pins.found()
    assert bpf.is_mounted(str(tmp_path / "bpf"))
    pins.remove()
    assert not pins.found()
    assert not bpf.is_mounted(str(tmp_path / "bpf"))
    pins.remove()
    assert os.listdir(tmp_path) == ["bpf"]  # where it is mounted next, without asking the disk


def test_the_place_to_mount_at_is_made_once(tmp_path: Path) -> None:
    system = tmp_path / "system"
    pins = Pins(tmp_path / "state", system=str(system))
    pins.prepare()
    before = os.stat(tmp_path / "state" / "bpf")
    pins.prepare()
    pins.make()
    pins.remove()
    assert os.stat(tmp_path / "state" / "bpf") == before
    system.mkdir()
    bpf.mount(str(system))
    try:
        Pins(tmp_path / "other", system=str(system)).prepare()
    finally:
        bpf.unmount(str(system))
    assert not (tmp_path / "other").exists()


def test_pins_where_the_system_has_them(tmp_path: Path) -> None:
    system = tmp_path / "system"
    system.mkdir()
    bpf.mount(str(system))
    try:
        first, second = (Pins(tmp_path / name, system=str(system)) for name in ("one", "two"))
        for pins in (first, second):
            assert pins.lack() == ""
            pins.make()
            assert pins.found()
        assert not (tmp_path / "one").exists()
        assert len([one for one in os.listdir(system) if one.startswith("asyd-")]) == 2
        place = first.begin("7-8")
        assert first.unfinished() == ["new-7-8"]
        first.set_mark(place, keep_loopback=True)
        first.set_mark(place, keep_loopback=True)
        first.finish(place, "7-8")
        assert (first.isolations(), second.isolations()) == (["7-8"], [])
        assert first.has_mark("7-8")
        first.remove_isolation(first.abandon("7-8"))
        for pins in (first, second):
            pins.remove()
        assert [one for one in os.listdir(system) if one.startswith("asyd-")] == []
    finally:
        bpf.unmount(str(system))


def test_a_mount_that_is_in_use_is_left(tmp_path: Path) -> None:
    pins = Pins(tmp_path, system=str(tmp_path / "no-bpf-here"))
    pins.make()
    fd = os.open(tmp_path / "bpf", os.O_RDONLY)
    pins.remove()
    assert bpf.is_mounted(str(tmp_path / "bpf"))
    os.close(fd)
    assert not pins.found()
    pins.remove()
    assert not bpf.is_mounted(str(tmp_path / "bpf"))


def test_nothing_can_be_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asys.node.platform.privileges.has", lambda capability: False)
    pins = Pins(tmp_path, system=str(tmp_path / "no-bpf-here"))
    assert "no CAP_SYS_ADMIN to mount one" in pins.lack()


TRIES = """
import socket, sys
for _ in sys.stdin:
    try:
        socket.socket().close()
        print("made", flush=True)
    except PermissionError:
        print("cut", flush=True)
"""


def test_a_link_that_is_detached_does_nothing_from_then_on(opened: Open) -> None:
    """Though it is still there: to drop it would not be enough, the kernel takes its time."""
    where = AttachType.SOCK_CREATE
    with (
        cgroup(unified()) as directory,
        subprocess.Popen(
            (sys.executable, "-c", TRIES), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        reader = child.stdout

        def tries(to: IO[str] = child.stdin) -> str:
            to.write("\n")
            to.flush()
            return reader.readline()

        cgroups.move(directory, child.pid)
        assert tries() == "made\n"
        program = opened(bpf.load("cut", where, isolation_programs.CUT[where]))
        link = opened(bpf.attach(program, directory, where))
        assert tries() == "cut\n"
        bpf.detach(link)
        assert tries() == "made\n"
        bpf.detach(link)
        child.stdin.close()
        assert child.wait(60) == 0
