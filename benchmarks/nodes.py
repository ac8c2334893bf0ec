"""The nodes that are measured: an asyd started for it, with keys for this run, and any peers."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Final

from asys.client.address import Address
from asys.client.identity import Identity
from asys.client.known_hosts import KnownHosts
from asys.errors import AsysError
from asys.node.audit.append_only import set_append_only
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import KEY_SIZE
from benchmarks.line import Target
from benchmarks.plan import BenchmarkError

START_SECONDS: Final = 60.0
ASYD: Final = "import sys; from asys.cli.daemon import main; sys.exit(main())"
UNCHECKED: Final = """\
import sys
from functools import partial
from asys.cli.daemon import main
from asys.node import daemon
daemon.Node = partial(daemon.Node, checked=False)
sys.exit(main())
"""
"""The same asyd without capability maps, scopes and rates. No command line gives this."""

GRANTED: Final = "caps=core,PROC_THROTTLE,SVC_RESTART"

ENDLESS: Final = ("endless-a", "endless-b")
"""Programs whose restart stays pending: they ignore the signal that is to stop them."""

_SUPERVISORD: Final = """\
[supervisord]
nodaemon=true
user={user}
logfile=/dev/null
logfile_maxbytes=0
pidfile={directory}/supervisord.pid
[unix_http_server]
file={directory}/supervisord.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
_PROGRAM: Final = """\
[program:{name}]
command=/bin/cat
stopsignal=WINCH
stopwaitsecs=3600
stdout_logfile=NONE
stderr_logfile=NONE
"""


@contextlib.contextmanager
def running(
    command: Sequence[str], log: IO[bytes], *, read: bool
) -> Iterator[subprocess.Popen[str]]:
    """A process that ends with the block, whatever happens in it; `log` gets its stderr."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if read else subprocess.DEVNULL,
        stderr=log,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def own_node(
    directory: Path,
    *,
    supervisord: str | None = None,
    granted: str = GRANTED,
    checked: bool = True,
    audit: Path | None = None,
    launcher: Sequence[str] = (),
    agents: Mapping[PrivateKey, str] | None = None,
    options: Sequence[str] = (),
) -> Iterator[Target]:
    """A fresh asyd on loopback with its files in `directory`; `granted` is what its agent gets.

    `launcher` is a command that executes what stands behind it, in the same process. `agents` are
    more lines: what stands behind a key. `options` of asyd win over those that it has here.

    What agents do is on record in `audit`, whose files can go when the block has ended, or nowhere.
    """
    agent = PrivateKey.generate()
    config = directory / f"asyd-{time.monotonic_ns()}"
    config.mkdir(mode=0o700)
    lines = {agent: f"bench {granted}", **(agents or {})}
    path = config / "authorized_agents"
    path.write_text("".join(f"{key.public.hex()} {rest}\n" for key, rest in lines.items()))
    path.chmod(0o600)
    words = ["--config-dir", str(config), "--listen", "127.0.0.1", "--port", "0"]
    words += ["--max-sessions-per-key", "1024", "--handshake-rate", "0"]
    words += ["--audit", "off"] if audit is None else ["--audit-dir", str(audit)]
    if supervisord is not None:
        words += ["--supervisord", supervisord]
    said = config / "log"
    with (
        said.open("wb") as log,
        running(
            [*launcher, sys.executable, "-c", ASYD if checked else UNCHECKED, *words, *options],
            log,
            read=True,
        ) as process,
    ):
        ready = first_line(process).split()
        if len(ready) != 3 or ready[0] != "READY":
            raise BenchmarkError(f"asyd did not start: {said.read_text().strip()}")
        port = int(ready[1].rpartition(":")[2])
        key = bytes.fromhex(ready[2])
        target = Target("asyd", "127.0.0.1", port, key, agent, process.pid)
        if audit is None:
            yield target
            return
        try:
            _await(lambda: _taken(audit), "the writer of the audit did not start")
            yield target
        finally:
            process.terminate()
            _release(audit)


def _await(reached: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not reached():
        if time.monotonic() > deadline:
            raise BenchmarkError(otherwise)
        time.sleep(0.02)


def _release(audit: Path) -> None:
    """Waits until the writer has left the directory, and lets its files be removed."""
    if not audit.exists():
        return
    _await(lambda: not _taken(audit), "the writer of the audit did not end")
    for path in audit.iterdir():
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        set_append_only(fd, on=False)
        os.close(fd)


def _taken(audit: Path) -> bool:
    """Whether a writer has locked the directory."""
    try:
        directory = os.open(audit, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(directory)
    return False


def first_line(process: subprocess.Popen[str]) -> str:
    """The first line that a process prints, or nothing."""
    if process.stdout is None or not select.select([process.stdout], [], [], START_SECONDS)[0]:
        return ""
    return process.stdout.readline()


def services_missing() -> str:
    """Why there can be no service manager of our own, or ''."""
    if find_spec("supervisor") is None:
        return "needs supervisord: pip install supervisor"
    if Path("/run/systemd/system").is_dir():
        return "asyd uses this machine's systemd, whose services are not touched"
    return ""


@contextlib.contextmanager
def service_manager(directory: Path) -> Iterator[str]:
    """A supervisord with the ENDLESS programs; gives its URL. They end when it does."""
    path = directory / "supervisord.sock"
    config = directory / "supervisord.conf"
    head = _SUPERVISORD.format(directory=directory, user=os.geteuid())
    config.write_text(head + "".join(_PROGRAM.format(name=name) for name in ENDLESS))
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)]
    said = directory / "supervisord.log"
    with said.open("wb") as log, running(command, log, read=False) as process:
        deadline = time.monotonic() + START_SECONDS
        while not _accepts(path):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkError(f"supervisord did not start: {said.read_text().strip()}")
            time.sleep(0.02)
        yield f"unix://{path}"


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def peer(where: str, identity: str | None, key: str | None, pid: int | None) -> Target:
    """Another node, from what the command line says. BenchmarkError says what is wrong with it."""
    try:
        address = Address.parse(where)
        agent = Identity.load(identity).key
        trusted = KnownHosts().lookup(address.host, address.port) if key is None else _key(key)
    except AsysError as error:
        raise BenchmarkError(str(error)) from error
    if address.path:
        raise BenchmarkError(f"{where}: a peer is measured over TCP")
    if trusted is None:
        raise BenchmarkError(f"{where} is not in known_hosts; give its key with --peer-key HEX")
    return Target(where, address.host, address.port, trusted, agent, pid)


def _key(written: str) -> bytes:
    try:
        key = bytes.fromhex(written)
    except ValueError:
        key = b""
    if len(key) != KEY_SIZE:
        raise BenchmarkError(f"--peer-key takes {2 * KEY_SIZE} hex digits")
    return key
