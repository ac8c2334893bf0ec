"""A program that gives away all that it has, and then executes another.

cage.py FD SPEC

SPEC is JSON, see Cage; FD is the one descriptor that the other program gets. It is started by asyd
as root, waits for the other, and ends as that did: with its status, or with 128 + the signal. It
starts as a file and finds this very version of `asys`.

In the cage: a PID namespace, so that nothing outside can be signalled or traced and all ends with
its first process; a network namespace with nothing in it; a read-only file system, where what is
secret is not there, and /tmp, /var/tmp and /dev/shm are its own; another uid, no capabilities, and
no way to get any.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import stat
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

if __name__ == "__main__" and not __spec__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from asys.node.platform import confine, oom
from asys.node.platform.priority import lower_priority

SCRATCH: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  they become the cage's own
HOMES: Final = ("/root", "/home", "/run/user")
"""Where people keep what is theirs: empty in the cage."""

SCRATCH_BYTES: Final = 16 << 20
"""What each of SCRATCH takes; it is memory."""

MAPPED_BYTES: Final = 256 << 20
"""Address space beyond the memory, for code and for what is mapped and never written."""

FILES: Final = 256
CPU_SECONDS: Final = 600
"""CPU time after which the kernel ends the program: somebody has forgotten a thread in it."""

FAILED: Final = 99
"""Exit status where the cage could not be closed; the other program was not executed."""

ENVIRONMENT: Final = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/tmp",  # noqa: S108  its own
    "MALLOC_ARENA_MAX": "1",  # an arena for each thread would be address space for nothing
    "PYTHONDONTWRITEBYTECODE": "1",
}


@dataclass(frozen=True, slots=True)
class Cage:
    """Who is in it, and what of the machine.

    `memory` in bytes bounds what the program writes to; `processes` how many it may be, threads
    counted, together with all else that has its uid. `needs` are directories that it must be able
    to read wherever they lie, `secrets` those that are not there for it.
    """

    command: tuple[str, ...]
    uid: int
    gid: int
    groups: tuple[int, ...]
    network: bool
    memory: int
    processes: int
    needs: tuple[str, ...]
    secrets: tuple[str, ...]
    environment: tuple[str, ...] = ()
    """NAME=VALUE, beside ENVIRONMENT."""

    def to_json(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, written: str) -> Cage:
        """What to_json wrote."""
        values = json.loads(written)
        kept: dict[str, Any] = {k: tuple(v) if type(v) is list else v for k, v in values.items()}
        return cls(**kept)


def limits(cage: Cage) -> dict[int, int]:
    """Resource limits of the program, by RLIMIT_ number."""
    return {
        resource.RLIMIT_DATA: cage.memory,
        resource.RLIMIT_AS: cage.memory + MAPPED_BYTES,
        resource.RLIMIT_NPROC: cage.processes,
        resource.RLIMIT_NOFILE: FILES,
        resource.RLIMIT_FSIZE: SCRATCH_BYTES,
        resource.RLIMIT_CPU: CPU_SECONDS,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }


def hidden(needs: tuple[str, ...]) -> list[str]:
    """The directories that become empty ones: SCRATCH, HOMES, and what would keep the program from
    a directory that it needs. None of them is within another.
    """
    found = {one for one in (*SCRATCH, *HOMES) if os.path.isdir(one)}
    for need in needs:
        for parent in reversed(Path(need).parents):
            if not stat.S_IMODE(parent.stat().st_mode) & stat.S_IXOTH:
                found.add(str(parent))
                break
    return sorted(one for one in found if not any(_within(one, other) for other in found))


def _within(path: str, other: str) -> bool:
    return path != other and Path(path).is_relative_to(other)


def furnish(cage: Cage) -> None:
    """The mounts of the cage, in a mount namespace of its own; all but /proc."""
    confine.mount("none", "/", "", confine.MS_REC | confine.MS_PRIVATE)
    empty = hidden(cage.needs)
    kept = {
        need: os.open(need, os.O_PATH | os.O_CLOEXEC)
        for need in dict.fromkeys(cage.needs)
        if any(Path(need).is_relative_to(one) for one in empty)
    }
    confine.make_read_only("/")
    for path in cage.secrets:
        if os.path.isdir(path):
            confine.mount("tmpfs", path, "tmpfs", confine.MS_RDONLY, "mode=0,size=4k,nr_inodes=1")
    for path in empty:
        mode = "1777" if path in SCRATCH else "0755"
        options = f"mode={mode},size={SCRATCH_BYTES},nr_inodes=1024"
        confine.mount("tmpfs", path, "tmpfs", confine.MS_NOSUID | confine.MS_NODEV, options)
    for need, fd in sorted(kept.items()):
        os.makedirs(need, mode=0o755, exist_ok=True)
        confine.mount(f"/proc/self/fd/{fd}", need, "", confine.MS_BIND | confine.MS_REC)
        os.close(fd)


def enter(cage: Cage, fd: int, parent: int) -> None:
    """In the first process of the PID namespace: gives the rest away and executes the program."""
    confine.die_with_parent(parent)
    flags = confine.MS_NOSUID | confine.MS_NODEV | confine.MS_NOEXEC | confine.MS_RDONLY
    confine.mount("proc", "/proc", "proc", flags)
    os.chdir("/")
    os.umask(0o077)
    os.dup2(fd, 3)
    os.set_inheritable(3, True)
    os.closerange(4, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    for number, limit in limits(cage).items():
        resource.setrlimit(number, (limit, limit))
    confine.drop_bounding_set()
    confine.become(cage.uid, cage.gid, list(cage.groups))
    confine.drop_capabilities()
    confine.die_with_parent(parent)
    environment = ENVIRONMENT | dict(one.split("=", 1) for one in cage.environment)
    os.execve(cage.command[0], cage.command, environment)  # noqa: S606  nothing expands it


def main(arguments: list[str]) -> int:
    """Closes the cage, waits for the program, and ends as it ended."""
    fd, cage = int(arguments[0]), Cage.from_json(arguments[1])
    lower_priority()
    confine.die_with_parent(int(arguments[2]))
    oom.be_expendable()
    flags = confine.CLONE_NEWNS | confine.CLONE_NEWPID | confine.CLONE_NEWIPC
    confine.unshare(flags if cage.network else flags | confine.CLONE_NEWNET)
    furnish(cage)
    pid = os.fork()
    if not pid:
        try:
            enter(cage, fd, 0)  # who is outside of its namespace has no PID in it
        except BaseException as error:
            _say_failed(3, error)
        os._exit(FAILED)
    os.close(fd)
    _, status = os.waitpid(pid, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _say_failed(fd: int, error: BaseException) -> None:
    """What the program would say that cannot serve: FAILED of asys.vendor.wire."""
    text = f"the cage cannot be closed: {error}".encode()[:1000]
    with contextlib.suppress(OSError):
        os.write(fd, (1 + len(text)).to_bytes(4, "big") + b"\x83" + text)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except OSError as error:
        _say_failed(int(sys.argv[1]), error)
        sys.exit(FAILED)
