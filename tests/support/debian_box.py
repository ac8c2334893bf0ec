"""A Debian on which nothing of this project is: a box with a systemd, without the checkout and its
interpreter. What is installed there reaches neither the machine nor another box.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path
from typing import Any, Final

import asys
from asys.node.audit.append_only import is_append_only
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import DEFAULT_PORT
from support.daemon import PATIENCE
from support.systemd_box import CHECKOUT, PROXY, SystemdBox

HIDDEN: Final = ("/root", "/usr/local", "/opt", str(CHECKOUT))
"""Empty in the box; what is installed must not find anything there."""

POLICY: Final = "/usr/sbin/policy-rc.d"

PINS: Final = "/sys/fs/bpf"

LISTED: Final = ("/etc", "/opt", "/srv", "/usr", "/var")
"""Where a package may leave something, without what the package manager itself remembers."""

FORGOTTEN: Final = (
    *("/var/cache", "/var/lib/dpkg", "/var/lib/man-db", "/var/log", "/var/tmp"),  # noqa: S108
    str(CHECKOUT),
)

SOCKET: Final = """\
[Unit]
Description=Way to the node for agents outside of the box
[Socket]
ListenStream=/run/box/node
"""
SERVICE: Final = f"""\
[Service]
ExecStart={PROXY} 127.0.0.1:{DEFAULT_PORT}
"""


class DebianBox:
    """A box, made such a Debian. Its package manager has what the machine has installed."""

    def __init__(self, box: SystemdBox) -> None:
        self.box: Final = box
        for directory in HIDDEN:
            box.run("mkdir", "-p", directory)
            box.run("mount", "-t", "tmpfs", "hidden", directory)
        # As systemd does on a Debian that may; asyd's unit may not be one that mounts.
        if box.run("mountpoint", "--quiet", PINS, check=False).returncode:
            box.run("mount", "-t", "bpf", "bpf", PINS)
        box.run("rm", "-f", POLICY, "/var/lib/man-db/auto-update")  # pages are not indexed
        box.unit("node-for-tests.service", SERVICE)
        box.unit("node-for-tests.socket", SOCKET)
        box.run("systemctl", "start", "node-for-tests.socket")

    # The package

    def install(self, dist: Path) -> str:
        """Installs what `make deb` has made; what is said then."""
        [package] = dist.glob("*.deb")
        shutil.copy(package, self.box.share / package.name)
        return self._dpkg("--install", f"/run/box/{package.name}")

    def remove(self) -> str:
        """Removes it; what is said then."""
        return self._dpkg("--remove", "asyd")

    def purge(self) -> str:
        """Purges it, also where there is none; what is said then."""
        return self._dpkg("--purge", "asyd")

    def _dpkg(self, *words: str) -> str:
        environment = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        done = self.box.run("dpkg", *words, env=environment)
        return done.stdout + done.stderr

    def files(self) -> set[str]:
        """All that there is where a package may leave something."""
        unseen = [word for one in FORGOTTEN for word in ("-path", one, "-prune", "-o")]
        return set(self.box.run("find", *LISTED, "-xdev", *unseen, "-print").stdout.splitlines())

    # The node

    def active(self, unit: str = "asyd") -> str:
        """What systemd says of a unit."""
        return self.box.property(unit, "ActiveState")

    def pid(self, unit: str = "asyd") -> int:
        """Its process, as seen inside."""
        return int(self.box.property(unit, "MainPID"))

    def key(self) -> bytes:
        """The node's public key."""
        return bytes.fromhex(self.box.run("asyd", "pubkey").stdout)

    def admit(self, key: PrivateKey, caps: str = "core") -> None:
        """Lets an agent in, as an admin does."""
        words = ("--label", "agent", "--caps", caps)
        self.box.run("asyd", "agents", "add", key.public.hex(), *words)
        self.box.run("asyd", "reload")

    def connect(self, key: PrivateKey, node_key: bytes, **options: Any) -> asys.sync.Node:
        """An agent outside of the box, on a connection to the node's own address."""
        where = f"unix:{self.box.share}/node"
        return asys.sync.connect(
            where, identity=asys.Identity(key), node_key=node_key, timeout=60.0, **options
        )

    def wait_for_state(self, pid: int, *states: str) -> None:
        """Returns when the kernel says that a process is in one of these: R, S, T, ..."""
        until = time.monotonic() + PATIENCE
        while (found := self._state(pid)) not in states:
            assert time.monotonic() < until, found
            os.sched_yield()

    def wait_for_audit(self) -> str:
        """The path of the audit's first segment, when it can only grow; it is made for a record."""
        path = "/var/lib/asyd/audit/audit-00000001.seg"
        until = time.monotonic() + PATIENCE
        while not self._only_grows(path):
            assert time.monotonic() < until, path
            os.sched_yield()
        return path

    def _only_grows(self, path: str) -> bool:
        try:
            with self.box.path(path).open("rb") as file:
                return is_append_only(file.fileno())
        except FileNotFoundError:
            return False

    def _state(self, pid: int) -> str:
        stat = self.box.path(f"/proc/{pid}/stat").read_text()
        return stat[stat.rindex(")") + 2]


def announced(said: str) -> bytes:
    """The key that an installation has announced."""
    found = re.search("the key of this node is ([0-9a-f]{64})\n", said)
    assert found, said
    return bytes.fromhex(found[1])
