"""Where a node keeps its state, and where its admin asks it: both follow from the config directory,
so that commands find a running asyd by --config-dir alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SYSTEM_CONFIG_DIR: Final = Path("/etc/asyd")
SYSTEM_STATE_DIR: Final = Path("/var/lib/asyd")
SYSTEM_ADMIN_SOCKET: Final = Path("/run/asyd/admin.sock")

SOCKET_PATH_SIZE: Final = 103
"""Bytes of a path that every system takes in the address of a Unix socket."""


@dataclass(frozen=True, slots=True)
class Places:
    """What lies outside the config directory, or may."""

    state_dir: Path
    admin_socket: Path


def places(
    config_dir: Path, *, state_dir: Path | None = None, admin_socket: Path | None = None
) -> Places:
    """The places that belong to a config directory, unless others are named.

    /etc/asyd has /var/lib/asyd and /run/asyd/admin.sock; any other directory has them inside.
    """
    if config_dir.resolve() == SYSTEM_CONFIG_DIR.resolve():
        usual = Places(SYSTEM_STATE_DIR, SYSTEM_ADMIN_SOCKET)
    else:
        usual = Places(config_dir / "state", config_dir / "admin.sock")
    return Places(state_dir or usual.state_dir, admin_socket or usual.admin_socket)


@contextlib.contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """A name for `path` that fits into the address of a Unix socket while the block lasts.

    A long path goes through its opened directory, where the system has /proc. OSError when there is
    no such directory.
    """
    if len(os.fsencode(path)) <= SOCKET_PATH_SIZE:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
