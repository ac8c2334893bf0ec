"""Who used how much CPU: a cgroup (version 2) for each server, and one for the client.

A cgroup counts every process that was ever in it, also those that lived for a millisecond, which is
what a shell on the other side consists of.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from asys.node.platform.processes import cgroups
from benchmarks.plan import BenchmarkError

_INTO: Final = 'echo $$ > "$0" && exec "$@"'
PATIENCE: Final = 10.0


class Account:
    """One cgroup."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    @property
    def launcher(self) -> Sequence[str]:
        """A command that executes what stands behind it in here."""
        return ("sh", "-c", _INTO, f"{self._directory}/cgroup.procs")

    def seconds(self) -> float:
        """CPU time of all that has run in here so far."""
        for line in cgroups.read(self._directory, "cpu.stat").splitlines():
            name, _, value = line.partition(" ")
            if name == "usage_usec":
                return int(value) / 1e6
        raise BenchmarkError("this kernel counts no CPU time in cgroups")


class Accounts:
    """All of a run. This process is in that of the client, and goes home at the end."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.client: Final = self.open("client")

    def open(self, name: str) -> Account:
        """A new one."""
        directory = f"{self._directory}/{name}"
        os.mkdir(directory)
        return Account(directory)


def unavailable() -> str:
    """Why CPU time cannot be counted here, or ''."""
    try:
        with _made():
            return ""
    except OSError as error:
        return (
            f"CPU is not counted: no cgroup of version 2 can be made here ({error.strerror}); run "
            "this as root, or with: systemd-run --user --scope -p Delegate=yes"
        )


@contextlib.contextmanager
def accounts() -> Iterator[Accounts]:
    """Cgroups below the one that this process is in; gone at the end, with all that is in them.

    OSError: there can be none, see `unavailable`.
    """
    with _made() as (home, directory):
        kept = Accounts(directory)
        cgroups.move(f"{directory}/client", os.getpid())
        try:
            yield kept
        finally:
            cgroups.move(home, os.getpid())


@contextlib.contextmanager
def _made() -> Iterator[tuple[str, str]]:
    """A cgroup of this run, and the one that it is in."""
    unified = cgroups.mounted().unified
    if unified is None:
        raise OSError(0, "none is mounted")
    home = unified.of(os.getpid())
    directory = f"{home}/asys-bench-{os.getpid()}-{time.monotonic_ns()}"
    os.mkdir(directory)
    try:
        # Whether processes may be moved is another matter than whether a directory can be made.
        if not os.access(f"{home}/cgroup.procs", os.W_OK):
            raise PermissionError(1, "processes may not be moved")
        yield home, directory
    finally:
        _remove(Path(directory))


def _remove(directory: Path) -> None:
    """Ends what is left in a cgroup and those in it, all of this run, and removes them."""
    end = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError):
            cgroups.write(str(directory), "cgroup.kill", 1)
        for one in [*directory.iterdir(), directory]:
            if one.is_dir():
                with contextlib.suppress(OSError):
                    one.rmdir()
        if not directory.exists():
            return
        if time.monotonic() > end:
            raise BenchmarkError(f"{directory} does not go away")
        time.sleep(0.01)
