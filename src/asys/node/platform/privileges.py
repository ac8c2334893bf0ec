"""What the kernel lets asyd do: its effective capabilities, read once at start."""

from __future__ import annotations

import os
from typing import Final

from asys.node.platform.procfs import PROC

CAP_KILL: Final = 5
CAP_SYS_PTRACE: Final = 19
CAP_SYS_ADMIN: Final = 21
"""Numbers of linux/capability.h."""


def effective(path: str = f"{PROC}/self/status") -> int:
    """The effective capability set, bit = number of the capability; 0 where it cannot be read."""
    try:
        with open(path, "rb") as file:
            for line in file:
                if line.startswith(b"CapEff:"):
                    return int(line.split()[1], 16)
    except (OSError, ValueError, IndexError):
        pass
    return 0


def has(capability: int) -> bool:
    """Whether asyd has a capability now."""
    return bool(effective() >> capability & 1)


def limits(*, throttles: bool) -> list[str]:
    """What asyd cannot do for want of privileges, in sentences for its log."""
    if not throttles:
        return ["PROC_THROTTLE answers 6D00: processes cannot be held here"]
    if has(CAP_KILL):
        return []
    return [
        f"PROC_THROTTLE reaches the processes of uid {os.geteuid()} alone, as asyd has no CAP_KILL"
    ]
