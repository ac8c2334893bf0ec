"""What a machine is, against what its own tools say."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from asys.isa import Architecture, FileSystem
from asys.node.platform import machine


def _output(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.18.44-fc-v657", (6, 18, 44)),
        ("6.1.0-18-amd64", (6, 1, 0)),
        ("5.15-rc1", (5, 15, 0)),
        ("14.0-RELEASE", (14, 0, 0)),
        ("23", (23, 0, 0)),
        ("custom", (0, 0, 0)),
        ("", (0, 0, 0)),
    ],
)
def test_kernel_version(release: str, version: tuple[int, int, int]) -> None:
    assert machine.kernel_version(release) == version


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("x86_64", Architecture.X86_64),
        ("AMD64", Architecture.X86_64),
        ("aarch64", Architecture.AARCH64),
        ("arm64", Architecture.AARCH64),
        ("riscv64", Architecture.RISCV64),
        ("i686", Architecture.UNKNOWN),
        ("s390x", Architecture.UNKNOWN),
    ],
)
def test_architecture(name: str, architecture: Architecture) -> None:
    assert machine.architecture(name) == architecture


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("ext2", 1),
        ("ext3", 1),
        ("ext4", 1),
        ("xfs", 2),
        ("btrfs", 3),
        ("tmpfs", 4),
        ("nfs", 5),
        ("nfs4", 5),
        ("overlay", 6),
        ("zfs", 7),
        ("f2fs", 8),
        ("apfs", 0xFFFF),
        ("", 0xFFFF),
    ],
)
def test_file_system(kind: str, code: int) -> None:
    assert machine.file_system(kind) == FileSystem(code)


def test_root_is_as_the_system_says() -> None:
    blocks, size = map(int, _output("stat", "-f", "-c", "%b %S", "/").split())
    assert machine.root_size_mb() == blocks * size // (1 << 20)
    before, used, after = (_root_used(), machine.root_used_percent(), _root_used())
    assert min(before, after) <= used <= max(before, after)


def _root_used() -> int:
    blocks, free = map(int, _output("stat", "-f", "-c", "%b %f", "/").split())
    return (blocks - free) * 100 // blocks


def test_cpus_are_as_the_system_says() -> None:
    assert machine.cpus_online() == int(_output("getconf", "_NPROCESSORS_ONLN"))


@pytest.mark.parametrize(
    ("text", "uid"),
    [
        ("3d1219c7c4c5404aaa1f6d2a48adfda4\n", 0x3D1219C7),
        ("FFFFFFFFc4c5404aaa1f6d2a48adfda4\n", 0xFFFFFFFF),
        ("uninitialized\n", 0),
        ("3d1219\n", 0),
        ("", 0),
        ("\N{SNOWMAN}", 0),
    ],
)
def test_node_uid(tmp_path: Path, text: str, uid: int) -> None:
    file = tmp_path / "machine-id"
    file.write_text(text, encoding="utf-8")
    assert machine.node_uid(str(file)) == uid


def test_node_uid_without_a_machine_id(tmp_path: Path) -> None:
    assert machine.node_uid(str(tmp_path / "none")) == 0


@pytest.mark.parametrize(
    ("load", "cpus", "percent"), [(0.0, 4, 0), (1.0, 4, 25), (1.999, 2, 99), (64.0, 2, 100)]
)
def test_simulated_pressure(load: float, cpus: int, percent: int) -> None:
    assert machine.simulated_pressure(load, cpus) == percent


def test_boot_id_is_as_the_system_says() -> None:
    assert machine.boot_id() == Path(machine.BOOT_ID).read_text().strip()
    assert len(machine.boot_id()) == 36


def test_a_system_without_a_boot_id(tmp_path: Path) -> None:
    path = tmp_path / "boot_id"
    assert machine.boot_id(str(path)) == ""
    path.write_bytes(b"\xff")
    assert machine.boot_id(str(path)) == ""
