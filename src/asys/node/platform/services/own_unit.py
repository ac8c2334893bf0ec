"""Which cgroup and which systemd units asyd itself lives in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

SELF: Final = Path("/proc/self/cgroup")
"""The kernel's list of a process's cgroups, one line a hierarchy: `id:controllers:path`."""


def own_cgroup(cgroups: Path = SELF) -> str | None:
    """The path of the cgroup that was made for asyd, or None when it only happens to be in one.

    A daemon started by hand shares the cgroup of a login or of a whole container, and that does not
    make everything in there part of it. It has a cgroup of its own when systemd started it as a
    service's process: the cgroup is named after a service, and systemd says so in the environment
    (SYSTEMD_EXEC_PID; before systemd 248 only INVOCATION_ID, which descendants inherit, so the
    parent has to be systemd).
    """
    path = _cgroup(cgroups)
    if not path.endswith(".service"):
        return None
    main_pid = os.environ.get("SYSTEMD_EXEC_PID")
    if main_pid is None:
        started = "INVOCATION_ID" in os.environ and os.getppid() == 1
    else:
        started = main_pid == str(os.getpid())
    return path if started else None


def own_units(cgroups: Path = SELF) -> frozenset[str]:
    """Every service unit whose restart ends asyd, however it was started inside of it.

    More than one where a user's service manager runs asyd: `user@1000.service` and its own.
    """
    return frozenset(part for part in _cgroup(cgroups).split("/") if part.endswith(".service"))


def _cgroup(cgroups: Path) -> str:
    """The cgroup path in the hierarchy that systemd keeps, '' where there is none."""
    try:
        lines = cgroups.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return ""
    paths: dict[str, str] = {}
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        paths[controllers] = path
    # Version 2 first; where it is there but unused, systemd's own hierarchy of version 1.
    return next((p for p in (paths.get(""), paths.get("name=systemd")) if p and p != "/"), "")
