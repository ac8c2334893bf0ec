"""OpenSSH, as agents use it most: a command line at a time, with a new connection or a kept one.

The sshd is one of this run, with keys of this run, and knows no other user than who starts it.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from benchmarks.nodes import START_SECONDS, running
from benchmarks.peers.jobs import SHELL
from benchmarks.peers.peer import ASK_SECONDS, HOST, Ask, Peer, Rig, last_words
from benchmarks.peers.registry import found
from benchmarks.plan import BenchmarkError

NODE: Final = "node"
_numbers: Final = count()

PRIVILEGE_SEPARATION: Final = Path("/run/sshd")
"""Where an sshd of root keeps its unprivileged child; the service makes it, when it is started."""

_SSHD: Final = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {directory}/host
PidFile none
AuthorizedKeysFile {directory}/user.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PrintMotd no
PrintLastLog no
SetEnv HOME={directory}
LogLevel ERROR
"""
"""HOME: what somebody has in their .bashrc, which bash reads for sshd, is not what is measured."""

_SSH: Final = """\
Host node
  HostName 127.0.0.1
  HostKeyAlias node
  Port {port}
  User {user}
  IdentityFile {directory}/user
  IdentitiesOnly yes
  UserKnownHostsFile {directory}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
  LogLevel ERROR
"""
_KEPT: Final = """\
  ControlMaster auto
  ControlPath {control}
  ControlPersist 10m
"""


def make_keys(directory: Path) -> None:
    """Of the host and of the user, unless they are there; and the host's as the user knows it."""
    if (directory / "known_hosts").exists():
        return
    for who in ("host", "user"):
        _done(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", f"{directory}/{who}"])
    known = (directory / "host.pub").read_text()
    (directory / "known_hosts").write_text(f"{NODE} {known}")


@dataclass(frozen=True, slots=True)
class Route:
    """How a client gets to the node: its configuration, and the socket of its kept connection."""

    config: Path
    control: Path

    def leave(self) -> None:
        """Ends the kept connection, if there is one."""
        if self.control.exists():
            _done(["ssh", "-F", str(self.config), "-O", "exit", NODE])


def route(directory: Path, port: int, *, kept: bool) -> Route:
    """A new one. With `kept` its first command makes a connection for all others.

    The path of the socket has room for 100 bytes, of which ssh takes 17 for itself.
    """
    number = next(_numbers)
    made = Route(directory / f"ssh_config-{number}", directory / f"c{number}")
    text = _SSH.format(port=port, user=getpass.getuser(), directory=directory)
    if kept:
        text += _KEPT.format(control=made.control)
    made.config.write_text(text)
    return made


@contextlib.contextmanager
def sshd(rig: Rig) -> Iterator[int]:
    """An sshd on a port of its own."""
    make_keys(rig.directory)
    if os.geteuid() == 0:
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    for _ in range(5):
        port = _free_port()
        config = rig.directory / "sshd_config"
        config.write_text(_SSHD.format(port=port, directory=rig.directory))
        said = rig.directory / "sshd.log"
        command = [*rig.launcher, str(found("sshd")), "-D", "-e", "-f", str(config)]
        with said.open("wb") as log, running(command, log, read=False) as process:
            if _answers(port, process):
                yield port
                return
        if "in use" not in said.read_text():
            break
    raise BenchmarkError(f"sshd did not start: {last_words(said.read_text())}")


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int, process: subprocess.Popen[str]) -> bool:
    """Whether an sshd says who it is before it ends."""
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((HOST, port), timeout=START_SECONDS) as probe,
        ):
            return probe.recv(4) == b"SSH-"
        time.sleep(0.02)
    return False


def _done(command: list[str]) -> str:
    """What a command prints. BenchmarkError: it fails."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ASK_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise BenchmarkError(f"{command[0]} failed: {last_words(done.stderr)}")
    return done.stdout


class OneShot(Peer):
    """`ssh node COMMAND`, without more."""

    kept = False

    def serve(self) -> contextlib.AbstractContextManager[int]:
        """An sshd."""
        return sshd(self.rig)

    @contextlib.contextmanager
    def connect(self, port: int) -> Iterator[Ask]:
        """Nothing happens before the first command."""
        way = route(self.rig.directory, port, kept=self.kept)
        try:
            yield lambda job: _done(["ssh", "-F", str(way.config), NODE, SHELL[job]])
        finally:
            way.leave()


class Multiplexed(OneShot):
    """The same with ControlMaster."""

    kept = True
