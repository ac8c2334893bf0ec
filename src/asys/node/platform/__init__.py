"""The one edge between asyd and the operating system; OS errors become ours here.

`base` says what a platform offers. `linux` and what it is made of know Linux, `portable` any POSIX
system through psutil.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asys.node.platform.base import Platform


def settle_allocator() -> None:
    """Has the C library keep memory that is freed, where it can be told so; at the very start."""
    if sys.platform == "linux":
        from asys.node.platform import memory

        memory.settle_allocator()


def choose_platform(portable: bool = False) -> Platform:
    """The platform for this machine: Linux's own on Linux, else, or on demand, the portable one."""
    if sys.platform == "linux" and not portable:
        from asys.node.platform.linux import LinuxPlatform

        return LinuxPlatform()
    from asys.node.platform.portable import PortablePlatform

    return PortablePlatform()
