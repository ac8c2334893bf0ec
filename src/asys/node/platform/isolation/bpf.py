"""bpf(2) as far as asyd needs it: maps, programs, links on cgroups, pins that outlast a process.

Straight system calls, without a library or a command. Everything raises OSError as the kernel gives
it. Every descriptor that is returned is the caller's to close, and closed on exec.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from enum import IntEnum
from typing import Any, Final

from asys.node.platform.processes.cgroups import mount_points

_SYSCALLS: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
"""The number of bpf(2), by what uname calls the machine."""

_ATTR_SIZE: Final = 128
_NAME_SIZE: Final = 15
_LOG_SIZE: Final = 1 << 16
_LOG_SHOWN: Final = 2000
"""Characters of the verifier's log in an error, from its end."""

HASH: Final = 1
"""BPF_MAP_TYPE_HASH."""

_NO_PREALLOC: Final = 1

MOUNTED: Final = "/sys/fs/bpf"
"""Where a system mounts the file system of pins, if it does."""


class Command(IntEnum):
    """Commands of bpf(2)."""

    MAP_CREATE = 0
    MAP_LOOKUP = 1
    MAP_UPDATE = 2
    MAP_DELETE = 3
    MAP_NEXT_KEY = 4
    PROG_LOAD = 5
    OBJ_PIN = 6
    OBJ_GET = 7
    LINK_CREATE = 28
    LINK_UPDATE = 29
    LINK_DETACH = 34


class ProgramType(IntEnum):
    """BPF_PROG_TYPE_*."""

    CGROUP_SKB = 8
    CGROUP_SOCK = 9
    CGROUP_SOCK_ADDR = 18


class AttachType(IntEnum):
    """Where in a cgroup a program is run: BPF_CGROUP_*."""

    INGRESS = 0
    EGRESS = 1
    SOCK_CREATE = 2
    CONNECT4 = 10
    CONNECT6 = 11
    SENDMSG4 = 14
    SENDMSG6 = 15

    @property
    def program_type(self) -> ProgramType:
        """The type of the programs that run there."""
        if self <= AttachType.EGRESS:
            return ProgramType.CGROUP_SKB
        if self is AttachType.SOCK_CREATE:
            return ProgramType.CGROUP_SOCK
        return ProgramType.CGROUP_SOCK_ADDR


_libc: Final = ctypes.CDLL(None, use_errno=True)
_number: Final = _SYSCALLS.get(platform.machine())


def lack() -> str:
    """Why bpf(2) cannot be used on this kind of machine, or ''."""
    if _number is None:
        return f"its number is not known for {platform.machine()}"
    return "" if sys.byteorder == "little" else "the programs are for little-endian machines"


def _call(command: Command, layout: str, *values: Any) -> int:
    if _number is None:
        raise OSError(errno.ENOSYS, "bpf: not on this machine")
    attr = ctypes.create_string_buffer(struct.pack(layout, *values), _ATTR_SIZE)
    result = _libc.syscall(
        ctypes.c_long(_number), ctypes.c_long(command), attr, ctypes.c_long(_ATTR_SIZE)
    )
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"bpf {command.name}: {os.strerror(number)}")
    return int(result)


def _name(name: str) -> bytes:
    return name.encode("ascii")[:_NAME_SIZE]


# -- maps


def create_hash(name: str, *, key_size: int, value_size: int, entries: int) -> int:
    """A descriptor of a new hash map of at most that many entries."""
    sizes = (key_size, value_size, entries)
    return _call(Command.MAP_CREATE, "<IIIIIII16s", HASH, *sizes, _NO_PREALLOC, 0, 0, _name(name))


def update(table: int, key: bytes, value: bytes) -> None:
    """Sets an entry. `key` and `value` have the map's sizes."""
    at = ctypes.create_string_buffer(key, len(key))
    what = ctypes.create_string_buffer(value, len(value))
    _call(Command.MAP_UPDATE, "<IIQQQ", table, 0, _address(at), _address(what), 0)


def delete(table: int, key: bytes) -> bool:
    """Takes an entry out; False: it was not there."""
    at = ctypes.create_string_buffer(key, len(key))
    try:
        _call(Command.MAP_DELETE, "<IIQQQ", table, 0, _address(at), 0, 0)
    except FileNotFoundError:
        return False
    return True


def keys(table: int, key_size: int) -> Iterator[bytes]:
    """The keys of a map that nobody changes meanwhile."""
    following = ctypes.create_string_buffer(key_size)
    at = 0
    while True:
        try:
            _call(Command.MAP_NEXT_KEY, "<IIQQQ", table, 0, at, _address(following), 0)
        except FileNotFoundError:
            return
        yield following.raw
        before = ctypes.create_string_buffer(following.raw, key_size)
        at = _address(before)


def _address(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)


# -- programs and links


def load(name: str, where: AttachType, code: bytes) -> int:
    """A descriptor of a program. When the verifier refuses it, the error has the end of its log."""
    try:
        return _load(name, where, code, None)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EACCES):
            raise
        log = ctypes.create_string_buffer(_LOG_SIZE)
        with suppress(OSError):
            os.close(_load(name, where, code, log))
        said = log.value.decode("utf-8", "replace").strip()[-_LOG_SHOWN:]
        raise OSError(
            error.errno, f"{error.strerror}; the verifier: {said or 'nothing'}"
        ) from error


def _load(
    name: str, where: AttachType, code: bytes, log: ctypes.Array[ctypes.c_char] | None
) -> int:
    instructions = ctypes.create_string_buffer(code, len(code))
    license_ = ctypes.create_string_buffer(b"GPL")
    logged = (1, _LOG_SIZE, _address(log)) if log is not None else (0, 0, 0)
    return _call(
        Command.PROG_LOAD,
        "<IIQQIIQII16sII",
        where.program_type,
        len(code) // 8,
        _address(instructions),
        _address(license_),
        *logged,
        0,
        0,
        _name(name),
        0,
        where,
    )


def attach(program: int, cgroup: str, where: AttachType) -> int:
    """A descriptor of a link: the program runs there for as long as the link is open or pinned.

    Beside what else is attached, and for all cgroups below.
    """
    directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _call(Command.LINK_CREATE, "<IIII", program, directory, where, 0)
    finally:
        os.close(directory)


def replace(link: int, program: int) -> None:
    """Puts another program in the place of the one of a link, in one step.

    OSError with ENOLINK: its cgroup has gone.
    """
    _call(Command.LINK_UPDATE, "<IIII", link, program, 0, 0)


def detach(link: int) -> None:
    """Ends what a link does, at once: when its last name goes, the kernel gets to that some time
    later. Nothing where the kernel cannot (before Linux 5.9).
    """
    try:
        _call(Command.LINK_DETACH, "<I", link)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise


def knows_links(program: int) -> bool:
    """Whether this kernel has links for cgroups, asked without making one."""
    try:
        os.close(_call(Command.LINK_CREATE, "<IIII", program, 0xFFFFFFFF, AttachType.EGRESS, 0))
    except OSError as error:
        return error.errno == errno.EBADF
    return True


# -- pins


def pin(descriptor: int, path: str) -> None:
    """Gives a map or a link a name in the file system of pins: it lives for as long as that."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    _call(Command.OBJ_PIN, "<QII", _address(name), descriptor, 0)


def get(path: str) -> int:
    """A descriptor of what is pinned there."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    return _call(Command.OBJ_GET, "<QII", _address(name), 0, 0)


def is_mounted(path: str) -> bool:
    """Whether the file system of pins is mounted there."""
    return path in mount_points("bpf")


_MOUNT_FLAGS: Final = 2 | 4 | 8
"""MS_NOSUID, MS_NODEV, MS_NOEXEC."""


def mount(path: str) -> None:
    """Mounts a file system of pins, for root alone."""
    target = os.fsencode(path)
    if _libc.mount(b"bpf", target, b"bpf", ctypes.c_ulong(_MOUNT_FLAGS), b"mode=0700"):
        number = ctypes.get_errno()
        raise OSError(number, f"mounting bpf at {path}: {os.strerror(number)}")


def unmount(path: str) -> None:
    """Takes it away again; EBUSY while somebody uses it."""
    if _libc.umount2(os.fsencode(path), 0):
        number = ctypes.get_errno()
        raise OSError(number, f"unmounting {path}: {os.strerror(number)}")
