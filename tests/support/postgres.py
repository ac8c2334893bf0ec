"""A PostgreSQL server of a test's own, on a Unix socket in a directory of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg

USER: Final = "postgres"


def programs() -> Path | None:
    """Where the newest server's programs are installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


class Server:
    """A running server; `conninfo` logs in as its superuser."""

    def __init__(self, directory: Path, bin_: Path) -> None:
        self.directory: Final = directory
        self._bin = bin_
        self.conninfo: Final = f"host={directory} user={USER} dbname=postgres"

    def connect(self, **options: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection of its own."""
        return psycopg.connect(self.conninfo, **options)

    def control(self, *words: str) -> None:
        """pg_ctl, which waits until it is done."""
        _as_user([self._bin / "pg_ctl", "-D", self.directory / "data", "-w", "-s", *words])


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """A server while the block lasts. It runs as `postgres`, for as root it will not."""
    found = programs()
    if found is None:
        raise RuntimeError("no PostgreSQL server is installed; on Debian: apt install postgresql")
    # Short, as a socket goes in there; as root not in /tmp, which workers do not see.
    directory = Path(tempfile.mkdtemp(prefix="asys-pg-", dir="/run" if os.geteuid() == 0 else None))
    try:
        if os.geteuid() == 0:
            account = pwd.getpwnam(USER)
            os.chown(directory, account.pw_uid, account.pw_gid)
        data = directory / "data"
        _as_user([found / "initdb", "-D", data, "-U", USER, "-A", "trust", "--no-sync", "-N"])
        (directory / "data" / "postgresql.auto.conf").write_text(
            f"listen_addresses = ''\nunix_socket_directories = '{directory}'\nfsync = off\n"
            "max_connections = 20\nshared_buffers = 8MB\nautovacuum = off\n"
        )
        made = Server(directory, found)
        made.control("-l", str(directory / "log"), "start")
        try:
            yield made
        finally:
            made.control("-m", "immediate", "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _as_user(command: list[Any]) -> None:
    words = [str(one) for one in command]
    if os.geteuid() == 0:
        words = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *words]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise RuntimeError(f"{words}: {done.stdout}{done.stderr}")
