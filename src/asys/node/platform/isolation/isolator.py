"""Processes cut off the network under Linux (docs/protocol.md, section 7.15).

Each isolated process, with its descendants, is in a child of its cgroup in which programs drop what
goes in or out. A socket belongs for ever to the cgroup that it was made in. So those that a process
had before are in a map by their cookies, and a filter on the first cgroup drops what is in the map;
it is there only while something is isolated.

All of it is pinned (docs/decisions/0019-isolation.md): it outlasts asyd. What
asyd was about to make or to take away when it was killed has a name that says so, and is taken away
at the next start.

Nothing here may be called by two threads at once. It takes milliseconds: it belongs beside the
event loop.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from asys.node.platform import privileges
from asys.node.platform.base import (
    Isolated,
    NoSuchTarget,
    PlatformError,
    ProcessHandle,
    node_failure,
    translate,
)
from asys.node.platform.isolation import bpf
from asys.node.platform.isolation.filter import Descriptor, Filter
from asys.node.platform.isolation.links import Links
from asys.node.platform.isolation.pins import Pins
from asys.node.platform.isolation.programs import (
    COOKIE,
    CUT_ALL,
    CUT_BUT_LOOPBACK_TOO,
    MARK,
)
from asys.node.platform.isolation.sockets import Sockets
from asys.node.platform.processes import cgroups
from asys.node.platform.processes.process import Guard, LinuxProcess
from asys.node.platform.procfs import PROC, read_small

PURPOSE: Final = "isolate"
"""In the names of the cgroups."""

FREEZING_SECONDS: Final = 0.5
"""How long the processes of one isolation may take to stand still. What does not by then waits in
the kernel for a device; its sockets are taken as they are."""


_log = logging.getLogger("asyd.isolation")


@dataclass(slots=True)
class _Standing:
    """One isolation as it is in the kernel."""

    pid: int
    start: int
    keep_loopback: bool
    cookies: set[int] = field(default_factory=set)
    directories: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Its name among the pins."""
        return f"{self.pid}-{self.start}"

    @property
    def name(self) -> str:
        """The name of its cgroups."""
        return f"{cgroups.PREFIX}{PURPOSE}-{self.key}"

    @property
    def mark(self) -> int:
        """What the map says of its old sockets."""
        return CUT_BUT_LOOPBACK_TOO if self.keep_loopback else CUT_ALL


class LinuxIsolator:
    """An Isolator. Two of them must not have one state directory."""

    def __init__(self, state_dir: Path, guard: Guard) -> None:
        self._guard = guard
        self._unified = cgroups.mounted().unified
        self._pins = Pins(state_dir)
        self._filter = Filter(self._pins, self._unified.point if self._unified else "")
        self._standing: dict[str, _Standing] = {}
        self._links = Links(self._pins)
        self.lack = self._find_lack()

    def _find_lack(self) -> str:
        """Tries what can be tried without leaving a trace; also loads the programs."""
        reason = bpf.lack()
        if reason:
            return reason
        if self._unified is None:
            return "no cgroup hierarchy of version 2 is mounted"
        if not os.access(self._unified.point, os.W_OK):
            return f"{self._unified.point} cannot be written"
        reason = self._pins.lack()
        if reason:
            return reason
        if not privileges.has(privileges.CAP_SYS_PTRACE):
            return "asyd has no CAP_SYS_PTRACE to take sockets from a process"
        try:
            return self._links.load()
        except OSError as error:
            return error.strerror or str(error)

    def close(self) -> None:
        """As Isolator.close."""
        self._links.close()

    # -- what stands

    def recover(self) -> tuple[Isolated, ...]:
        """As Isolator.recover."""
        try:
            self._recover()
        except OSError as error:
            raise node_failure(error, "looking for isolations") from error
        with suppress(OSError):  # the first isolation tries again, and says why not
            self._pins.prepare()
        return self.standing()

    def name(self, pid: int, start: int) -> str:
        """As Isolator.name."""
        try:
            if cgroups.start_of(pid) != start:
                return ""
            return read_small(f"{PROC}/{pid}/comm", 64).decode("utf-8", "replace").rstrip("\n")
        except OSError:
            return ""

    def standing(self) -> tuple[Isolated, ...]:
        """All that stand."""
        return tuple(
            Isolated(one.pid, one.start, one.keep_loopback) for one in self._standing.values()
        )

    def _recover(self) -> None:
        self._standing.clear()
        if not self._pins.found():
            self._pins.remove()
            return
        for key in self._pins.isolations():
            pid, start = map(int, key.split("-"))
            one = _Standing(pid, start, self._pins.has_mark(key))
            one.directories = self._find(one)
            for table in self._pins.tables(key):
                with Descriptor(bpf.get(table)) as fd:
                    one.cookies |= {COOKIE.unpack(k)[0] for k in bpf.keys(fd, COOKIE.size)}
            self._standing[key] = one
        for key in self._pins.unfinished():
            pid, start = map(int, key.split("-")[1:])
            _log.warning("what was begun with process %d when asyd ended is undone", pid)
            gone = _Standing(pid, start, keep_loopback=False)
            gone.directories = self._find(gone)
            self._take_away(gone, self._pins.directory(key))
        for one in self._standing.values():
            self._thaw(one)
            self._links.anew(one.directories, one.key, keep_loopback=one.keep_loopback)
        self._mend()
        if not self._standing:
            self._pins.remove()

    def _find(self, one: _Standing) -> list[str]:
        if self._unified is None:
            return []
        return list(cgroups.find(self._unified.point, one.name))

    def _mend(self) -> None:
        """Sees to it that the filter on the first cgroup holds what stands, and nothing else."""
        if not self._standing:
            return
        with Descriptor(self._filter.open()) as table:
            wanted = {cookie for one in self._standing.values() for cookie in one.cookies}
            there = {COOKIE.unpack(key)[0] for key in bpf.keys(table, COOKIE.size)}
            self._write(table, wanted | there)

    # -- isolating

    def isolate(self, process: ProcessHandle, *, keep_loopback: bool) -> None:
        """As Isolator.isolate."""
        key = f"{process.pid}-{process.start}"
        before = self._standing.get(key)
        one = _Standing(process.pid, process.start, keep_loopback)
        try:
            if before is not None:
                self._isolate_again(before, keep_loopback)
            else:
                self._isolate(one)
        except OSError as error:
            raise self._translated(error, process) from error

    def _translated(self, error: OSError, process: ProcessHandle) -> PlatformError:
        what = f"isolating process {process.pid}"
        try:
            gone = cgroups.start_of(process.pid) != process.start
        except OSError:
            gone = True
        if gone:
            return NoSuchTarget(f"{what}: it has ended")
        if error.errno in (errno.ESRCH, errno.ENOENT):  # of something else than the process
            error = OSError(errno.EIO, f"{error.strerror}: {error.filename}")
        return translate(error, what)

    def _isolate(self, one: _Standing) -> None:
        try:
            self._pins.make()
            place = self._begin(one)
        except BaseException:
            if not self._standing:
                self._pins.remove()
            raise
        sockets = Sockets()
        try:
            with Descriptor(self._filter.open()) as table:
                self._cut(one, place, sockets)
                self._hold(one, table, place, sockets.cookies)
            sockets.end_what_no_cookie_stops()
            self._pins.set_mark(place, one.keep_loopback)
            for directory in one.directories:
                cgroups.thaw(directory)
            self._pins.finish(place, one.key)
        except BaseException:
            self._undo(one, place)
            raise
        finally:
            sockets.close()
            self._thaw(one)
        self._standing[one.key] = one

    def _begin(self, one: _Standing) -> str:
        """The place of one that is being made; what could not be undone there is undone first."""
        for key in self._pins.unfinished():
            if key.endswith(f"-{one.key}"):
                left = _Standing(one.pid, one.start, keep_loopback=False)
                left.directories = self._find(left)
                self._take_away(left, self._pins.directory(key))
        return self._pins.begin(one.key)

    def _undo(self, one: _Standing, place: str) -> None:
        """Back to how it was. What cannot be undone is logged: the error in hand goes first."""
        self._standing.pop(one.key, None)
        try:
            self._take_away(one, place)
            if not self._standing:
                self._pins.remove()
        except OSError as error:
            _log.error("process %d is left half isolated: %s", one.pid, error)

    def _isolate_again(self, one: _Standing, keep_loopback: bool) -> None:
        """The same once more: with what has come since, and perhaps with another rule."""
        place = self._pins.directory(one.key)
        was = one.keep_loopback
        sockets = Sockets()
        try:
            with Descriptor(self._filter.open()) as table:
                one.keep_loopback = keep_loopback
                self._cut(one, place, sockets)
                self._links.follow(one.key, keep_loopback=one.keep_loopback)
                self._hold(one, table, place, sockets.cookies)
                self._write(table, one.cookies)
            sockets.end_what_no_cookie_stops()
            self._pins.set_mark(place, keep_loopback)
            for directory in one.directories:
                cgroups.thaw(directory)
        except BaseException:
            one.keep_loopback = was
            with suppress(OSError):
                self._links.follow(one.key, keep_loopback=one.keep_loopback)
                self._mend()
            raise
        finally:
            sockets.close()
            self._thaw(one)

    def _cut(self, one: _Standing, place: str, sockets: Sockets) -> None:
        """Puts the process and its descendants, standing still, where the programs are."""
        end = time.monotonic() + FREEZING_SECONDS
        frozen: set[str] = set()

        def visit(pid: int) -> None:
            try:
                if pid == one.pid or self._may_be_touched(pid):
                    put(pid)
            except FileNotFoundError as error:
                if not cgroups.is_zombie(pid):  # its cgroup has gone, and not the process itself
                    raise OSError(errno.EBUSY, f"{error.strerror}: {error.filename}") from error

        def put(pid: int) -> None:
            directory, inside = self._directory_for(one, pid)
            if directory not in frozen:
                if cgroups.create(directory) or directory not in one.directories:
                    if directory not in one.directories:
                        one.directories.append(directory)
                    index = one.directories.index(directory)
                    keep = one.keep_loopback
                    self._links.attach(directory, place, keep_loopback=keep, index=index)
                cgroups.write(directory, cgroups.FREEZE, 1)
                frozen.add(directory)
            if not inside:
                cgroups.move(directory, pid)
            if not cgroups.wait_frozen(directory, max(0.0, end - time.monotonic())):
                _log.warning("process %d does not stand still within the time", pid)
            sockets.take(pid)

        if cgroups.start_of(one.pid) != one.start:
            raise ProcessLookupError(errno.ESRCH, "it has ended")
        cgroups.each_of_tree(one.pid, visit)
        if cgroups.start_of(one.pid) != one.start:
            raise ProcessLookupError(errno.ESRCH, "it has ended")

    def _may_be_touched(self, pid: int) -> bool:
        """Of a descendant; a process that has ended needs nothing."""
        try:
            process = LinuxProcess(pid, self._guard)
        except NoSuchTarget:
            return False
        try:
            return not process.refusal()
        except NoSuchTarget:
            return False
        finally:
            process.close()

    def _directory_for(self, one: _Standing, pid: int) -> tuple[str, bool]:
        """Where a process is cut off: below its own cgroup; and whether it is there already."""
        if self._unified is None:
            raise OSError(errno.EOPNOTSUPP, "no cgroup hierarchy of version 2 is mounted")
        parent = self._unified.of(pid)
        before, found, _ = (parent + "/").partition(f"/{one.name}/")
        if found:
            return f"{before}/{one.name}", True
        return cgroups.child(parent, PURPOSE, one.pid, one.start), False

    # -- old sockets

    def _hold(self, one: _Standing, table: int, place: str, cookies: set[int]) -> None:
        """Notes which old sockets are this isolation's, then drops their packets."""
        new = cookies - one.cookies
        if not new:
            return
        own = bpf.create_hash(
            "asyd_own", key_size=COOKIE.size, value_size=MARK.size, entries=len(new)
        )
        with Descriptor(own):
            for cookie in new:
                bpf.update(own, COOKIE.pack(cookie), MARK.pack(0))
            bpf.pin(own, self._pins.free(place, "own"))
        one.cookies |= new
        for cookie in new:
            mark = min(one.mark, self._mark(cookie) or one.mark)
            bpf.update(table, COOKIE.pack(cookie), MARK.pack(mark))

    def _mark(self, cookie: int) -> int:
        """What the map has to say of a socket, of all isolations that have it; 0: nothing."""
        marks = [one.mark for one in self._standing.values() if cookie in one.cookies]
        return min(marks, default=0)

    def _write(self, table: int, cookies: set[int]) -> None:
        """Has the map say of each of these sockets what it has to."""
        for cookie in cookies:
            mark = self._mark(cookie)
            if mark:
                bpf.update(table, COOKIE.pack(cookie), MARK.pack(mark))
            else:
                bpf.delete(table, COOKIE.pack(cookie))

    # -- releasing

    def release(self, pid: int, start: int) -> bool:
        """As Isolator.release."""
        one = self._standing.get(f"{pid}-{start}")
        if one is None:
            return False
        try:
            one.directories = self._find(one)
            place = self._pins.abandon(one.key)
            del self._standing[one.key]
            self._take_away(one, place)
            if not self._standing:
                self._pins.remove()
        except OSError as error:
            raise node_failure(error, f"releasing process {pid}") from error
        return True

    def _take_away(self, one: _Standing, place: str) -> None:
        """Takes an isolation away that does not count among those that stand any more."""
        self._thaw(one)
        cookies = set(one.cookies)
        for path in self._pins.tables_in(place):
            with Descriptor(bpf.get(path)) as own:
                cookies |= {COOKIE.unpack(key)[0] for key in bpf.keys(own, COOKIE.size)}
        if cookies:
            with suppress(FileNotFoundError), Descriptor(bpf.get(self._pins.table)) as table:
                self._write(table, cookies)
        self._pins.remove_links(place)
        for directory in one.directories:
            cgroups.let_go(directory)
        self._pins.remove_isolation(place)

    def _thaw(self, one: _Standing) -> None:
        """Once more, or after something else has failed, which goes first."""
        for directory in one.directories:
            try:
                cgroups.thaw(directory)
            except OSError as error:
                _log.error("%s cannot be thawed: %s", directory, error)
