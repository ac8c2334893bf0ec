"""Processes cut off a real network: what they had, what they make, what their children make."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from asys.node.platform.base import NoSuchTarget
from asys.node.platform.isolation.isolator import LinuxIsolator
from asys.node.platform.processes import cgroups
from asys.node.platform.processes.process import Guard, LinuxProcess
from support.cgroup import cgroup, unified
from support.isolating import (
    Isolating,
    cgroups_of,
    held,
    isolating,
    isolation_missing,
    mounts_below,
    place_of,
    stands_still,
)
from support.talker import FAR_4, FAR_6, NEAR_4, Talker, Wire

pytestmark = pytest.mark.skipif(bool(isolation_missing()), reason=isolation_missing())


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with Wire() as made:
        yield made


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Isolating]:
    with isolating(tmp_path) as one:
        yield one


@pytest.fixture
def isolator(made: Isolating) -> LinuxIsolator:
    return made.isolator()


@pytest.fixture
def talker(wire: Wire) -> Iterator[Talker]:
    one = wire.talker()
    yield one
    one.end()


@pytest.fixture
def bystander(wire: Wire) -> Iterator[Talker]:
    """Another process at the same end of the wire."""
    one = wire.talker()
    one.do("tcp", "own", *wire.tcp4)
    yield one
    one.end()


def refused(talker: Talker, verb: str, *arguments: object) -> bool:
    """Whether the system itself refuses it at once."""
    with pytest.raises(PermissionError) as caught:
        talker.do(verb, *arguments)
    return bool(caught.value.errno == errno.EPERM)


def silent(wire: Wire, talker: Talker, bystander: Talker, name: str) -> bool:
    """Whether nothing comes back of what is sent over a connection."""
    talker.do("send", name, "unheard")
    wire.settle(bystander, "own")
    return bool(talker.do("peek", name) == "")


def test_what_it_had_and_what_it_makes_is_cut_and_comes_back(
    wire: Wire, made: Isolating, isolator: LinuxIsolator, talker: Talker, bystander: Talker
) -> None:
    talker.do("tcp", "old4", *wire.tcp4)
    talker.do("tcp", "old6", *wire.tcp6)
    talker.do("udp", "connected4", *wire.udp4)
    talker.do("udp", "connected6", *wire.udp6)
    talker.do("udp", "free4", FAR_4)
    talker.do("udp", "free6", FAR_6)
    for name in ("old4", "old6", "connected4", "connected6"):
        assert talker.echoes(name)
    talker.do("send", "free4", "hello", *wire.udp4)
    assert talker.do("recv", "free4") == "hello"

    isolated = made.isolate(isolator, talker.pid)
    for name in ("old4", "old6"):
        assert silent(wire, talker, bystander, name)
    for name in ("connected4", "connected6"):
        assert refused(talker, "send", name, "unheard")
    assert refused(talker, "send", "free4", "unheard", *wire.udp4)
    assert refused(talker, "send", "free6", "unheard", *wire.udp6)
    assert refused(talker, "tcp", "new4", *wire.tcp4)
    assert refused(talker, "tcp", "new6", *wire.tcp6)
    assert refused(talker, "udp", "new4", *wire.udp4)
    assert refused(talker, "udp", "new6", *wire.udp6)
    assert not stands_still(talker.pid)

    assert isolator.release(*isolated)
    for name in ("old4", "old6"):
        assert talker.do("recv", name) == "unheard"  # the same connection goes on
        assert talker.echoes(name)
    for name in ("connected4", "connected6"):
        assert talker.echoes(name)
    talker.do("send", "free6", "hello", *wire.udp6)
    assert talker.do("recv", "free6") == "hello"
    talker.do("tcp", "again", *wire.tcp4)
    assert talker.echoes("again")
    assert not isolator.release(*isolated)
    assert cgroups_of(*isolated) == []
    assert mounts_below(made.directory) == []


def test_what_is_sent_to_it_does_not_arrive(
    wire: Wire, made: Isolating, isolator: LinuxIsolator, talker: Talker, bystander: Talker
) -> None:
    far = wire.talker(far=True)
    port = talker.do("listen", "listening", NEAR_4)
    far.do("tcp", "open", NEAR_4, port)
    talker.do("accept", "listening", "open")
    isolated = made.isolate(isolator, talker.pid)
    far.do("send", "open", "unheard")
    wire.settle(bystander, "own")
    assert talker.do("peek", "open") == ""
    assert isolator.release(*isolated)
    assert talker.do("recv", "open") == "unheard"
    far.end()


def test_a_connection_that_was_not_accepted_yet_is_ended(
    wire: Wire, made: Isolating, isolator: LinuxIsolator, talker: Talker
) -> None:
    """It has no descriptor, and so would pass when the process accepts it later."""
    far = wire.talker(far=True)
    port = talker.do("listen", "listening", NEAR_4)
    far.do("tcp", "waits", NEAR_4, port)
    assert talker.do("waiting", "listening")
    isolated = made.isolate(isolator, talker.pid)
    assert not talker.do("waiting", "listening")
    assert isolator.release(*isolated)
    far.do("tcp", "next", NEAR_4, port)
    talker.do("accept", "listening", "next")
    far.do("send", "next", "hello")
    assert talker.do("recv", "next") == "hello"
    far.end()


MPTCP = 262


def test_a_connection_of_multipath_tcp_is_ended(
    wire: Wire, made: Isolating, isolator: LinuxIsolator, talker: Talker, bystander: Talker
) -> None:
    """Its packets belong to sockets that no descriptor shows."""
    try:
        talker.do("tcp", "many", *wire.tcp4, MPTCP)
        port = talker.do("listen", "listening", NEAR_4, MPTCP)
    except OSError as error:
        pytest.skip(f"needs Multipath TCP: {error}")
    assert talker.echoes("many")
    far = wire.talker(far=True)
    isolated = made.isolate(isolator, talker.pid)
    with pytest.raises(BrokenPipeError):
        talker.do("send", "many", "unheard")
    with pytest.raises(ConnectionRefusedError):
        far.do("tcp", "in", NEAR_4, port)
    far.end()
    assert isolator.release(*isolated)


def test_children_are_cut_whenever_they_came(
    wire: Wire, made: Isolating, isolator: LinuxIsolator, talker: Talker, bystander: Talker
) -> None:
    before = talker.child("before")
    grandchild = before.child("grandchild")
    for one in (before, grandchild):
        one.do("tcp", "old", *wire.tcp4)
        assert one.echoes("old")
    isolated = made.isolate(isolator, talker.pid)
    later = before.child("later")
    for one in (before, grandchild):
        assert silent(wire, one, bystander, "old")
        assert refused(one, "tcp", "new", *wire.tcp4)
    assert refused(later, "tcp", "new", *wire.tcp4)
    assert bystander.echoes("own")
    assert isolator.release(*isolated)
    for one in (before, grandchild):
        assert one.do("recv", "old") == "unheard"
    later.do("tcp", "new", *wire.tcp4)
    assert later.echoes("new")


def test_loopback_is_kept_or_not(
    wire: Wire, made: Isolating, isolator: LinuxIsolator, talker: Talker, bystander: Talker
) -> None:
    talker.do("tcp", "local4", *wire.local_tcp4)
    talker.do("udp", "local6", *wire.local_udp6)
    talker.do("tcp", "old", *wire.tcp4)
    bystander.do("tcp", "own", *wire.local_tcp4)  # what the others' packets are waited for with
    isolated = made.isolate(isolator, talker.pid, keep_loopback=True)
    assert talker.echoes("local4")
    assert talker.echoes("local6")
    talker.do("tcp", "new4", *wire.local_tcp4)
    talker.do("tcp", "new6", *wire.local_tcp6)
    talker.do("tcp", "mapped", "::ffff:127.0.0.1", wire.local_tcp4[1])
    talker.do("tcp", "any4", "0.0.0.0", wire.local_tcp4[1])  # noqa: S104  connecting, not binding
    talker.do("tcp", "any6", "::", wire.local_tcp6[1])
    for name in ("new4", "new6", "mapped", "any4", "any6"):
        assert talker.echoes(name)
    talker.do("udp", "free", "127.0.0.1")
    talker.do("send", "free", "hello", *wire.local_udp4)
    assert talker.do("recv", "free") == "hello"
    assert refused(talker, "tcp", "out4", *wire.tcp4)
    assert refused(talker, "tcp", "out6", *wire.tcp6)
    assert refused(talker, "tcp", "out", f"::ffff:{FAR_4}", wire.tcp4[1])
    assert refused(talker, "send", "free", "unheard", *wire.udp4)
    assert refused(talker, "tcp", "own", NEAR_4, 1)  # this machine, and not loopback
    assert silent(wire, talker, bystander, "old")

    assert made.isolate(isolator, talker.pid) == isolated  # once more, and without loopback
    assert silent(wire, talker, bystander, "local4")
    assert silent(wire, talker, bystander, "new4")
    assert refused(talker, "send", "local6", "unheard")
    assert refused(talker, "tcp", "new", *wire.local_tcp4)

    made.isolate(isolator, talker.pid, keep_loopback=True)
    assert talker.do("recv", "local4") == "unheard"
    assert talker.do("recv", "new4") == "unheard"
    assert isolator.release(*isolated)
    assert talker.do("recv", "old") == "unheard"


def test_who_shares_its_cgroup_is_unharmed(
    wire: Wire, made: Isolating, isolator: LinuxIsolator, talker: Talker, bystander: Talker
) -> None:
    with cgroup(unified()) as place:
        for one in (talker, bystander):
            cgroups.move(place, one.pid)
        talker.do("tcp", "old", *wire.tcp4)
        bystander.do("tcp", "in the same", *wire.tcp4)
        isolated = made.isolate(isolator, talker.pid)
        assert place_of(bystander.pid) == place
        assert place_of(talker.pid) == cgroups.child(place, "isolate", *isolated)
        assert bystander.echoes("in the same")
        bystander.do("tcp", "new", *wire.tcp4)
        assert bystander.echoes("new")
        assert silent(wire, talker, bystander, "old")
        assert isolator.release(*isolated)
        assert place_of(talker.pid) == place
        assert os.listdir(place) == os.listdir(place)
        assert [one.name for one in os.scandir(place) if one.is_dir()] == []


def test_descendants_in_other_cgroups_stay_below_theirs(
    wire: Wire, made: Isolating, isolator: LinuxIsolator, talker: Talker, bystander: Talker
) -> None:
    child = talker.child("elsewhere")
    with cgroup(unified()) as first, cgroup(unified()) as second:
        cgroups.move(first, talker.pid)
        cgroups.move(second, child.pid)
        child.do("tcp", "old", *wire.tcp4)
        isolated = made.isolate(isolator, talker.pid)
        assert place_of(talker.pid) == cgroups.child(first, "isolate", *isolated)
        assert place_of(child.pid) == cgroups.child(second, "isolate", *isolated)
        assert silent(wire, child, bystander, "old")
        assert refused(child, "tcp", "new", *wire.tcp4)
        assert isolator.release(*isolated)
        assert (place_of(talker.pid), place_of(child.pid)) == (first, second)
        assert child.do("recv", "old") == "unheard"


def test_once_more_takes_in_what_has_come_since(
    wire: Wire, made: Isolating, isolator: LinuxIsolator, talker: Talker, bystander: Talker
) -> None:
    child = talker.child("away")
    isolated = made.isolate(isolator, talker.pid)
    with cgroup(unified()) as place:
        cgroups.move(place, child.pid)  # as somebody with the rights to do so might
        child.do("tcp", "outside", *wire.tcp4)
        assert child.echoes("outside")
        made.isolate(isolator, talker.pid)
        assert silent(wire, child, bystander, "outside")
        assert refused(child, "tcp", "new", *wire.tcp4)
        assert isolator.release(*isolated)
        assert place_of(child.pid) == place
        assert child.do("recv", "outside") == "unheard"


@pytest.mark.parametrize("outer_first", [True, False])
def test_one_within_another(
    wire: Wire,
    made: Isolating,
    isolator: LinuxIsolator,
    talker: Talker,
    bystander: Talker,
    outer_first: bool,
) -> None:
    """A child of an isolated process is isolated by itself; each is released by itself."""
    child = talker.child("inner")
    child.do("tcp", "old", *wire.tcp4)
    outer = made.isolate(isolator, talker.pid)
    inner = made.isolate(isolator, child.pid)
    home = place_of(bystander.pid)
    assert silent(wire, child, bystander, "old")
    if outer_first:
        assert isolator.release(*outer)
        talker.do("tcp", "new", *wire.tcp4)
        assert talker.echoes("new")
    else:
        assert isolator.release(*inner)
        assert refused(talker, "tcp", "new", *wire.tcp4)
    assert refused(child, "tcp", "new", *wire.tcp4)
    wire.settle(bystander, "own")
    assert child.do("peek", "old") == ""
    assert isolator.release(*(inner if outer_first else outer))
    assert child.do("recv", "old") == "unheard"
    child.do("tcp", "new", *wire.tcp4)
    assert child.echoes("new")
    assert {place_of(talker.pid), place_of(child.pid)} == {home}
    assert cgroups_of(*outer) == cgroups_of(*inner) == []


@pytest.mark.parametrize("throttled_first", [True, False])
@pytest.mark.parametrize("isolated_last", [True, False])
def test_frozen_by_a_throttle_and_isolated(
    wire: Wire,
    made: Isolating,
    isolator: LinuxIsolator,
    talker: Talker,
    bystander: Talker,
    throttled_first: bool,
    isolated_last: bool,
) -> None:
    """In either order; letting go of one leaves the other in force."""
    talker.do("tcp", "old", *wire.tcp4)
    with cgroup(unified()) as place:
        cgroups.move(place, talker.pid)
        if not throttled_first:
            isolated = made.isolate(isolator, talker.pid)
        with held(talker.pid) as process:
            throttle = cgroups.child(place_of(talker.pid), "throttle", process.pid, process.start)
        cgroups.create(throttle)
        cgroups.freeze(throttle, 30.0)
        cgroups.move(throttle, talker.pid)
        assert cgroups.wait_frozen(throttle, 30.0)
        if throttled_first:
            isolated = made.isolate(isolator, talker.pid)
        assert stands_still(talker.pid)
        if isolated_last:
            cgroups.thaw(throttle)
            cgroups.let_go(throttle)
            assert refused(talker, "tcp", "new", *wire.tcp4)
            assert silent(wire, talker, bystander, "old")
            assert isolator.release(*isolated)
            assert talker.do("recv", "old") == "unheard"
        else:
            assert isolator.release(*isolated)
            assert stands_still(talker.pid)
            cgroups.thaw(throttle)
            cgroups.let_go(throttle)
        assert talker.echoes("old")
        assert place_of(talker.pid) == place
        assert [one.name for one in os.scandir(place) if one.is_dir()] == []


def test_a_process_that_has_ended_is_released_and_its_children_with_it(
    wire: Wire, made: Isolating, isolator: LinuxIsolator, talker: Talker
) -> None:
    child = talker.child("middle")
    orphan = child.do("sleeper")
    try:
        isolated = made.isolate(isolator, child.pid)
        child.end()
        assert [one.pid for one in isolator.standing()] == [isolated[0]]
        assert orphan in cgroups.members(cgroups_of(*isolated)[0])
        assert isolator.release(*isolated)
        assert "asyd-isolate" not in place_of(orphan)
        assert isolator.standing() == ()
    finally:
        os.kill(orphan, 9)


def test_a_thread_with_descriptors_of_its_own(
    wire: Wire, made: Isolating, isolator: LinuxIsolator, talker: Talker, bystander: Talker
) -> None:
    talker.do("hidden", *wire.tcp4)
    talker.do("hidden_send", "hello")
    assert talker.do("hidden_recv") == "hello"
    isolated = made.isolate(isolator, talker.pid)
    talker.do("hidden_send", "unheard")
    wire.settle(bystander, "own")
    assert not talker.do("hidden_heard")
    assert isolator.release(*isolated)
    assert talker.do("hidden_recv") == "unheard"


class Sparing(Guard):
    """Protects one process."""

    def __init__(self, pid: int) -> None:
        super().__init__("", frozenset(), 0)
        self.spared = pid

    def refusal(self, process: LinuxProcess) -> str:
        """As Guard.refusal."""
        return "spared" if process.pid == self.spared else ""


def test_descendants_that_nobody_may_touch_are_left_out(
    wire: Wire, made: Isolating, talker: Talker
) -> None:
    spared = talker.child("spared")
    below = spared.child("below")
    isolator = made.isolator(Sparing(spared.pid))
    isolated = made.isolate(isolator, talker.pid)
    spared.do("tcp", "new", *wire.tcp4)
    assert spared.echoes("new")
    assert refused(below, "tcp", "new", *wire.tcp4)
    assert isolator.release(*isolated)


def test_beside_and_below_threaded_cgroups(
    wire: Wire, made: Isolating, isolator: LinuxIsolator, talker: Talker, bystander: Talker
) -> None:
    """As PROC_THROTTLE makes them where the cpu controller is on version 2."""
    with cgroup(unified()) as place:
        os.mkdir(f"{place}/threaded")
        cgroups.write(f"{place}/threaded", cgroups.TYPE, "threaded")
        for home in (place, f"{place}/threaded"):
            cgroups.move(place, talker.pid)
            cgroups.move(home, talker.pid)
            isolated = made.isolate(isolator, talker.pid)
            assert place_of(talker.pid) == cgroups.child(home, "isolate", *isolated)
            assert refused(talker, "tcp", "new", *wire.tcp4)
            assert bystander.echoes("own")
            assert isolator.release(*isolated)
            assert place_of(talker.pid) == home


def test_a_process_that_has_ended_cannot_be_isolated(
    wire: Wire, made: Isolating, isolator: LinuxIsolator
) -> None:
    talker = wire.talker()
    with held(talker.pid) as process:
        talker.end()
        with pytest.raises(NoSuchTarget):
            isolator.isolate(process, keep_loopback=False)
    assert isolator.standing() == ()
    assert made.left == []


def test_unix_sockets_are_not_cut(made: Isolating, isolator: LinuxIsolator, talker: Talker) -> None:
    talker.do("pair", "one", "other")
    isolated = made.isolate(isolator, talker.pid)
    talker.do("send", "one", "hello")
    assert talker.do("recv", "other") == "hello"
    assert isolator.release(*isolated)


def test_a_process_that_is_stopped_by_a_signal(
    wire: Wire,
    made: Isolating,
    isolator: LinuxIsolator,
    talker: Talker,
    bystander: Talker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It counts as standing still, and is cut when somebody lets it go on."""
    talker.do("tcp", "old", *wire.tcp4)
    os.kill(talker.pid, signal.SIGSTOP)
    isolated = made.isolate(isolator, talker.pid)
    assert caplog.text == ""
    os.kill(talker.pid, signal.SIGCONT)
    assert silent(wire, talker, bystander, "old")
    assert refused(talker, "tcp", "new", *wire.tcp4)
    assert isolator.release(*isolated)
