"""The filter on the first cgroup: it drops the packets of the sockets that are in a map.

Everything raises OSError.
"""

from __future__ import annotations

import os
from typing import Final

from asys.node.platform.isolation import bpf
from asys.node.platform.isolation.bpf import AttachType
from asys.node.platform.isolation.pins import Pins
from asys.node.platform.isolation.programs import COOKIE, MARK, by_cookie

MAX_COOKIES: Final = 1 << 18
"""Old sockets of all isolations together; 4 MB of the kernel's memory while there is one."""

_HOOKS: Final = (AttachType.INGRESS, AttachType.EGRESS)


class Descriptor:
    """A file descriptor for the length of a block."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


class Filter:
    """The map and the two programs that look into it, all of them pinned."""

    def __init__(self, pins: Pins, cgroup: str) -> None:
        self._pins = pins
        self._cgroup = cgroup

    def open(self) -> int:
        """A descriptor of the map, with the filter in force."""
        try:
            table = bpf.get(self._pins.table)
        except FileNotFoundError:
            table = bpf.create_hash(
                "asyd_cookies", key_size=COOKIE.size, value_size=MARK.size, entries=MAX_COOKIES
            )
            try:
                bpf.pin(table, self._pins.table)
            except BaseException:
                os.close(table)
                raise
        try:
            for where in _HOOKS:
                self._attach(table, where)
        except BaseException:
            os.close(table)
            raise
        return table

    def _attach(self, table: int, where: AttachType) -> None:
        path = self._pins.filter(where.name.lower())
        if os.path.exists(path):
            return
        with (
            Descriptor(bpf.load("asyd_cookie", where, by_cookie(table))) as program,
            Descriptor(bpf.attach(program, self._cgroup, where)) as link,
        ):
            bpf.pin(link, path)
