"""NET_ISOLATE over the wire: a real asyd, the SDK, processes that talk; and asyd's own end."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import asys
from asys.isa.capmap import CapabilityMap
from asys.node.platform.processes import cgroups
from support.asyd_cli import told
from support.daemon import AGENT, PATIENCE, Daemon
from support.isolating import isolating, isolation_missing, place_of
from support.own_daemon import argv, config
from support.recording import actions, assert_whole, recording
from support.talker import Talker, Wire

pytestmark = pytest.mark.skipif(bool(isolation_missing()), reason=isolation_missing())

OWNER = asys.Identity.generate()
ADMIN = asys.Identity.generate()
OTHER = asys.Identity.generate()

LINES = f"""\
{OWNER.public.hex()} owner caps=core,process,security
{OTHER.public.hex()} other caps=core,process
{ADMIN.public.hex()} admin caps=core,process role=admin
"""


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with Wire() as made:
        yield made


@pytest.fixture
def talker(wire: Wire) -> Iterator[Talker]:
    one = wire.talker()
    one.do("tcp", "old", *wire.tcp4)
    yield one
    one.end()


@pytest.fixture
def config_dir(tmp_path: Path) -> Iterator[Path]:
    """Of an asyd whose isolations are gone at the end, whatever happens."""
    directory = config(tmp_path, {})
    (directory / "authorized_agents").write_text(LINES)
    (directory / "state").mkdir(mode=0o700)
    with isolating(directory / "state"):
        yield directory


@contextmanager
def started(config_dir: Path, *options: str) -> Iterator[Daemon]:
    """An asyd that the test ends as it likes."""
    words = argv(config_dir, "--handshake-rate", "0", *options)
    daemon = Daemon(config_dir, words, read_log=True)
    try:
        daemon.await_ready()
        yield daemon
    finally:
        daemon.kill()


@contextmanager
def connected(daemon: Daemon, identity: asys.Identity = OWNER) -> Iterator[asys.sync.Node]:
    host, port = daemon.endpoint
    with asys.sync.connect(
        host, port, identity=identity, node_key=daemon.key, timeout=PATIENCE
    ) as node:
        yield node


def is_cut(wire: Wire, talker: Talker) -> bool:
    """Whether it cannot make a connection."""
    try:
        talker.do("tcp", "new", *wire.tcp4)
    except PermissionError as error:
        return error.errno == errno.EPERM
    return False


def saved(config_dir: Path, isolations: int = 1) -> Path:
    """Returns when so many isolations are on the disk."""
    path = config_dir / "state" / "isolations.json"
    end = time.monotonic() + PATIENCE
    while not path.exists() or len(json.loads(path.read_text())["isolations"]) != isolations:
        assert time.monotonic() < end, "it does not get to the disk"
        time.sleep(0.005)
    return path


def listed(config_dir: Path) -> list[dict[str, object]]:
    found = json.loads(told(config_dir, "isolations", "list", "--json"))["isolations"]
    assert isinstance(found, list)
    return found


def test_the_main_way(wire: Wire, talker: Talker, config_dir: Path) -> None:
    with started(config_dir) as daemon:
        with connected(daemon) as node:
            assert node.can("NET_ISOLATE")
            node.net_isolate(talker.pid, "isolate")
            assert is_cut(wire, talker)
            talker.do("send", "old", "unheard")
            [one] = listed(config_dir)
            assert (one["pid"], one["how"], one["agent"]) == (talker.pid, "network", "owner")
            assert one["until"] == 0
            with connected(daemon, OTHER) as other:
                with pytest.raises(asys.Denied):
                    other.net_isolate(talker.pid, "release")
                with pytest.raises(asys.Denied):
                    other.net_isolate(talker.pid, "isolate", keep_loopback=True, ttl_s=1)
            node.net_isolate(pid=talker.pid, action="isolate", keep_loopback=True, ttl_s=3600)
            [one] = listed(config_dir)
            assert one["how"] == "network, loopback kept"
            assert is_cut(wire, talker)
            talker.do("tcp", "local", *wire.local_tcp4)
            assert talker.echoes("local")
            node.net_isolate(talker.pid, "release")
            assert talker.do("recv", "old") == "unheard"
            with pytest.raises(asys.StatusError) as caught:
                node.net_isolate(talker.pid, "release")
            assert caught.value.sw == 0x6A80
        assert not is_cut(wire, talker)
        assert listed(config_dir) == []
        daemon.stop()


async def test_asynchronously(wire: Wire, talker: Talker, config_dir: Path) -> None:
    with started(config_dir) as daemon:
        host, port = daemon.endpoint
        async with asys.connect(host, port, identity=OWNER, node_key=daemon.key) as node:
            await node.net_isolate(talker.pid, "isolate")
            assert is_cut(wire, talker)
            await node.net_isolate(talker.pid, "release")
            assert not is_cut(wire, talker)
        daemon.stop()


def test_an_agent_below_and_those_above_it(wire: Wire, talker: Talker, config_dir: Path) -> None:
    helper = asys.Identity.generate()
    with started(config_dir) as daemon:
        with connected(daemon) as owner:
            owner.agent_add(helper.public, CapabilityMap.of("core,process"), ttl_s=600)
            with connected(daemon, helper) as node:
                node.net_isolate(talker.pid, "isolate")
            with connected(daemon, OTHER) as other, pytest.raises(asys.Denied):
                other.net_isolate(talker.pid, "release")
            owner.net_isolate(talker.pid, "release")
            owner.net_isolate(talker.pid, "isolate")
            with connected(daemon, helper) as node, pytest.raises(asys.Denied):
                node.net_isolate(talker.pid, "release")
            with connected(daemon, ADMIN) as admin:
                admin.net_isolate(talker.pid, "release")
        assert not is_cut(wire, talker)
        daemon.stop()


def test_a_ttl_of_a_second(wire: Wire, talker: Talker, config_dir: Path) -> None:
    with started(config_dir) as daemon:
        with connected(daemon) as node:
            node.net_isolate(talker.pid, "isolate", ttl_s=1)
            talker.do("send", "old", "late")
        assert talker.do("recv", "old") == "late"
        daemon.wait_for("is released: its time has passed")
        assert listed(config_dir) == []
        daemon.stop()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_it_is_in_force_while_asyd_is_not_there_and_after(
    wire: Wire, talker: Talker, config_dir: Path, how: signal.Signals
) -> None:
    with started(config_dir) as daemon:
        with connected(daemon) as node:
            node.net_isolate(talker.pid, "isolate", keep_loopback=True)
        saved(config_dir)
        before = listed(config_dir)
        daemon.process.send_signal(how)
        daemon.process.wait(PATIENCE)
    assert is_cut(wire, talker)
    with started(config_dir) as daemon:
        daemon.wait_for("processes are isolated")
        assert is_cut(wire, talker)
        assert listed(config_dir) == before
        child = talker.child("later")
        assert is_cut(wire, child)
        with connected(daemon, OTHER) as other, pytest.raises(asys.Denied):
            other.net_isolate(talker.pid, "release")
        with connected(daemon) as node:
            node.net_isolate(talker.pid, "release")
        assert not is_cut(wire, talker)
        saved(config_dir, 0)
        daemon.stop()


def test_a_ttl_that_passed_while_asyd_was_not_there(
    wire: Wire, talker: Talker, config_dir: Path
) -> None:
    with started(config_dir) as daemon:
        with connected(daemon) as node:
            node.net_isolate(talker.pid, "isolate", ttl_s=3600)
        path = saved(config_dir)
    assert is_cut(wire, talker)
    whole = json.loads(path.read_text())
    whole["isolations"][0]["ttl_s"] = 1  # which has passed, or is about to
    path.write_text(json.dumps(whole))
    with started(config_dir) as daemon:
        daemon.wait_for("is released: its time has passed")
        assert not is_cut(wire, talker)
        assert listed(config_dir) == []
        daemon.stop()


@pytest.mark.parametrize("damaged", [False, True])
def test_one_whose_entry_is_lost_is_the_admins(
    wire: Wire, talker: Talker, config_dir: Path, damaged: bool
) -> None:
    with started(config_dir) as daemon:
        with connected(daemon) as node:
            node.net_isolate(talker.pid, "isolate")
        path = saved(config_dir)
    if damaged:
        path.write_text("{")
    else:
        path.unlink()
    with started(config_dir) as daemon:
        [one] = listed(config_dir)
        assert (one["pid"], one["agent"]) == (talker.pid, "unknown")
        with connected(daemon) as node, pytest.raises(asys.Denied):
            node.net_isolate(talker.pid, "release")
        assert is_cut(wire, talker)
        with connected(daemon, ADMIN) as node:
            node.net_isolate(talker.pid, "release")
        assert not is_cut(wire, talker)
    assert path.with_suffix(".damaged").exists() is damaged


def test_the_command_with_asyd_and_without(wire: Wire, talker: Talker, config_dir: Path) -> None:
    with started(config_dir) as daemon:
        with connected(daemon) as node:
            node.net_isolate(talker.pid, "isolate")
            told(config_dir, "isolations", "release", str(talker.pid))
            assert not is_cut(wire, talker)
            node.net_isolate(talker.pid, "isolate")
        saved(config_dir)
    assert is_cut(wire, talker)
    [one] = listed(config_dir)
    assert (one["pid"], one["agent"]) == (talker.pid, "owner")
    told(config_dir, "isolations", "release", "--all")
    assert not is_cut(wire, talker)
    assert listed(config_dir) == []
    saved(config_dir, 0)


def test_what_it_does_not_do_to_a_frozen_process(
    wire: Wire, talker: Talker, config_dir: Path
) -> None:
    """Throttled by its cgroup and isolated by one asyd; each is taken back by itself."""
    home = place_of(talker.pid)
    with started(config_dir, "--throttle", "freeze") as daemon, connected(daemon) as node:
        for first, second in (("throttle", "isolate"), ("isolate", "throttle")):
            for one in (first, second):
                if one == "throttle":
                    node.proc_throttle(talker.pid, "stop")
                else:
                    node.net_isolate(talker.pid, "isolate")
            assert cgroups.wait_frozen(place_of(talker.pid), PATIENCE)
            node.proc_throttle(talker.pid, "continue")
            assert is_cut(wire, talker)
            node.proc_throttle(talker.pid, "stop")
            node.net_isolate(talker.pid, "release")
            assert cgroups.wait_frozen(place_of(talker.pid), PATIENCE)
            node.proc_throttle(talker.pid, "continue")
            assert not is_cut(wire, talker)
            assert talker.echoes("old")
            assert place_of(talker.pid) == home
        daemon.stop()


def test_it_is_on_record_and_what_records_it_is_safe(
    wire: Wire, talker: Talker, tmp_path: Path
) -> None:
    with (
        recording(tmp_path, agents={AGENT: "agent caps=all"}) as asyd,
        isolating(tmp_path / "asyd" / "state"),
        asyd.daemon.connect(AGENT) as agent,
    ):

        def isolate(pid: int, p1: int = 0) -> bytes:
            return agent.ask(agent.signed(0x21, pid.to_bytes(4, "big"), p1))

        assert isolate(talker.pid) == b"\x90\x00"
        assert is_cut(wire, talker)
        for pid in (asyd.daemon.pid, asyd.keeper, asyd.writer(), os.getpid()):
            assert isolate(pid) == b"\x69\x82"
        assert isolate(talker.pid, 1) == b"\x90\x00"
        assert not is_cut(wire, talker)
    found = [(one.ins, one.intent_ns is not None, one.sw) for one in actions(asyd.directory)]
    assert found == [
        (0x21, True, 0x9000),
        *[(0x21, False, 0x6982)] * 4,
        (0x21, True, 0x9000),
    ]
    assert_whole(asyd.directory)
