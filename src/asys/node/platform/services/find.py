"""Finds the service manager of this machine."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

from asys.node.platform import privileges
from asys.node.platform.base import ServiceManager

POLKIT: Final = Path("/usr/share/dbus-1/system-services/org.freedesktop.PolicyKit1.service")

_log = logging.getLogger(__name__)


def find_service_manager(
    supervisord: str | None, *, run: Path = Path("/run"), polkit: Path = POLKIT
) -> ServiceManager | None:
    """systemd where it runs, else supervisord where it is configured, else None.

    systemd hears root, whoever has CAP_SYS_ADMIN, and whom polkit lets through. Without any of
    these it would refuse everything, so it counts as not there. `polkit` is a file that is there
    where polkit is.

    `supervisord` is the URL of its XML-RPC interface; ValueError when it cannot be one. Nothing is
    connected yet. A further manager: its file beside this one, and its line here.
    """
    fallback: ServiceManager | None = None
    if supervisord is not None:
        # Imported only where they are of use, here and below: they take memory.
        from asys.node.platform.services.supervisord import Supervisord

        fallback = Supervisord(supervisord)
    if not (run / "systemd" / "system").is_dir():
        return fallback
    if os.geteuid() != 0 and not privileges.has(privileges.CAP_SYS_ADMIN) and not polkit.exists():
        _log.warning("systemd takes no orders from uid %d, and there is no polkit", os.geteuid())
        return fallback
    if fallback is not None:
        _log.warning("systemd runs here, so services are restarted by it and not by supervisord")

    from asys.node.platform.services.systemd import PRIVATE_SOCKET, SYSTEM_BUS, Systemd

    if os.geteuid() == 0 and (run / "systemd" / "private").is_socket():
        return Systemd(PRIVATE_SOCKET, direct=True)
    return Systemd(os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or SYSTEM_BUS, direct=False)
