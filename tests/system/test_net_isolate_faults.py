"""Whatever fails while a process is isolated or released, nothing is left half done."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from asys.node.platform import privileges
from asys.node.platform.base import PlatformError, SystemFailure
from asys.node.platform.isolation import bpf
from asys.node.platform.isolation import isolator as isolation
from asys.node.platform.isolation.isolator import LinuxIsolator
from asys.node.platform.processes import cgroups
from asys.protocol.status import SW
from support.cgroup import cgroup, unified
from support.isolating import (
    GUARD,
    Isolating,
    isolating,
    isolation_missing,
    place_of,
    stands_still,
)
from support.talker import Talker, Wire

pytestmark = pytest.mark.skipif(bool(isolation_missing()), reason=isolation_missing())

MOST_STEPS: Final = 200

STEPS: Final[tuple[tuple[Any, tuple[str, ...]], ...]] = (
    (bpf, ("attach", "pin", "get", "replace", "update", "create_hash", "load", "mount")),
    (cgroups, ("write", "move", "create")),
    (os, ("rename",)),
)


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with Wire() as made:
        yield made


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Isolating]:
    with isolating(tmp_path) as one:
        yield one


@pytest.fixture
def talker(wire: Wire) -> Iterator[Talker]:
    one = wire.talker()
    with cgroup(unified()) as place:
        cgroups.move(place, one.pid)
        one.do("tcp", "old", *wire.tcp4)
        one.do("tcp", "local", *wire.local_tcp4)
        one.child("child")
        yield one
        one.end()


@contextmanager
def failing(step: int) -> Iterator[list[int]]:
    """The kernel refuses one step of many; how many were left when it was over."""
    left = [step]

    def stepping(function: Callable[..., Any]) -> Callable[..., Any]:
        def once(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return function(*arguments, **options)

        return once

    with pytest.MonkeyPatch.context() as patch:
        for module, names in STEPS:
            for name in names:
                patch.setattr(module, name, stepping(getattr(module, name)))
        yield left


def refused(talker: Talker, address: tuple[str, int]) -> bool:
    try:
        talker.do("tcp", "new", *address)
    except PermissionError:
        return True
    return False


def test_while_it_isolates(wire: Wire, made: Isolating, talker: Talker) -> None:
    home = place_of(talker.pid)
    isolator = made.isolator()
    answers = set()
    for step in count(1):
        assert step < MOST_STEPS
        try:
            with failing(step):
                isolated = made.isolate(isolator, talker.pid)
        except SystemFailure as error:
            answers.add(error.sw)
        else:
            break
        assert isolator.standing() == ()
        assert made.left == []
        assert place_of(talker.pid) == home
        assert not stands_still(talker.pid)
        assert talker.echoes("old")
        assert not refused(talker, wire.tcp4)
    assert step > 20
    assert answers == {SW.NODE_IO_ERROR}
    assert refused(talker, wire.tcp4)
    assert isolator.release(*isolated)


def test_while_it_isolates_again(wire: Wire, made: Isolating, talker: Talker) -> None:
    isolator = made.isolator()
    isolated = made.isolate(isolator, talker.pid)
    talker.do("send", "local", "unheard")
    for step in count(1):
        assert step < MOST_STEPS
        try:
            with failing(step):
                made.isolate(isolator, talker.pid, keep_loopback=True)
        except SystemFailure:
            (one,) = isolator.standing()
            assert not one.keep_loopback
            assert not stands_still(talker.pid)
            assert refused(talker, wire.tcp4)
            assert refused(talker, wire.local_tcp4)
        else:
            break
    assert step > 10
    assert talker.do("recv", "local") == "unheard"
    assert refused(talker, wire.tcp4)
    assert isolator.release(*isolated)


def test_while_it_releases(wire: Wire, made: Isolating, talker: Talker) -> None:
    """What could not be taken away is at the next try, be it by this asyd or the next."""
    isolator = made.isolator()
    for step in count(1):
        assert step < MOST_STEPS
        isolated = made.isolate(isolator, talker.pid)
        with failing(step) as left, suppress(SystemFailure):
            assert isolator.release(*isolated)
        if left[0] > 0:
            break
        if step % 2:
            isolator = made.isolator()
        isolator.release(*isolated)
        isolated = made.isolate(isolator, talker.pid)
        assert refused(talker, wire.tcp4)
        assert isolator.release(*isolated)
        assert made.left == []
        assert talker.echoes("old")
    assert step > 3
    assert made.left == []


@pytest.mark.parametrize(
    ("number", "sw"),
    [
        (errno.EPERM, SW.DENIED),
        (errno.EOPNOTSUPP, SW.NOT_SUPPORTED),
        (errno.ENOENT, SW.NODE_IO_ERROR),  # of something else than the process
        (errno.ESRCH, SW.NODE_IO_ERROR),
        (errno.ENOMEM, SW.NODE_OUT_OF_MEMORY),
    ],
)
def test_what_the_agent_is_told(made: Isolating, talker: Talker, number: int, sw: SW) -> None:
    isolator = made.isolator()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpf, "pin", _raising(number))
        with pytest.raises(PlatformError) as caught:
            made.isolate(isolator, talker.pid)
    assert caught.value.sw is sw
    assert made.left == []


def _raising(number: int) -> Callable[..., Any]:
    def refuse(*arguments: object, **options: object) -> Any:
        raise OSError(number, os.strerror(number))

    return refuse


def test_what_cannot_be_looked_for(made: Isolating, talker: Talker) -> None:
    isolated = made.isolate(made.isolator(), talker.pid)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpf, "get", _raising(errno.EIO))
        with pytest.raises(SystemFailure, match="looking for isolations"):
            LinuxIsolator(made.directory, GUARD).recover()
    assert made.isolator().release(*isolated)


def test_what_does_not_stand_still_in_time_is_taken_as_it_is(
    wire: Wire, made: Isolating, talker: Talker, caplog: pytest.LogCaptureFixture
) -> None:
    isolator = made.isolator()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(isolation, "FREEZING_SECONDS", 0.0)
        patch.setattr(cgroups, "wait_frozen", lambda directory, timeout: False)
        isolated = made.isolate(isolator, talker.pid)
    assert "does not stand still" in caplog.text
    assert refused(talker, wire.tcp4)
    assert isolator.release(*isolated)


def test_a_cgroup_that_goes_while_its_process_stays(made: Isolating, talker: Talker) -> None:
    isolator = made.isolator()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cgroups, "create", _raising(errno.ENOENT))
        with pytest.raises(SystemFailure) as caught:
            made.isolate(isolator, talker.pid)
    assert caught.value.sw is SW.NODE_BUSY
    assert made.left == []


LACKS: Final[dict[str, tuple[object, str, object]]] = {
    "its number is not known": (bpf, "lack", lambda: "its number is not known"),
    "no cgroup hierarchy of version 2": (cgroups, "mounted", cgroups.Hierarchies),
    "cannot be written": (os, "access", lambda path, mode: False),
    "no CAP_SYS_PTRACE": (
        privileges,
        "has",
        lambda capability: capability != privileges.CAP_SYS_PTRACE,
    ),
    "links programs to cgroups": (bpf, "knows_links", lambda program: False),
    "Operation not permitted": (bpf, "load", _raising(errno.EPERM)),
}


@pytest.mark.parametrize("reason", LACKS)
def test_a_machine_that_cannot(
    tmp_path: Path, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*LACKS[reason])
    isolator = LinuxIsolator(tmp_path, GUARD)
    assert reason.removeprefix("links ") in isolator.lack
    isolator.close()


def test_pins_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asys.node.platform.privileges.has", lambda capability: False)
    monkeypatch.setattr(bpf, "is_mounted", lambda path: False)
    assert "CAP_SYS_ADMIN" in LinuxIsolator(tmp_path, GUARD).lack
