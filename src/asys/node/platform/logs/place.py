"""Where this machine's logs are, as far as asyd may read them; looked up once at start."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

from asys.node.platform.logs.kmsg import DEVICE
from asys.node.platform.machine import MACHINE_ID

JOURNALS: Final = ("/run/log/journal", "/var/log/journal")
"""Where journald keeps the journals of each machine, in a directory with the machine's id."""

_LOST: Final = "LOG_SUMMARY and LOG_DETAIL answer 6D00"


class LogPlace(Enum):
    """What the logs are read from."""

    JOURNAL = "journal"
    KERNEL = "kernel"
    NONE = "none"


class Found(NamedTuple):
    """What the logs are read from; where that is nothing, a sentence that says why."""

    place: LogPlace
    lack: str = ""


def find(
    journals: tuple[str, ...] = JOURNALS, device: str = DEVICE, machine_id: str = MACHINE_ID
) -> Found:
    """The journal where there is one, else the kernel's log."""
    journal = _journal(journals, machine_id)
    if journal is None:
        return _kernel(device)
    if journal:
        return Found(LogPlace.JOURNAL)
    return Found(
        LogPlace.NONE,
        f"{_LOST}: asyd may not read the journal; root may, and whoever is in systemd-journal",
    )


def _journal(journals: tuple[str, ...], machine_id: str) -> bool | None:
    """Whether the journal may be read; None: there is none."""
    try:
        own = Path(machine_id).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    there = None
    for journal in journals:
        try:
            names = os.listdir(os.path.join(journal, own)) if own else []
        except PermissionError:
            there = there or False
            continue
        except OSError:
            continue
        for name in names:
            if name.startswith("system") and name.endswith(".journal"):
                there = there or _can_read(os.path.join(journal, own, name))
    return there


def _can_read(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _kernel(device: str) -> Found:
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        reason = error.strerror or str(error)
        return Found(LogPlace.NONE, f"{_LOST}: there is no journal, and {device}: {reason}")
    return Found(LogPlace.KERNEL)
