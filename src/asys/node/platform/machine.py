"""What SYS_CAPS and SYS_HELLO say of any POSIX machine (docs/protocol.md, section 6)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from asys.isa import Architecture, FileSystem

MB: Final = 1 << 20
"""Bytes in what the protocol calls an MB."""

MACHINE_ID: Final = "/etc/machine-id"
BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"

_ARCHITECTURES: Final = {
    "x86_64": Architecture.X86_64,
    "amd64": Architecture.X86_64,
    "aarch64": Architecture.AARCH64,
    "arm64": Architecture.AARCH64,
    "riscv64": Architecture.RISCV64,
}

_FILE_SYSTEMS: Final = {
    "ext2": FileSystem.EXT,
    "ext3": FileSystem.EXT,
    "ext4": FileSystem.EXT,
    "xfs": FileSystem.XFS,
    "btrfs": FileSystem.BTRFS,
    "tmpfs": FileSystem.TMPFS,
    "nfs": FileSystem.NFS,
    "nfs4": FileSystem.NFS,
    "overlay": FileSystem.OVERLAY,
    "zfs": FileSystem.ZFS,
    "f2fs": FileSystem.F2FS,
}


def kernel_version(release: str) -> tuple[int, int, int]:
    """Major, minor and patch of `uname -r`; 0 for what is not there."""
    found = re.match(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", release)
    if found is None:
        return 0, 0, 0
    major, minor, patch = found.groups("0")
    return int(major), int(minor), int(patch)


def architecture(machine: str) -> Architecture:
    """The architecture that `uname -m` names, in any case."""
    return _ARCHITECTURES.get(machine.lower(), Architecture.UNKNOWN)


def file_system(kind: str) -> FileSystem:
    """The file system that a mount table names."""
    return _FILE_SYSTEMS.get(kind, FileSystem.UNKNOWN)


def boot_id(path: str = BOOT_ID) -> str:
    """What tells this boot of the machine from others; '' where the system does not say."""
    try:
        return Path(path).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def cpus_online() -> int:
    """CPUs that are online now."""
    return max(os.sysconf("SC_NPROCESSORS_ONLN"), 1)


def root_size_mb() -> int:
    """Size of the root file system."""
    root = os.statvfs("/")
    return root.f_blocks * root.f_frsize // MB


def root_used_percent() -> int:
    """Blocks of the root file system that are not free, rounded down."""
    root = os.statvfs("/")
    return (root.f_blocks - root.f_bfree) * 100 // root.f_blocks if root.f_blocks else 0


def node_uid(path: str = MACHINE_ID) -> int:
    """First 8 hex digits of the machine id, or 0 where there is none."""
    try:
        text = Path(path).read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return 0
    found = re.match("[0-9a-f]{8}", text, re.IGNORECASE)
    return int(found[0], 16) if found else 0


def simulated_pressure(load1: float, cpus: int) -> int:
    """The resource pressure index where the kernel has none: load per CPU, at most 100."""
    return min(int(load1 * 100 / cpus), 100)
