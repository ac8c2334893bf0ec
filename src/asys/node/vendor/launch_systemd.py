"""Workers as units of systemd, where asyd is one itself: `asyd-vendor@DOMAIN.service`."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from asys.node.children import runner
from asys.node.disk.files import write_atomically
from asys.node.platform.base import NoSuchTarget, PlatformError
from asys.node.platform.cage import MAPPED_BYTES, hidden
from asys.node.platform.services.own_unit import own_cgroup
from asys.node.platform.services.systemd import PRIVATE_SOCKET
from asys.node.platform.services.systemd_units import SystemdUnits
from asys.node.vendor.enabled import CONFIG_VARIABLE, Enabled
from asys.node.vendor.launch import WORKER, LaunchError, import_path, needed
from asys.node.vendor.launch_exec import (
    GRACE_SECONDS,
    USER_PROCESSES,
    identity,
)
from asys.vendor.worker import NO_MEMORY

UNITS: Final = Path("/run/systemd/system")
"""Where unit files are that are gone after a boot; what an admin has in /etc comes before them."""

SOCKETS: Final = Path("/run/asyd-vendor")
"""Where the sockets are, see asyd-vendor@.socket."""

TEMPLATES: Final = ("asyd-vendor@.service", "asyd-vendor@.socket")
GRANTED: Final = "50-asyd.conf"
"""The drop-in of each vendor."""

LONGEST_DOMAIN: Final = 80
"""Characters of a domain that a socket's path has room for."""

_log = logging.getLogger("asyd.vendor")


class UnitRunning:
    """A unit that asyd has started."""

    def __init__(self, units: SystemdUnits, unit: str, pid: int, ours: socket.socket) -> None:
        self.socket = ours
        self._units = units
        self._unit = unit
        self._pid = pid
        self._pidfd = -1
        with contextlib.suppress(ProcessLookupError):
            self._pidfd = os.pidfd_open(pid)

    @property
    def pids(self) -> tuple[int, ...]:
        """The worker, until it has ended."""
        return (self._pid,) if self._pid else ()

    async def end(self) -> bool:
        """As Running.end."""
        killed = not await self._ended()
        self._pid = 0
        try:
            await self._units.job("StopUnit", self._unit)
            result = await self._units.service_property(self._unit, "Result")
            status = await self._units.service_property(self._unit, "ExecMainStatus")
        except NoSuchTarget:  # systemd has forgotten it, as it does with what did not fail
            return False
        except PlatformError as error:
            _log.warning("how %s ended is not known: %s", self._unit, error)
            return False
        if result == "oom-kill":
            return True
        known = (("signal", signal.SIGKILL), ("exit-code", NO_MEMORY))
        return not killed and (result, status) in known

    async def _ended(self) -> bool:
        """Whether it ends by itself within GRACE_SECONDS."""
        if self._pidfd < 0:
            return True
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        loop.add_reader(self._pidfd, gone.set)
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await gone.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        return True


class SystemdLauncher:
    """Starts a unit for each worker. `secrets_in` are directories that are not there for it."""

    name = "as units of systemd"

    def __init__(
        self, secrets_in: Sequence[Path], *, address: str = PRIVATE_SOCKET, directory: Path = UNITS
    ) -> None:
        self._units = SystemdUnits(address)
        self._directory = directory
        self._secrets = tuple(str(one) for one in secrets_in)
        self._path = import_path()
        self._needs = needed(self._path)
        self._written: set[str] = set()

    def refusal(self, enabled: Enabled) -> str:
        """As Launcher.refusal."""
        if len(enabled.domain) > LONGEST_DOMAIN:
            return f"its domain has more than {LONGEST_DOMAIN} characters"
        try:
            if enabled.user:
                identity(enabled.user)
        except LaunchError as error:
            return str(error)
        return ""

    async def launch(self, enabled: Enabled) -> UnitRunning:
        """As Launcher.launch."""
        unit = f"asyd-vendor@{enabled.domain}"
        if enabled.domain not in self._written:
            await self._write(enabled)
            self._written.add(enabled.domain)
        for one in (f"{unit}.service", f"{unit}.socket"):
            with contextlib.suppress(NoSuchTarget):
                await self._units.reset(one)
        for one in (f"{unit}.socket", f"{unit}.service"):
            result = await self._units.job("StartUnit", one)
            if result != "done":
                raise LaunchError(
                    f"systemd does not start {one} ({result}); see: journalctl -u {one}"
                )
        ours = socket.socket(socket.AF_UNIX)
        try:
            ours.setblocking(False)
            ours.connect(str(SOCKETS / f"{enabled.domain}.sock"))
            pid = await self._units.service_property(f"{unit}.service", "MainPID")
            return UnitRunning(self._units, f"{unit}.service", int(pid), ours)
        except OSError as error:
            ours.close()
            raise LaunchError(f"{unit}.socket does not answer: {error}") from error
        except BaseException:
            ours.close()
            raise

    async def close(self) -> None:
        """As Launcher.close."""
        for domain in self._written:
            for kind in ("socket", "service"):  # one may have been started and not reached
                with contextlib.suppress(PlatformError):
                    await self._units.job("StopUnit", f"asyd-vendor@{domain}.{kind}")
        await self._units.close()

    async def _write(self, enabled: Enabled) -> None:
        """Writes the unit's files where they are not there yet. LaunchError, PlatformError."""
        from importlib.resources import files as resources  # memory that most can do without

        files = {
            self._directory / name: (resources("asys.node.vendor") / name).read_text(
                encoding="utf-8"
            )
            for name in TEMPLATES
        }
        granted = self._directory / f"asyd-vendor@{enabled.domain}.service.d" / GRANTED
        files[granted] = self.granted(enabled)
        changed = False
        try:
            granted.parent.mkdir(parents=True, exist_ok=True)
            for path, text in files.items():
                if not path.exists() or path.read_text(encoding="utf-8") != text:
                    write_atomically(path, text.encode(), 0o644)
                    changed = True
        except OSError as error:
            raise LaunchError(
                f"{error.filename or self._directory} cannot be written ({error.strerror}); asyd's "
                f"own unit must let it, with ReadWritePaths={self._directory}"
            ) from error
        if changed:
            await self._units.reload()

    def granted(self, enabled: Enabled) -> str:
        """What one vendor has beyond the template, as the text of a drop-in."""
        words = [*runner(lasting=True), str(WORKER), enabled.domain, "3", *self._path]
        lines = [
            "# Written by asyd from its --vendor; it is written anew when asyd starts.",
            "[Service]",
            f"ExecStart={' '.join(map(_quoted, words))}",
            f"MemoryMax={enabled.memory}",
            "MemorySwapMax=0",
            f"LimitDATA={enabled.memory}",
            f"LimitAS={enabled.memory + MAPPED_BYTES}",
        ]
        if enabled.cpu:
            lines.append(f"CPUQuota={enabled.cpu}%")
        if enabled.config:
            lines.append(f"Environment={CONFIG_VARIABLE}={enabled.config}")
        if enabled.network:
            lines += ["PrivateNetwork=no", "RestrictAddressFamilies=AF_INET AF_INET6"]
        if enabled.user:
            lines += ["DynamicUser=no", f"User={enabled.user}", f"LimitNPROC={USER_PROCESSES}"]
        else:
            lines.append(f"User={dynamic_user(enabled.domain)}")
        lines += [f"InaccessiblePaths={_quoted('-' + one)}" for one in self._secrets]
        empty = [Path(one) for one in hidden(self._needs)]
        lines += [f"TemporaryFileSystem={_quoted(str(one))}" for one in empty if not _usual(one)]
        lines += [
            f"BindReadOnlyPaths={_quoted(need)}"
            for need in self._needs
            if any(Path(need).is_relative_to(one) for one in empty)
        ]
        return "\n".join(lines) + "\n"


def dynamic_user(domain: str) -> str:
    """The name of a vendor's dynamic user: by itself systemd gives all instances of a template one
    user, who could signal and trace all of them.
    """
    return f"asydv-{hashlib.blake2b(domain.encode(), digest_size=8).hexdigest()}"


def under_systemd() -> bool:
    """Whether asyd is root and a service of systemd itself."""
    return (
        os.geteuid() == 0
        and own_cgroup() is not None
        and os.path.exists(PRIVATE_SOCKET.removeprefix("unix:path="))
    )


def _usual(path: Path) -> bool:
    """Whether the template sees to it that a directory is empty."""
    return str(path) in ("/tmp", "/var/tmp", "/dev/shm", "/root", "/home", "/run/user")  # noqa: S108


def _quoted(word: str) -> str:
    """A word as it stands in a unit file, with nothing in it that means anything there."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'
