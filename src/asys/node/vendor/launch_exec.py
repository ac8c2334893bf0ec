"""Workers that asyd executes itself, in a cage (node/platform/cage.py): root on Linux alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import secrets
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from asys.node.children import runner
from asys.node.platform import cage, privileges
from asys.node.platform.cage import Cage
from asys.node.vendor.enabled import CONFIG_VARIABLE, Enabled
from asys.node.vendor.launch import (
    PROCESSES,
    WORKER,
    LaunchError,
    import_path,
    needed,
)
from asys.vendor.worker import NO_MEMORY

FIRST_UID: Final = 1_879_048_192
LAST_UID: Final = 2_147_483_646
"""Uids that systemd's list of uid ranges calls unused; a worker gets any one of them."""

USER_PROCESSES: Final = 1024
"""In place of PROCESSES where the worker runs as a user of the machine: all of theirs count."""

GRACE_SECONDS: Final = 1.0
"""How long a worker that has hung up may take to end by itself."""

NEEDED_CAPABILITIES: Final = {
    "CAP_SYS_ADMIN": privileges.CAP_SYS_ADMIN,
    "CAP_SETUID": 7,
    "CAP_SETGID": 6,
    "CAP_SETPCAP": 8,
}
"""What closing a cage takes."""

_KILLED: Final = 128 + signal.SIGKILL
_CAGE: Final = Path(cage.__file__)


class ExecRunning:
    """A cage that asyd has started."""

    def __init__(self, process: subprocess.Popen[bytes], ours: socket.socket) -> None:
        self.socket = ours
        self._process = process
        self._inside: tuple[int, ...] = ()
        self._pidfd = os.pidfd_open(process.pid)

    @property
    def pids(self) -> tuple[int, ...]:
        """The cage and the worker in it."""
        pid = self._process.pid
        if self._process.returncode is not None:
            return ()
        if not self._inside:
            with contextlib.suppress(OSError):
                listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
                self._inside = tuple(map(int, listed.split()))
        return (pid, *self._inside)

    async def end(self) -> bool:
        """As Running.end."""
        loop = asyncio.get_running_loop()
        gone: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._pidfd, _tell, gone)
        killed = False
        try:
            try:
                async with asyncio.timeout(GRACE_SECONDS):
                    await asyncio.shield(gone)
            except TimeoutError:
                killed = True
            finally:
                self._process.kill()  # nothing happens to one that has ended
            await gone
        finally:
            loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        status = self._process.wait()
        # Nothing in its PID namespace can kill the worker: outside, it is the kernel that does.
        return not killed and status in (_KILLED, NO_MEMORY)


class ExecLauncher:
    """Executes a cage for each worker. `secrets_in` are directories that are not there in it."""

    name = "in cages of asyd's own"

    def __init__(self, secrets_in: Sequence[Path]) -> None:
        self._path = import_path()
        self._needs = needed(self._path)
        self._secrets = tuple(str(one) for one in secrets_in)

    def refusal(self, enabled: Enabled) -> str:
        """As Launcher.refusal."""
        if enabled.cpu:
            return (
                "cpu= is kept by systemd alone; leave it out, or run asyd as a service of systemd"
            )
        try:
            if enabled.user:
                identity(enabled.user)
        except LaunchError as error:
            return str(error)
        return ""

    async def launch(self, enabled: Enabled) -> ExecRunning:
        """As Launcher.launch."""
        inside = self._cage(enabled).to_json()
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                return ExecRunning(_execute(inside, theirs.fileno()), ours)
            except OSError as error:
                ours.close()
                raise LaunchError(f"no process can be started: {error}") from error

    async def close(self) -> None:
        """As Launcher.close."""

    def _cage(self, enabled: Enabled) -> Cage:
        uid = gid = FIRST_UID + secrets.randbelow(LAST_UID - FIRST_UID)
        groups: tuple[int, ...] = ()
        if enabled.user:
            uid, gid, groups = identity(enabled.user)
        return Cage(
            command=(*runner(), str(WORKER), enabled.domain, "3", *self._path),
            uid=uid,
            gid=gid,
            groups=groups,
            network=enabled.network,
            memory=enabled.memory,
            processes=USER_PROCESSES if enabled.user else PROCESSES,
            needs=self._needs,
            secrets=self._secrets,
            environment=(f"{CONFIG_VARIABLE}={enabled.config}",) if enabled.config else (),
        )


def _execute(inside: str, fd: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  this package's own program
        [*runner(), str(_CAGE), str(fd), inside, str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(fd,),
        env=cage.ENVIRONMENT,
        cwd="/",
        start_new_session=True,
    )


def _tell(gone: asyncio.Future[None]) -> None:
    if not gone.done():
        gone.set_result(None)


def identity(user: str) -> tuple[int, int, tuple[int, ...]]:
    """uid, gid and groups of a user whom a worker may be. LaunchError."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise LaunchError(f"this machine has no user {user}") from None
    if entry.pw_uid in (0, os.getuid()):
        raise LaunchError(f"a worker cannot run as {user}, as asyd does or as root")
    return entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(user, entry.pw_gid))


def exec_missing() -> str:
    """What asyd lacks to close a cage, or ''."""
    if os.geteuid() != 0:
        return "asyd does not run as root"
    held = privileges.effective()
    lacking = [name for name, bit in NEEDED_CAPABILITIES.items() if not held >> bit & 1]
    return f"asyd has no {', '.join(lacking)}" if lacking else ""
