"""asyd in a box as its units in packaging/systemd have it, which are taken as they are.

What a test run needs beside them is in drop-ins, and nothing else is: its interpreter may lie where
ProtectHome= and PrivateTmp= hide it, and tests come in by a Unix socket.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import asys
from asys.node.platform.cage import HOMES, SCRATCH, hidden
from support import chained
from support.systemd_box import CHECKOUT, SystemdBox

UNITS: Final = CHECKOUT / "packaging" / "systemd"
FULL: Final = "asyd.service"
MONITOR: Final = "asyd-monitor.service"

SECONDS: Final = 60

PROGRAM: Final = f"""\
#!{sys.executable}
{chained.PRELUDE}
from asys.cli.daemon import main
sys.exit(main())
"""
"""/usr/bin/asyd, with an instruction that may come in fragments."""

AGENTS: Final = "/run/box/agents"
"""Where the socket for agents is: /run/asyd is closed to them."""

BPF: Final = "/sys/fs/bpf"


def needs() -> tuple[str, ...]:
    """What the program is made of, wherever that lies."""
    found = {str(CHECKOUT), sys.prefix, sys.base_prefix}
    return tuple(
        one
        for one in sorted(found)
        if not any(one != other and Path(one).is_relative_to(other) for other in found)
    )


def relaxed() -> dict[str, str]:
    """What lets a unit without homes, and with a /tmp of its own, have this interpreter and this
    checkout; nothing where it has them.
    """
    wanted = needs()
    empty = [one for one in hidden(wanted) if any(Path(w).is_relative_to(one) for w in wanted)]
    bound = [one for one in wanted if any(Path(one).is_relative_to(where) for where in empty)]
    closed = [one for one in empty if one not in (*HOMES, *SCRATCH)]
    found = {
        "BindReadOnlyPaths": " ".join(bound),
        "ProtectHome": "tmpfs" if any(one in HOMES for one in empty) else "",
        "TemporaryFileSystem": " ".join(closed),
    }
    return {name: value for name, value in found.items() if value}


def drop_in(settings: Mapping[str, str]) -> str:
    """As the text of a drop-in."""
    return "[Service]\n" + "".join(f"{name}={value}\n" for name, value in settings.items())


def listening(name: str) -> str:
    """The drop-in of the guide for a Unix socket."""
    return drop_in({"ReadWritePaths": AGENTS, "Environment": options(name)})


def options(name: str, words: str = "") -> str:
    """The environment that has it listen on that socket, with more options."""
    return f'"ASYD_OPTIONS=--listen unix:{AGENTS}/{name}.sock{words and " "}{words}"'


class Caged:
    """One of the units, and an agent that it knows."""

    def __init__(self, box: SystemdBox, unit: str) -> None:
        self.box: Final = box
        self.unit: Final = unit
        self.identity = asys.Identity.generate()
        self._key = b""
        shown = box.run("journalctl", "--lines=1", "--output=cat", "--show-cursor").stdout
        self._begin: Final = shown.rpartition("-- cursor: ")[2].strip()
        self._drop_ins: Final = box.path(f"/etc/systemd/system/{unit}.d")

    @property
    def address(self) -> str:
        """Where it is reached, from outside."""
        return f"{self.box.share}/agents/{self.unit}.sock"

    @property
    def pid(self) -> int:
        """As the box counts."""
        return int(self.value("MainPID"))

    @property
    def key(self) -> bytes:
        """Its public key, as its admin learns it."""
        if not self._key:
            state = f"/var/lib/{self.unit.removesuffix('.service')}"
            self._key = bytes.fromhex(self.box.run("asyd", "--state-dir", state, "pubkey").stdout)
        return self._key

    def value(self, name: str) -> str:
        """Of the unit."""
        return self.box.property(self.unit, name)

    def connect(self) -> asys.sync.Node:
        """A session of the agent."""
        return asys.sync.connect(
            f"unix:{self.address}", identity=self.identity, node_key=self.key, timeout=SECONDS
        )

    def admit(self, *words: str) -> None:
        """Writes the agent down, as an admin does."""
        key = self.identity.public.hex()
        self.box.run("asyd", "agents", "add", key, "--label", "admin", *words)

    def drop_in(self, name: str, text: str) -> None:
        """Changes the unit; '' takes that back."""
        path = self._drop_ins / f"{name}.conf"
        if text:
            path.write_text(text)
        else:
            path.unlink(missing_ok=True)
        self.box.run("systemctl", "daemon-reload")

    def do(self, verb: str) -> None:
        """start, restart, reload or stop."""
        self._key = b""
        done = self.box.run("systemctl", verb, self.unit, check=False)
        assert done.returncode == 0, f"{done.stderr}\n{self.log}"

    @property
    def log(self) -> str:
        """All that it and systemd have said of it since it is there."""
        self.box.run("journalctl", "--sync")
        words = ("--no-pager", "--output=cat", f"--after-cursor={self._begin}", "-u", self.unit)
        return self.box.run("journalctl", *words).stdout

    def processes(self) -> dict[int, str]:
        """/proc/PID/status of all its processes."""
        found = {}
        for pid in self.box.run("cat", self._cgroup("cgroup.procs")).stdout.split():
            status = self.box.run("cat", f"/proc/{pid}/status", check=False).stdout
            if status:
                found[int(pid)] = status
        return found

    def _cgroup(self, name: str) -> str:
        return f"/sys/fs/cgroup{self.value('ControlGroup')}/{name}"

    def remove(self) -> None:
        """Takes it out of the box."""
        self.box.remove_unit(self.unit)
        shutil.rmtree(self._drop_ins, ignore_errors=True)


@contextmanager
def caged(box: SystemdBox, *units: str, program: str | Path = PROGRAM) -> Iterator[list[Caged]]:
    """/usr/bin/asyd and these units in a box; it is not started. Nothing of it is left."""
    asyd = box.path("/usr/bin/asyd")
    made: list[Caged] = []
    box.run("mount", "-t", "bpf", "-o", "mode=700", "bpf", BPF)  # as systemd does on a machine
    try:
        if isinstance(program, Path):
            shutil.copyfile(program, asyd)
        else:
            asyd.write_text(program)
        asyd.chmod(0o755)
        (box.share / "agents").mkdir(mode=0o777)
        (box.share / "agents").chmod(0o777)
        for unit in units:
            made.append(one := Caged(box, unit))
            box.unit(unit, (UNITS / unit).read_text())
            box.path(f"/etc/systemd/system/{unit}.d").mkdir()
            if not isinstance(program, Path) and relaxed():
                one.drop_in("interpreter", drop_in(relaxed()))
            one.drop_in("listen", listening(unit))
        yield made
    finally:
        for one in made:
            one.remove()
        shutil.rmtree(box.share / "agents", ignore_errors=True)
        box.run("sh", "-c", "chattr -R -a /var/lib/asyd* /var/lib/private", check=False)
        box.run("sh", "-c", "rm -rf /etc/asyd /var/lib/asyd* /var/lib/private/asyd* /usr/bin/asyd")
        box.run("umount", BPF)
