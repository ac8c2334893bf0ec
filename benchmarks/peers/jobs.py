"""The two jobs that every peer is asked to do, and the command lines that do them in a shell."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Job(StrEnum):
    """What an agent wants to know."""

    VITALS = "vitals"
    """Load, CPU, memory available, root file system used, I/O wait, network."""

    TOP = "top"
    """The five processes that use most CPU: PID, CPU and memory in percent."""


TITLES: Final = {Job.VITALS: "vitals", Job.TOP: "top five processes"}

SHELL: Final = {
    Job.VITALS: "uptime; free -m; df -P /; vmstat; cat /proc/net/dev",
    Job.TOP: "ps -eo pid,pcpu,pmem,comm --sort=-pcpu | head -6",
}
"""What agents type today. `vmstat` alone tells averages since the machine started, at once; what
the CPU does now is `vmstat 1 2`, and takes a second, which nobody here is charged with.
"""

COUNT: Final = 5
