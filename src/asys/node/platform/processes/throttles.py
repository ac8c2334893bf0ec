"""How Linux stops processes: by signals, by the freezer of cgroup v2, or by a quota of CPU time.

Freezer and quota hold a process with its descendants, also with those to come: they are moved into
a child of the cgroup in which they are, and back when they are let go. A descendant that has a
cgroup of its own gets a child in there. All children of one stop have one name, made of the PID and
the start of the process, and are found by it: so they can be lifted whatever asyd has forgotten.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import closing, suppress
from typing import Final, Protocol

from asys.node.platform.base import (
    NoSuchTarget,
    PlatformError,
    ProcessHandle,
    Unsupported,
    translate,
)
from asys.node.platform.processes import cgroups
from asys.node.platform.processes.cgroups import Hierarchies, Hierarchy
from asys.node.platform.processes.process import Guard, LinuxProcess
from asys.node.platform.processes.signals import SIGNAL, SignalThrottler

PURPOSE: Final = "throttle"

PERIOD_US: Final = 100_000
"""Over which a quota counts, in microseconds: what the kernel itself begins with."""

LEAST_QUOTA_US: Final = 1000
"""What the kernel takes at least."""

QUOTA_V1: Final = "cpu.cfs_quota_us"
_PERIOD_V1: Final = "cpu.cfs_period_us"
QUOTA_V2: Final = "cpu.max"
_ENABLED: Final = "cgroup.subtree_control"


class Force(Protocol):
    """What a cgroup does to those in it. OSError from all methods."""

    hierarchy: Hierarchy

    def apply(self, directory: str) -> None:
        """From now on; before anybody is moved into it."""

    def lift(self, directory: str) -> None:
        """Not any more; before those in it are moved away."""

    def tidy(self, parent: str) -> None:
        """A child of `parent` has gone."""

    def is_on(self, directory: str) -> bool:
        """Whether it is in force."""


class Frozen:
    """The freezer of version 2: nobody runs, and a stray SIGCONT changes nothing."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        self.hierarchy = hierarchy

    def apply(self, directory: str) -> None:
        """As Force.apply."""
        cgroups.write(directory, cgroups.FREEZE, 1)

    def lift(self, directory: str) -> None:
        """As Force.lift."""
        cgroups.thaw(directory)

    def tidy(self, parent: str) -> None:
        """As Force.tidy."""

    def is_on(self, directory: str) -> bool:
        """As Force.is_on."""
        return cgroups.read(directory, cgroups.FREEZE).strip() == "1"


class QuotaV1:
    """cpu.cfs_quota_us of version 1."""

    def __init__(self, hierarchy: Hierarchy, percent: int) -> None:
        self.hierarchy = hierarchy
        self._percent = percent

    def apply(self, directory: str) -> None:
        """As Force.apply. No cgroup may have more than one above it, so it has less then."""
        quota = self._percent * PERIOD_US // 100
        above = os.path.dirname(directory)
        while len(above) > len(self.hierarchy.point):
            limit = int(cgroups.read(above, QUOTA_V1))
            if limit >= 0:
                quota = min(quota, limit * PERIOD_US // int(cgroups.read(above, _PERIOD_V1)))
            above = os.path.dirname(above)
        cgroups.write(directory, _PERIOD_V1, PERIOD_US)
        cgroups.write(directory, QUOTA_V1, max(quota, LEAST_QUOTA_US))

    def lift(self, directory: str) -> None:
        """As Force.lift."""
        with suppress(FileNotFoundError):
            cgroups.write(directory, QUOTA_V1, -1)

    def tidy(self, parent: str) -> None:
        """As Force.tidy."""

    def is_on(self, directory: str) -> bool:
        """As Force.is_on."""
        return int(cgroups.read(directory, QUOTA_V1)) >= 0


class QuotaV2:
    """cpu.max of version 2.

    A cgroup there cannot have processes of its own and children with controllers, unless these are
    threaded, as the cpu controller lets them be. So the process stays in the memory and the service
    that it belongs to. It cannot be had below a cgroup whose children have other controllers.
    """

    def __init__(self, hierarchy: Hierarchy, percent: int) -> None:
        self.hierarchy = hierarchy
        self._percent = percent

    def apply(self, directory: str) -> None:
        """As Force.apply."""
        parent = os.path.dirname(directory)
        for above in self._from_the_top(parent):
            if "cpu" not in cgroups.read(above, _ENABLED).split():
                if above == parent != self.hierarchy.point:
                    cgroups.write(directory, cgroups.TYPE, "threaded")
                cgroups.write(above, _ENABLED, "+cpu")
        cgroups.write(directory, QUOTA_V2, f"{self._percent * PERIOD_US // 100} {PERIOD_US}")

    def _from_the_top(self, directory: str) -> list[str]:
        found = [directory]
        while len(found[0]) > len(self.hierarchy.point):
            found.insert(0, os.path.dirname(found[0]))
        return found

    def lift(self, directory: str) -> None:
        """As Force.lift."""
        with suppress(FileNotFoundError):
            cgroups.write(directory, QUOTA_V2, f"max {PERIOD_US}")

    def tidy(self, parent: str) -> None:
        """As Force.tidy: what is left without threaded children is as it was before the first."""
        with suppress(FileNotFoundError):
            if cgroups.read(parent, cgroups.TYPE).strip() == "domain threaded" and not _below(
                parent
            ):
                cgroups.write(parent, _ENABLED, "-cpu")

    def is_on(self, directory: str) -> bool:
        """As Force.is_on."""
        return not cgroups.read(directory, QUOTA_V2).startswith("max")


class LinuxThrottler:
    """A Throttler of one way, that lets go what was stopped in any."""

    def __init__(self, how: str, guard: Guard, hierarchies: Hierarchies) -> None:
        """Where the way cannot be had, `lack` says why."""
        self.how = how
        self.quick = how == SIGNAL
        self._guard = guard
        self._hierarchies = hierarchies
        self._signals = SignalThrottler()
        self.lack = "" if self.quick else self._lack()

    def stop(self, process: ProcessHandle, users: Collection[int] | None = None) -> str:
        """As Throttler.stop."""
        if self.quick:
            return self._signals.stop(process)
        what = f"stopping process {process.pid}"
        force = force_of(self.how, self._hierarchies)
        name = os.path.basename(cgroups.child("", PURPOSE, process.pid, process.start))
        made: list[str] = []
        ready: set[str] = set()

        def move(pid: int) -> None:
            if pid != process.pid and self._runs_on(pid, users):
                return
            now = force.hierarchy.of(pid)
            if name in now.split("/"):
                return
            directory = cgroups.child(now, PURPOSE, process.pid, process.start)
            if directory not in ready:
                if cgroups.create(directory):
                    made.append(directory)
                force.apply(directory)
                ready.add(directory)
            cgroups.move(directory, pid)

        try:
            for directory in cgroups.find(force.hierarchy.point, name):
                cgroups.create(directory)  # it may be the shell of one that was let go
                force.apply(directory)
            cgroups.each_of_tree(process.pid, move)
            if cgroups.start_of(process.pid) != process.start:
                raise NoSuchTarget(f"process {process.pid} has ended")
        except (OSError, PlatformError) as error:
            for directory in reversed(made):
                with suppress(OSError):  # the first fault is told
                    _lift(force, directory)
            raise error if isinstance(error, PlatformError) else translate(error, what) from error
        return name

    def _runs_on(self, pid: int, users: Collection[int] | None) -> bool:
        """Whether a descendant is nobody's to touch, or not this agent's."""
        try:
            with closing(LinuxProcess(pid, self._guard)) as process:
                if process.refusal():
                    return True
                return users is not None and not set(users).issuperset(process.read_owners())
        except (PlatformError, OSError):
            return True  # it has ended

    def release(self, process: ProcessHandle | None, how: str, place: str) -> None:
        """As Throttler.release."""
        if how == SIGNAL:
            self._signals.release(process, how, place)
            return
        if not place and process is not None:
            place = os.path.basename(cgroups.child("", PURPOSE, process.pid, process.start))
        try:
            force = force_of(how, self._hierarchies)
            found = list(cgroups.find(force.hierarchy.point, place))
            for directory in found:
                _lift(force, directory)
        except OSError as error:
            raise translate(error, f"letting go what is in {place}") from error
        if not found and process is not None and process.suspended():
            process.resume()  # somebody has stopped it with a signal

    def is_held(self, process: ProcessHandle | None, how: str, place: str) -> bool:
        """As Throttler.is_held. What the process has left behind counts."""
        if how == SIGNAL:
            return self._signals.is_held(process, how, place)
        try:
            force = force_of(how, self._hierarchies)
            if process is not None and not process.zombie:
                where = force.hierarchy.of(process.pid)
                return any(
                    os.path.basename(one) == place and force.is_on(one)
                    for one in _upwards(where, force.hierarchy.point)
                )
            return any(
                force.is_on(one) and any(cgroups.members(below) for below in _with_all_below(one))
                for one in cgroups.find(force.hierarchy.point, place)
            )
        except FileNotFoundError:
            return False
        except OSError as error:
            raise translate(error, f"looking at {place}") from error

    def _lack(self) -> str:
        """Why cgroups cannot be made here, or do not do what is wanted; tried out."""
        asked = f"--throttle={self.how}"
        try:
            force = force_of(self.how, self._hierarchies)
            try:
                parent = force.hierarchy.of(os.getpid())
            except OSError:  # asyd itself is outside of what is mounted
                parent = force.hierarchy.point
            directory = cgroups.child(parent, "probe", os.getpid(), 0)
            cgroups.create(directory)
            try:
                force.apply(directory)
                force.lift(directory)
            finally:
                os.rmdir(directory)
                force.tidy(parent)
        except PlatformError as error:
            return f"{asked}: {error}"
        except OSError as error:
            return f"{asked}: asyd cannot hold a cgroup so: {error.strerror}"
        return ""


def throttler(how: str, guard: Guard, hierarchies: Hierarchies | None = None) -> LinuxThrottler:
    """How processes are stopped, given as in Throttler.how."""
    if hierarchies is None:
        try:
            hierarchies = cgroups.mounted()
        except OSError:  # /proc does not say
            hierarchies = Hierarchies()
    return LinuxThrottler(how, guard, hierarchies)


def force_of(how: str, hierarchies: Hierarchies) -> Force:
    """The force behind `freeze` or `cpu:PERCENT`. Unsupported: this machine has it not."""
    unified, version1 = hierarchies.unified, hierarchies.version1
    if how == "freeze":
        if unified is None:
            raise Unsupported("cgroup v2 is not mounted")
        return Frozen(unified)
    percent = int(how.removeprefix("cpu:"))
    try:
        if unified and "cpu" in cgroups.read(unified.point, "cgroup.controllers").split():
            return QuotaV2(unified, percent)
    except OSError as error:
        raise translate(error, f"looking at {unified.point if unified else ''}") from error
    if "cpu" in version1:
        return QuotaV1(version1["cpu"], percent)
    raise Unsupported("there is no cpu controller, neither of cgroup v2 nor of v1")


def _lift(force: Force, directory: str) -> None:
    """Takes the force from a child of asyd's, and everybody out of it."""
    force.lift(directory)
    cgroups.let_go(directory)
    force.tidy(os.path.dirname(directory))


def _upwards(directory: str, point: str) -> list[str]:
    found = []
    while len(directory) > len(point):
        found.append(directory)
        directory = os.path.dirname(directory)
    return found


def _with_all_below(directory: str) -> list[str]:
    return [where for where, _, _ in os.walk(directory)]


def _below(directory: str) -> bool:
    with os.scandir(directory) as entries:
        return any(entry.is_dir(follow_symlinks=False) for entry in entries)
