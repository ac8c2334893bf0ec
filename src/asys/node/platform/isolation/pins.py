"""Where the parts of isolations are pinned, so that they outlast asyd.

    asyd-<node>/                below the system's /sys/fs/bpf, or in a file system of asyd's own
        cookies                 the map of old sockets
        filter-ingress, filter-egress
        4711-90210/             an isolation: PID and start of its process
            egress-0, ...       links to its cgroups
            own, own-1, ...     maps with its old sockets
            loopback/           is there when packets of loopback pass
        new-4711-90210/         one that is being made
        old-4711-90210/         one that is being taken away

Everything raises OSError.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from asys.node.platform import privileges
from asys.node.platform.isolation import bpf

_ISOLATION: Final = re.compile(r"[0-9]+-[0-9]+")
_UNFINISHED: Final = re.compile(r"(new|old)-[0-9]+-[0-9]+")
_TABLE: Final = re.compile(r"own(-[0-9]+)?")
_LOOPBACK: Final = "loopback"


class Pins:
    """The pins of one node. Its state directory names it."""

    def __init__(self, state_dir: Path, system: str = bpf.MOUNTED) -> None:
        name = hashlib.blake2b(os.fsencode(state_dir.resolve()), digest_size=6).hexdigest()
        self.system = f"{system}/asyd-{name}"
        self._system_mount = system
        self._own_mount = str(state_dir.resolve() / "bpf")
        self._own = f"{self._own_mount}/asyd-{name}"
        self._base = self._own

    def lack(self) -> str:
        """Why nothing can be pinned, or ''."""
        if self._usable(self._system_mount) or bpf.is_mounted(self._own_mount):
            return ""
        if privileges.has(privileges.CAP_SYS_ADMIN):
            return ""
        return (
            f"no bpf file system that asyd may write is mounted at {self._system_mount}, and asyd "
            "has no CAP_SYS_ADMIN to mount one"
        )

    @staticmethod
    def _usable(mount: str) -> bool:
        return bpf.is_mounted(mount) and os.access(mount, os.W_OK)

    def found(self) -> bool:
        """Looks where there are pins; False: nowhere."""
        for base in (self._own, self.system):
            if os.path.isdir(base):
                self._base = base
                return True
        return False

    def prepare(self) -> None:
        """Makes the directory that asyd would mount its own file system at: a request must not wait
        for a disk, and the directory stays.
        """
        if not self._usable(self._system_mount) and not os.path.isdir(self._own_mount):
            os.makedirs(self._own_mount, mode=0o700, exist_ok=True)

    def make(self) -> None:
        """Makes the place, where it is not there yet."""
        if self.found():
            return
        if self._usable(self._system_mount):
            self._base = self.system
        else:
            self._base = self._own
            self.prepare()
            if not bpf.is_mounted(self._own_mount):
                bpf.mount(self._own_mount)
        os.mkdir(self._base, 0o700)

    def remove(self) -> None:
        """Takes all of it away, when no isolation is left; also what is but begun."""
        if os.path.isdir(self._base):
            for where in ("ingress", "egress"):
                drop_link(self.filter(where))
            _unlink(self.table)
            os.rmdir(self._base)
        if bpf.is_mounted(self._own_mount):
            try:
                bpf.unmount(self._own_mount)
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.EPERM):  # somebody looks at it
                    raise

    # -- names

    @property
    def table(self) -> str:
        """The map of old sockets."""
        return f"{self._base}/cookies"

    def filter(self, where: str) -> str:
        """A link of the filter on the first cgroup."""
        return f"{self._base}/filter-{where}"

    def directory(self, key: str) -> str:
        """The place of an isolation."""
        return f"{self._base}/{key}"

    def isolations(self) -> list[str]:
        """The keys of all that stand."""
        return [one for one in sorted(os.listdir(self._base)) if _ISOLATION.fullmatch(one)]

    def unfinished(self) -> list[str]:
        """Those that were being made or taken away."""
        return [one for one in sorted(os.listdir(self._base)) if _UNFINISHED.fullmatch(one)]

    # -- one isolation

    def begin(self, key: str) -> str:
        """The place of one that is being made."""
        place = f"{self._base}/new-{key}"
        os.mkdir(place, 0o700)
        return place

    def finish(self, place: str, key: str) -> None:
        """It stands from now on."""
        os.rename(place, self.directory(key))

    def abandon(self, key: str) -> str:
        """It does not stand from now on: its place for what is still to be done."""
        place = f"{self._base}/old-{key}"
        os.rename(self.directory(key), place)
        return place

    def has_mark(self, key: str) -> bool:
        """Whether packets of loopback pass."""
        return os.path.isdir(f"{self.directory(key)}/{_LOOPBACK}")

    def set_mark(self, place: str, keep_loopback: bool) -> None:
        """Notes whether they do."""
        if keep_loopback:
            with suppress(FileExistsError):
                os.mkdir(f"{place}/{_LOOPBACK}", 0o700)
        else:
            with suppress(FileNotFoundError):
                os.rmdir(f"{place}/{_LOOPBACK}")

    def free(self, place: str, name: str) -> str:
        """A name in the place that is not taken: `name`, or with a number behind it."""
        taken = set(os.listdir(place))
        number = 0
        path = name
        while path in taken:
            number += 1
            path = f"{name}-{number}"
        return f"{place}/{path}"

    def links(self, key: str, where: str) -> list[str]:
        """The links of an isolation at one hook."""
        place = self.directory(key)
        return [f"{place}/{one}" for one in os.listdir(place) if one.startswith(f"{where}-")]

    def tables(self, key: str) -> list[str]:
        """The maps with an isolation's old sockets."""
        return self.tables_in(self.directory(key))

    def tables_in(self, place: str) -> list[str]:
        """The same, by its place."""
        return [f"{place}/{one}" for one in os.listdir(place) if _TABLE.fullmatch(one)]

    def all_links(self, place: str) -> list[str]:
        """All its links."""
        return [
            f"{place}/{one}"
            for one in os.listdir(place)
            if not _TABLE.fullmatch(one) and one != _LOOPBACK
        ]

    def remove_links(self, place: str) -> None:
        """Takes its links away: their programs run no more."""
        for path in self.all_links(place):
            drop_link(path)

    def remove_isolation(self, place: str) -> None:
        """Takes what is left of it away."""
        self.remove_links(place)
        for path in self.tables_in(place):
            _unlink(path)
        self.set_mark(place, keep_loopback=False)
        os.rmdir(place)


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def drop_link(path: str) -> None:
    """Takes a link away, and what it does is over when this returns."""
    with suppress(FileNotFoundError):
        link = bpf.get(path)
        try:
            bpf.detach(link)
        finally:
            os.close(link)
        os.unlink(path)
