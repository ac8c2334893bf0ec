"""System calls that take things away from the process that makes them, for good.

Linux only, by ctypes, as Python has no names for them. Every function raises OSError.
"""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path
from struct import pack
from typing import Final

CLONE_NEWNS: Final = 0x0002_0000
CLONE_NEWIPC: Final = 0x0800_0000
CLONE_NEWPID: Final = 0x2000_0000
CLONE_NEWNET: Final = 0x4000_0000

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REMOUNT: Final = 32
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18

LAST_CAPABILITY: Final = Path("/proc/sys/kernel/cap_last_cap")

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x2008_0522
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_SYS_MOUNT_SETATTR: Final = 442
"""The same number on all architectures, as of every system call since Linux 5.1."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _prctl(option: int, first: int = 0, second: int = 0) -> None:
    arguments = (ctypes.c_ulong(one) for one in (first, second, 0, 0))
    _check(_libc.prctl(option, *arguments), f"prctl {option}")


def unshare(flags: int) -> None:
    """New namespaces for this process; a new PID namespace is for its children alone."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """mount(2)."""
    words = [os.fsencode(one) for one in (source, target, kind)]
    _check(
        _libc.mount(*words, ctypes.c_ulong(flags), os.fsencode(options)),
        f"mount {kind or source} at {target}",
    )


def make_read_only(path: str) -> None:
    """Every mount at and below `path` becomes read-only, and set-user-ID bits mean nothing there.

    Needs Linux 5.12.
    """
    attributes = pack("=4Q", MS_RDONLY | MS_NOSUID, 0, 0, 0)
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        os.fsencode(path),
        ctypes.c_uint(_AT_RECURSIVE),
        attributes,
        ctypes.c_size_t(len(attributes)),
    )
    _check(result, f"mount_setattr {path}")


def die_with_parent(parent: int) -> None:
    """The kernel kills this process when its parent ends. Raises where that has happened already.

    A change of uid undoes it.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ProcessLookupError(f"the parent {parent} has ended")


def drop_bounding_set() -> None:
    """No capability can be had by executing anything. Needs CAP_SETPCAP."""
    for capability in range(int(LAST_CAPABILITY.read_text()) + 1):
        _prctl(_PR_CAPBSET_DROP, capability)


def drop_capabilities() -> None:
    """No capability in any set, and none to be had by executing what has them or a set-user-ID."""
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header, none = pack("=Ii", _CAPABILITY_VERSION_3, 0), pack("=6I", 0, 0, 0, 0, 0, 0)
    _check(_libc.capset(header, none), "capset")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def become(uid: int, gid: int, groups: list[int]) -> None:
    """Another user, with no way back."""
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def not_dumpable() -> None:
    """Nobody of the same user reads this process's memory until it executes something."""
    _prctl(_PR_SET_DUMPABLE, 0)
