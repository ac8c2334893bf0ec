"""A cgroup of a test's own, in each hierarchy that is mounted here; gone with all in it at the end.

What a test has to leave where it is, asyd may put children into: these are gone then, too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Final

from asys.node.platform.processes import cgroups
from asys.node.platform.processes.cgroups import Hierarchy

PATIENCE: Final = 30.0
_numbers: Final = count()


def unified() -> Hierarchy:
    """The one of version 2."""
    found = cgroups.mounted().unified
    assert found is not None
    return found


def version1(controller: str = "cpu") -> Hierarchy:
    """One of version 1."""
    return cgroups.mounted().version1[controller]


@contextmanager
def cgroup(hierarchy: Hierarchy, name: str = "") -> Iterator[str]:
    """A cgroup below the one that this process is in; its directory."""
    name = name or f"asys-test-{os.getpid()}-{next(_numbers)}"
    directory = f"{hierarchy.of(os.getpid())}/{name}"
    os.mkdir(directory)
    try:
        yield directory
    finally:
        remove(directory)


@contextmanager
def cgroups_of_both(name: str = "") -> Iterator[tuple[str, str]]:
    """One of version 2, and one where version 1 has its cpu controller."""
    with ExitStack() as stack:
        yield (
            stack.enter_context(cgroup(unified(), name)),
            stack.enter_context(cgroup(version1(), name)),
        )


def remove(directory: str) -> None:
    """Ends all that is in a cgroup and below, and removes that."""
    end = time.monotonic() + PATIENCE
    while True:
        for where, _, _ in os.walk(directory, topdown=False):
            with contextlib.suppress(OSError):
                cgroups.write(where, cgroups.FREEZE, 0)
            with contextlib.suppress(OSError):
                for pid in cgroups.members(where):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.rmdir(where)
        if not os.path.exists(directory):
            return
        assert time.monotonic() < end, f"{directory} does not go away"
        time.sleep(0.01)  # what has been killed goes when the kernel gets to it
