"""The programs that cut, and their links to the cgroups of isolated processes.

Everything raises OSError.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from asys.node.platform.isolation import bpf
from asys.node.platform.isolation.bpf import AttachType
from asys.node.platform.isolation.filter import Descriptor
from asys.node.platform.isolation.pins import Pins, drop_link
from asys.node.platform.isolation.programs import CUT, CUT_BUT_LOOPBACK


class Links:
    """Makes links and pins them. The programs are loaded once, both rules of them."""

    def __init__(self, pins: Pins) -> None:
        self._pins = pins
        self._programs: dict[tuple[bool, AttachType], int] = {}

    def load(self) -> str:
        """Loads the programs; why they are of no use here, or ''."""
        for keep, programs in ((False, CUT), (True, CUT_BUT_LOOPBACK)):
            for where, code in programs.items():
                self._programs[keep, where] = bpf.load("asyd_cut", where, code)
        if bpf.knows_links(self._programs[False, AttachType.EGRESS]):
            return ""
        return "the kernel cannot link programs to cgroups (it takes Linux 5.7)"

    def close(self) -> None:
        """Gives the programs back; those that are linked stay."""
        for program in self._programs.values():
            os.close(program)
        self._programs.clear()

    def attach(self, directory: str, place: str, *, keep_loopback: bool, index: int) -> None:
        """Cuts off all who are in a cgroup or come into it. `index` tells its links from others."""
        for where in AttachType:
            program = self._programs[keep_loopback, where]
            with Descriptor(bpf.attach(program, directory, where)) as link:
                bpf.pin(link, self._pins.free(place, f"{where.name.lower()}-{index}"))

    def anew(self, directories: Sequence[str], key: str, *, keep_loopback: bool) -> None:
        """Gives each cgroup all its links: some were missing if asyd was killed while it made them.

        The old ones go when the new ones are in force.
        """
        place = self._pins.directory(key)
        before = self._pins.all_links(place)
        for index, directory in enumerate(directories):
            self.attach(directory, place, keep_loopback=keep_loopback, index=index)
        for path in before:
            drop_link(path)

    def follow(self, key: str, *, keep_loopback: bool) -> None:
        """Has every link run the program of that rule."""
        for where in AttachType:
            for path in self._pins.links(key, where.name.lower()):
                with Descriptor(bpf.get(path)) as link:
                    try:
                        bpf.replace(link, self._programs[keep_loopback, where])
                    except OSError as error:
                        if error.errno != errno.ENOLINK:  # its cgroup has gone
                            raise
