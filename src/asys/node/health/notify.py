"""What asyd says to systemd (sd_notify(3)): that it is ready, alive, reloading, ending.

The socket is made once, at the start: later there may be no descriptor left for it. Nothing waits.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

SOCKET: Final = "NOTIFY_SOCKET"
WATCHDOG: Final = ("WATCHDOG_USEC", "WATCHDOG_PID")

READY: Final = "READY=1"
ALIVE: Final = "WATCHDOG=1"
STOPPING: Final = "STOPPING=1"

_log = logging.getLogger("asyd")


class Notifier:
    """The way to systemd, where it wants to hear anything."""

    def __init__(self, name: str = "") -> None:
        """`name` is where systemd listens: a path, or an abstract name behind @; '': nowhere."""
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._socket: socket.socket | None = None
        self._failing = False
        if name:
            try:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.setblocking(False)
            except OSError as error:
                self._failed(error)

    def ready(self) -> bool:
        """asyd serves; also after `reloading`. False: systemd was not told."""
        return self._say(READY)

    def alive(self) -> bool:
        """The watchdog's word."""
        return self._say(ALIVE)

    def reloading(self) -> bool:
        """What was changed is read again; `ready` follows."""
        return self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> bool:
        """asyd ends."""
        return self._say(STOPPING)

    def close(self) -> None:
        """Gives the descriptor back."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _say(self, *words: str) -> bool:
        if self._socket is None:
            return False
        try:
            # By name each time: whoever listens there may have made the socket anew.
            self._socket.sendto("\n".join(words).encode(), self._address)
        except OSError as error:
            self._failed(error)
            return False
        self._failing = False
        return True

    def _failed(self, error: OSError) -> None:
        """Once until it works again: the watchdog would fill the log."""
        if not self._failing:
            _log.warning("systemd cannot be told how asyd is: %s", error.strerror or error)
        self._failing = True


def take_notifier(environ: MutableMapping[str, str]) -> Notifier:
    """The way that the environment names. It is taken out: no child of asyd speaks for it."""
    return Notifier(environ.pop(SOCKET, ""))


def take_watchdog(environ: MutableMapping[str, str]) -> float:
    """Seconds within which systemd wants to hear of this very process; 0.0: it does not.

    Taken out likewise. What makes no sense is logged, and counts as nothing.
    """
    written, pid = (environ.pop(name, "") for name in WATCHDOG)
    if not written or pid not in ("", str(os.getpid())):
        return 0.0
    if not (written.isascii() and written.isdigit() and int(written)):
        _log.warning("WATCHDOG_USEC is no number of microseconds, so no watchdog is fed")
        return 0.0
    return int(written) / 1_000_000
