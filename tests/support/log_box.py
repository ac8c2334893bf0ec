"""A systemd box with a journal of its own, an asyd in it, and ways to write to the journal."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import secrets
import shutil
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import asys
from support.daemon import COMMAND
from support.systemd_box import SystemdBox

SECONDS: Final = 60

_PIDFD_GETFD: Final = 438

_SETTINGS: Final = """\
[Journal]
Storage=persistent
RateLimitIntervalSec=0
SystemMaxUse=1G
SystemMaxFileSize={file_size}
"""

_SEND: Final = """\
import ctypes, json, sys
library = ctypes.CDLL("libsystemd.so.0")
class Part(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("size", ctypes.c_size_t)]
for line in sys.stdin:
    parts = []
    for name, value in json.loads(line).items():
        data = name.encode() + b"=" + value.encode("latin-1")
        parts.append(Part(data, len(data)))
    result = library.sd_journal_sendv((Part * len(parts))(*parts), len(parts))
    if result < 0:
        sys.exit(f"sd_journal_sendv: {result}")
"""

_BULK: Final = """\
import socket, sys
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.connect("/run/systemd/journal/socket")
count, kinds = int(sys.argv[1]), int(sys.argv[2])
for number in range(count):
    text = "PRIORITY=3\\nSYSLOG_IDENTIFIER=bulk\\nMESSAGE=it went wrong %d\\n" % (number % kinds)
    journal.send(text.encode())
"""


class LogBox(SystemdBox):
    """A box whose journal holds what tests write, and hardly anything else."""

    def limits(self, file_size: str = "64M") -> None:
        """Journald takes whatever comes, in files of that size."""
        directory = "/etc/systemd/journald.conf.d"
        self.run("mkdir", "-p", directory)
        self.path(f"{directory}/test.conf").write_text(_SETTINGS.format(file_size=file_size))
        self.run("systemctl", "restart", "systemd-journald")

    @property
    def journal(self) -> Path:
        """The directory of the journal's files, from outside."""
        machine = self.path("/etc/machine-id").read_text().strip()
        return self.path(f"/var/log/journal/{machine}")

    def write(self, *entries: Mapping[str, bytes]) -> None:
        """Writes entries to the journal, field by field; they are there when this returns."""
        lines = [
            json.dumps({name: value.decode("latin-1") for name, value in entry.items()})
            for entry in entries
        ]
        self.run(sys.executable, "-I", "-S", "-c", _SEND, input="\n".join(lines) + "\n")
        self.sync()

    def bulk(self, count: int, kinds: int) -> None:
        """Writes so many errors, of so many kinds."""
        self.run(sys.executable, "-I", "-S", "-c", _BULK, str(count), str(kinds))
        self.sync()

    def sync(self) -> None:
        """Returns when the journal's files have all that was written."""
        self.run("journalctl", "--sync")

    @contextlib.contextmanager
    def node(self, *options: str) -> Iterator[LogNode]:
        """An asyd as root in the box, with one agent that may do everything."""
        name = f"asyd-{secrets.token_hex(4)}"
        config = self.share / name
        config.mkdir(mode=0o700)
        identity = asys.Identity.generate()
        agents = config / "authorized_agents"
        agents.write_text(f"{identity.public.hex()} admin caps=all\n")
        agents.chmod(0o600)
        asyd = self.popen(
            *(sys.executable, "-c", COMMAND),
            *("--config-dir", f"/run/box/{name}", "--listen", f"unix:/run/box/{name}.sock"),
            *("--audit", "off", "--handshake-rate", "0", *options),
        )
        try:
            if asyd.stdout is None:
                raise RuntimeError("no pipe")
            words = asyd.stdout.readline().split()
            if len(words) != 3:
                raise AssertionError("asyd did not start")
            where = f"unix:{self.share / name}.sock"
            yield LogNode(where, bytes.fromhex(words[2]), identity, self.pid_of(asyd))
        finally:
            self.end_children()
            shutil.rmtree(config)


class LogNode:
    """A node in a box."""

    def __init__(self, address: str, key: bytes, identity: asys.Identity, pid: int) -> None:
        self.address = address
        self.key = key
        self.identity = identity
        self.pid = pid

    def connect(self) -> asys.sync.Node:
        """A new session."""
        return asys.sync.connect(
            self.address, identity=self.identity, node_key=self.key, timeout=SECONDS
        )

    @property
    def readers(self) -> Sequence[int]:
        """The PIDs of the processes that read logs for it, as seen from outside."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [pid for pid in map(int, children.split()) if self._reads(pid)]

    def _reads(self, pid: int) -> bool:
        try:
            return b"platform/logs/worker.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False


def own_boot_id() -> bytes:
    """Of this machine, and so of every box on it."""
    text = Path("/proc/sys/kernel/random/boot_id").read_text()
    return bytes.fromhex(text.strip().replace("-", ""))


def pid_inside(pid: int) -> int:
    """What a process is called in the innermost namespace that it is in."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nNSpid:")[2].split("\n", 1)[0].split()[-1])


def unread(pid: int) -> int:
    """Bytes of the question that lies in the socket of a process that reads logs."""
    [fd] = [
        int(one.name)
        for one in Path(f"/proc/{pid}/fd").iterdir()
        if os.readlink(one).startswith("socket:")
    ]
    handle = os.pidfd_open(pid)
    try:
        # The number is the same on all architectures.
        copy = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, handle, fd, 0)
    finally:
        os.close(handle)
    if copy < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    try:
        return int.from_bytes(fcntl.ioctl(copy, termios.FIONREAD, bytes(4)), sys.byteorder)
    finally:
        os.close(copy)


def descriptors() -> int:
    """How many files this process has open."""
    return len(os.listdir("/proc/self/fd"))
