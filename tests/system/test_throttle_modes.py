"""A real asyd that freezes processes or holds them to a part of a CPU: stop, restart, release."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from asys.node.platform.processes import cgroups
from asys.protocol.keys import PrivateKey
from support.asyd_cli import asyd_command, told
from support.cgroup import cgroup, unified, version1
from support.children import resumed, suspended, waiting
from support.daemon import AGENT, CORE_AGENT, Daemon, running
from support.family import Family, family
from support.frames import DENIED, HELLO, INVALID_PAYLOAD, NOT_SUPPORTED, OK
from support.lit import lit
from support.own_daemon import argv, config
from support.users import NOBODY

pytestmark = pytest.mark.root

LINES: Final = {AGENT: "agent caps=all", CORE_AGENT: f"user caps=all users={NOBODY}"}


@contextmanager
def asyd(config_dir: Path, *options: str) -> Iterator[Daemon]:
    """An asyd that may be killed; one that is not has to end well."""
    daemon = Daemon(config_dir, argv(config_dir, "--handshake-rate", "0", *options), read_log=True)
    try:
        daemon.await_ready()
        yield daemon
        if daemon.process.poll() is None:
            daemon.stop()
    finally:
        daemon.kill()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return config(tmp_path, LINES)


@pytest.fixture
def first() -> Iterator[Family]:
    """A process in a cgroup of its own, in both versions."""
    with cgroup(unified()) as new, cgroup(version1()) as old, family() as made:
        cgroups.move(new, made.pid)
        cgroups.move(old, made.pid)
        yield made


def order(daemon: Daemon, pid: int, action: int, key: PrivateKey = AGENT) -> bytes:
    """What an agent is answered to PROC_THROTTLE."""
    with daemon.connect(key) as agent:
        return agent.ask(agent.throttle(pid, action))


def held(config_dir: Path) -> list[dict[str, Any]]:
    """What `asyd throttled list` shows."""
    found = json.loads(told(config_dir, "throttled", "list", "--json"))["throttled"]
    assert isinstance(found, list)
    return found


def written(config_dir: Path) -> list[int]:
    """The PIDs in the file."""
    path = config_dir / "state" / "throttled.json"
    if not path.exists():
        return []
    return [one["pid"] for one in json.loads(path.read_text())["throttled"]]


def on_disk(config_dir: Path, pids: list[int]) -> None:
    """Returns when the file has these."""
    with subprocess.Popen(["sleep", "60"]) as patience:
        while written(config_dir) != pids:
            assert patience.poll() is None, written(config_dir)
        patience.kill()


@pytest.mark.parametrize("how", ["freeze", "cpu:20"])
def test_the_wire_is_the_same(directory: Path, first: Family, how: str) -> None:
    hierarchy = unified() if how == "freeze" else version1()
    room = hierarchy.of(first.pid)
    child = first.child()
    with asyd(directory, "--throttle", how) as daemon:
        assert order(daemon, first.pid, 0) == OK
        assert order(daemon, first.pid, 0) == OK
        place = hierarchy.of(first.pid)
        assert os.path.dirname(place) == room
        assert hierarchy.of(child) == place
        if how == "freeze":
            assert cgroups.wait_frozen(place, 60)
        else:
            assert cgroups.read(place, "cpu.cfs_quota_us") == "20000\n"
            assert hierarchy.of(first.child()) == place
        [one] = held(directory)
        assert (one["pid"], one["how"], one["agent"]) == (first.pid, how, "agent")

        assert order(daemon, first.pid, 1) == OK
        assert order(daemon, first.pid, 1) == OK
        assert hierarchy.of(first.pid) == hierarchy.of(child) == room
        assert not os.path.exists(place)
        assert held(directory) == []

        first.end()
        assert order(daemon, first.pid, 0) == INVALID_PAYLOAD


@pytest.mark.parametrize("how", ["signal", "freeze", "cpu:20"])
@pytest.mark.parametrize("running_again", [True, False], ids=["asyd", "no-asyd"])
def test_what_was_stopped_before_asyd_was_killed_is_let_go_after(
    directory: Path, first: Family, how: str, running_again: bool
) -> None:
    with asyd(directory, "--throttle", how) as daemon:
        assert order(daemon, first.pid, 0) == OK
        on_disk(directory, [first.pid])
        daemon.kill()
    rooms = [hierarchy.of(first.pid) for hierarchy in (unified(), version1())]
    if how == "signal":
        suspended(first.pid)
    else:
        assert any("asyd-throttle-" in room for room in rooms)

    if running_again:
        with asyd(directory) as daemon:  # in the usual way again
            daemon.wait_for("1 processes were stopped before")
            assert [one["how"] for one in held(directory)] == [how]
            assert told(directory, "throttled", "release", str(first.pid)) == "released: 1\n"
            assert held(directory) == []
    else:
        assert [one["how"] for one in held(directory)] == [how]
        assert told(directory, "throttled", "release", "--all") == "released: 1\n"
        assert held(directory) == []
    on_disk(directory, [])

    if how == "signal":
        resumed(first.pid)
    assert not any(
        "asyd-throttle-" in hierarchy.of(first.pid) for hierarchy in (unified(), version1())
    )
    assert first.child()  # it does what it is told


def test_an_agent_continues_what_was_stopped_in_another_way(directory: Path, first: Family) -> None:
    with asyd(directory) as daemon:
        assert order(daemon, first.pid, 0) == OK
    suspended(first.pid)
    with asyd(directory, "--throttle", "freeze") as daemon:
        assert order(daemon, first.pid, 0) == OK  # it is stopped already
        assert [one["how"] for one in held(directory)] == ["signal"]
        assert order(daemon, first.pid, 1) == OK
        resumed(first.pid)
        assert order(daemon, first.pid, 0) == OK
        assert [one["how"] for one in held(directory)] == ["freeze"]
    with asyd(directory) as daemon:
        assert order(daemon, first.pid, 1) == OK
        assert held(directory) == []
    assert "asyd-throttle-" not in unified().of(first.pid)


def test_what_has_ended_while_asyd_was_away_is_forgotten(directory: Path) -> None:
    with waiting() as child:
        with asyd(directory) as daemon:
            assert order(daemon, child.pid, 0) == OK
        assert written(directory) == [child.pid]
    with asyd(directory):
        assert held(directory) == []
    assert written(directory) == []


def test_what_a_person_continues_is_seen(directory: Path) -> None:
    with waiting() as child, asyd(directory) as daemon:
        assert order(daemon, child.pid, 0) == OK
        suspended(child.pid)
        os.kill(child.pid, signal.SIGCONT)
        resumed(child.pid)
        with subprocess.Popen(["sleep", "60"]) as patience:
            while held(directory):  # for the first two seconds it may still be about to stop
                assert patience.poll() is None
            patience.kill()
        daemon.wait_for("somebody else let it go on")


def test_an_agent_freezes_what_is_in_its_scope_alone(directory: Path, first: Family) -> None:
    theirs = first.child("user")
    with asyd(directory, "--throttle", "freeze") as daemon:
        assert order(daemon, first.pid, 0, CORE_AGENT) == DENIED
        assert order(daemon, theirs, 0, CORE_AGENT) == OK
        assert cgroups.wait_frozen(unified().of(theirs), 60)
        assert "asyd-throttle-" not in unified().of(first.pid)
        assert order(daemon, theirs, 1, CORE_AGENT) == OK


WITHOUT: Final = ("unshare", "--mount", "sh", "-c", 'umount /sys/fs/cgroup/unified; exec "$@"', "-")


def test_where_the_way_cannot_be_had_it_is_said_and_nothing_is_done(tmp_path: Path) -> None:
    options = ("--throttle", "freeze")
    with (
        waiting() as child,
        running(tmp_path, *options, agents=LINES, launcher=WITHOUT) as daemon,
        daemon.connect() as agent,
    ):
        daemon.wait_for("PROC_THROTTLE answers 6D00: --throttle=freeze: cgroup v2 is not mounted")
        assert agent.ask(agent.throttle(child.pid)) == NOT_SUPPORTED
        assert 0x20 not in lit(agent)
        assert Path(f"/proc/{child.pid}/stat").read_text().split()[2] == "S"


def test_a_damaged_file_is_put_aside(directory: Path) -> None:
    state = directory / "state"
    state.mkdir(mode=0o700)
    path = state / "throttled.json"
    path.write_text("{")
    path.chmod(0o600)
    done = asyd_command(directory, "throttled", "list")
    assert done.returncode == 1
    assert "is damaged; to go on without it, run: mv " in done.stderr

    daemon = Daemon(directory, argv(directory), read_log=True)
    try:
        daemon.await_ready()
        daemon.wait_for("what was stopped before is not known, and may be so still")
        assert held(directory) == []
    finally:
        daemon.kill()
    assert (state / "throttled.damaged").read_text() == "{"


def test_a_session_that_waits_for_the_freezer_holds_up_no_other(
    directory: Path, first: Family
) -> None:
    for _ in range(20):
        first.child()
    with asyd(directory, "--throttle", "freeze") as daemon, daemon.connect() as agent:
        with daemon.connect() as other:
            agent.send(agent.throttle(first.pid), agent.throttle(first.pid, 1))
            assert other.ask(HELLO).endswith(OK)
        assert [agent.answer(), agent.answer()] == [OK, OK]
    assert "asyd-throttle-" not in unified().of(first.pid)
