"""Memory that is taken in advance and locked, in processes of the tests' own."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asys.node.platform import choose_platform, memory, settle_allocator

HELPERS = """
import ctypes, json, mmap, os, re, resource, sys
from asys.node.platform import memory
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def mappings():
    found, name = {}, ""
    for line in open("/proc/self/smaps"):
        if match := re.match(r"[0-9a-f]+-[0-9a-f]+ (r-..) \\S+ \\S+ \\d+ *(/.*)$", line):
            name = match[2]
        elif re.match("[0-9a-f]+-", line):
            name = ""
        elif name and line.split(":")[0] in ("Size", "Rss"):
            what, kb = line.replace(":", "").split()[:2]
            found.setdefault(name, {}).setdefault(what, 0)
            found[name][what] += int(kb)
    return found
"""


def run(program: str, *arguments: str) -> Any:
    """What a Python of its own prints, from JSON."""
    done = subprocess.run(
        [sys.executable, "-c", HELPERS + program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_room_that_is_taken_is_there_without_a_fault() -> None:
    program = (
        "memory.settle_allocator()\n"
        "if sys.argv[1] == 'taken':\n"
        "    memory.take_room()\n"
        "before = faults()\n"
        "objects = [bytes(400) for _ in range(memory.OBJECTS // 2 // 512)]\n"
        "buffers = [b'x' * 50_000 for _ in range(memory.BUFFERS // 2 // 50_000)]\n"
        "print(faults() - before)\n"
    )
    assert run(program, "not") > 300
    assert run(program, "taken") < 50


def test_memory_that_is_freed_is_kept() -> None:
    program = (
        "memory.settle_allocator()\n"
        "memory.take_room()\n"
        "for _ in range(20):\n"
        "    [bytes(400) for _ in range(memory.OBJECTS // 2 // 512)]\n"
        "    [b'x' * 50_000 for _ in range(memory.BUFFERS // 2 // 50_000)]\n"
        "    before = faults()\n"
        "print(faults() - before)\n"
    )
    assert run(program) < 50


LOCK = (
    "import cryptography.hazmat.bindings._rust\n"
    "lack = memory.lock()\n"
    "limits = resource.getrlimit(resource.RLIMIT_MEMLOCK)\n"
    "late = mmap.mmap(-1, 8 << 20)\n"
    "untouched = memory.locked_bytes()\n"
    "late.write(b'x' * (4 << 20))\n"
    "touched = memory.locked_bytes()\n"
    "print(json.dumps([lack, limits, untouched, touched, mappings()]))\n"
)


@pytest.mark.root
def test_what_is_there_and_what_will_be_is_locked() -> None:
    lack, _, untouched, touched, mapped = run(LOCK)
    assert lack == ""
    assert untouched > 4 << 20
    # What is mapped later is locked as it is touched, and not before.
    assert 3 << 20 < touched - untouched < 6 << 20
    code = {name: one for name, one in mapped.items() if "python" in name or "_rust" in name}
    assert any("_rust" in name for name in code)
    for name, one in code.items():
        if name.endswith(".so") or ".so." in name:
            assert one["Rss"] == one["Size"], name


POWERLESS = (
    "from asys.node.platform import confine\n"
    "hard = int(sys.argv[1])\n"
    "resource.setrlimit(resource.RLIMIT_MEMLOCK, (min(hard, 1 << 16) if hard > 0 else 0, hard))\n"
    "confine.drop_capabilities()\n"
)


@pytest.mark.root
@pytest.mark.parametrize("hard", [0, 1 << 16])
def test_with_neither_the_capability_nor_no_limit_nothing_is_locked(hard: int) -> None:
    lack, limits, untouched, touched, _ = run(POWERLESS + LOCK, str(hard))
    assert lack.startswith(f"asyd has no CAP_IPC_LOCK, and RLIMIT_MEMLOCK is {hard} bytes; in a ")
    assert limits == [min(hard, 1 << 16), hard]
    assert (untouched, touched) == (0, 0)


class Libc:
    """A C library on a kernel that says `code` to whoever locks; 0: it is done."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.flags = 0
        self.unlocked = 0

    def mlock(self, *_: object) -> int:
        ctypes.set_errno(self.code)
        return -1 if self.code else 0

    def mlockall(self, flags: int) -> int:
        self.flags = flags
        return self.mlock()

    def munlockall(self) -> int:
        self.unlocked += 1
        return 0


class Limits:
    """The limit on locked memory of a process."""

    RLIM_INFINITY = resource.RLIM_INFINITY
    RLIMIT_MEMLOCK = resource.RLIMIT_MEMLOCK

    def __init__(self, soft: int, hard: int) -> None:
        self.limits = (soft, hard)
        self.set: list[tuple[int, int]] = []

    def getrlimit(self, _number: int) -> tuple[int, int]:
        return self.limits

    def setrlimit(self, _number: int, limits: tuple[int, int]) -> None:
        self.set.append(limits)


@pytest.mark.parametrize(
    ("limits", "asked_with"),
    [
        ((1 << 16, resource.RLIM_INFINITY), (resource.RLIM_INFINITY, resource.RLIM_INFINITY)),
        # A limit that is far away would be there one day: it takes the capability then.
        ((1 << 16, 1 << 40), (0, 1 << 40)),
    ],
)
def test_what_the_kernel_is_asked_with(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], asked_with: tuple[int, int]
) -> None:
    libc, made = Libc(), Limits(*limits)
    monkeypatch.setattr(memory, "_libc", libc)
    monkeypatch.setattr(memory, "resource", made)
    assert memory.lock() == ""
    assert made.set == [asked_with, limits]
    assert (libc.flags, libc.unlocked) == (7, 0)


def test_what_else_a_kernel_says(monkeypatch: pytest.MonkeyPatch) -> None:
    libc = Libc(errno.EINVAL)
    monkeypatch.setattr(memory, "_libc", libc)
    monkeypatch.setattr(memory, "resource", Limits(0, 0))
    assert memory.lock() == f"mlockall: {os.strerror(errno.EINVAL)}"
    assert libc.unlocked == 1
    memory.settle_allocator()  # there is no mallopt, and nothing happens


def test_how_much_is_locked_where_that_cannot_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "PROC", str(tmp_path))
    assert memory.locked_bytes() == 0
    (tmp_path / "self").mkdir()
    rollup = tmp_path / "self" / "smaps_rollup"
    for written, expected in (("Rss: 7 kB\n", 0), ("Locked:\n", 0), ("Locked: 7 kB\n", 7 << 10)):
        rollup.write_text(written)
        assert memory.locked_bytes() == expected


def test_what_platforms_say() -> None:
    portable = choose_platform(portable=True)
    assert portable.lock_memory() == "memory is locked on Linux only"
    assert "nothing is known here" in portable.spare_me()
    assert portable.locked_bytes() == 0


def test_another_system_has_no_allocator_to_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    def settle() -> None:
        raise AssertionError("settled")

    monkeypatch.setattr(memory, "settle_allocator", settle)
    monkeypatch.setattr(sys, "platform", "darwin")
    settle_allocator()
