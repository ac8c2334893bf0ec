"""What asyd does about vendors when it starts."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asys.node.disk.files import ConfigError
from asys.node.vendor.vendors import Vendors
from asys.vendor.definition import VendorError

if TYPE_CHECKING:
    from asys.node.clock import Clock
    from asys.node.vendor.enabled import Enabled
    from asys.node.vendor.launch import Launcher

_log = logging.getLogger("asyd.vendor")


def prepare(enabled: Sequence[Enabled], secrets_in: Sequence[Path], clock: Clock) -> Vendors | None:
    """The vendors that an admin wants; None where there are none, or nothing could run them.

    `secrets_in` are directories that no worker may see. ConfigError: one is not installed.
    """
    if not enabled:
        return None
    from asys.vendor.discovery import find  # takes memory, and few need it

    for one in enabled:
        try:
            find(one.domain)
        except VendorError as error:
            raise ConfigError(f"--vendor: {error}") from error
    launcher = choose_launcher(secrets_in)
    if isinstance(launcher, str):
        for one in enabled:
            _log.error("%s is not enabled: %s", one.domain, launcher)
        return None
    return Vendors(enabled, launcher, clock)


def choose_launcher(secrets_in: Sequence[Path]) -> Launcher | str:
    """How this asyd starts workers; or why it cannot."""
    if sys.platform != "linux":
        return "vendors need Linux"
    from asys.node.vendor.launch_systemd import SystemdLauncher, under_systemd

    if under_systemd():
        return SystemdLauncher(secrets_in)
    from asys.node.vendor.launch_exec import ExecLauncher, exec_missing

    missing = exec_missing()
    if missing:
        return f"{missing}, so that a worker would not be kept from what asyd has"
    return ExecLauncher(secrets_in)
