"""LOG_SUMMARY, LOG_DETAIL and PROC_TREE through the SDK, to a real asyd on this machine."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

import asys
from asys.isa import LogSource, ProcessFlags, Severity
from asys.node.platform.logs import place as log_place
from asys.node.platform.logs.kmsg import DEVICE
from support.children import hog, zombie
from support.daemon import AGENT, CORE_AGENT, Daemon, running
from support.kin import in_order, kin
from support.users import NOBODY

SECONDS = 60


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    agents = {
        AGENT: "agent caps=all",
        CORE_AGENT: f"bound caps=diagnostics users={NOBODY} rate=PROC_TREE:2/h",
    }
    with running(tmp_path_factory.mktemp("asyd"), agents=agents) as made:
        yield made


def connect(daemon: Daemon, key: asys.Identity) -> asys.sync.Node:
    host, port = daemon.endpoint
    return asys.sync.connect(host, port=port, identity=key, node_key=daemon.key, timeout=SECONDS)


@pytest.fixture
def agent(daemon: Daemon) -> Iterator[asys.sync.Node]:
    with connect(daemon, asys.Identity(AGENT)) as node:
        yield node


def kernel_log_missing() -> str:
    """Why this node does not read the kernel's log, or ''."""
    if log_place.find().place is not log_place.LogPlace.KERNEL:
        return "the node does not read the kernel's log here"
    return "" if os.access(DEVICE, os.W_OK) else f"{DEVICE} may not be written to"


@pytest.mark.skipif(bool(kernel_log_missing()), reason=kernel_log_missing())
def test_the_kernel_s_log(agent: asys.sync.Node) -> None:
    name = f"asys-{secrets.token_hex(4)}"
    for line in (f"<1>{name}[4711]: it burns\n", f"<1>{name}[4711]: it burns\n"):
        with open(DEVICE, "w") as device:
            device.write(line)
    found = agent.log_summary(window_s=600, priority="alert", wanted=32)
    assert found.source is LogSource.KERNEL
    [event] = [one for one in found.events if one.unit.raw == name]
    assert (event.repeats, event.pid, event.priority) == (2, 4711, Severity.ALERT)
    assert abs(event.time_ns - time.time_ns()) < SECONDS * 1_000_000_000
    detail = agent.log_detail(event.event_id, before=1, after=0)
    assert [one.message.raw for one in detail.entries][-2:] == ["it burns", "it burns"]
    assert agent.log_summary(priority="emerg").matched <= found.matched


def test_an_event_that_was_never_shown(agent: asys.sync.Node) -> None:
    if log_place.find().place is log_place.LogPlace.NONE:
        pytest.skip("there are no logs to read here")
    with pytest.raises(asys.InvalidPayload):
        agent.log_detail(secrets.randbits(64))


def test_a_tree(agent: asys.sync.Node) -> None:
    with kin([[[]], []]) as pids:
        found = agent.proc_tree(pids[0])
        target = found.processes[found.index]
        assert [
            (one.pid, one.depth - target.depth) for one in found.processes[found.index :]
        ] == in_order(pids)
        assert target.ppid == os.getpid()
        assert found.processes[found.index - 1].pid == os.getpid()
        assert found.total == found.count == len(found.processes)
        assert agent.proc_tree(pids[0], depth=1).count == found.count - 1
        # Those that were shown can be acted on.
        agent.proc_throttle(pids[2][0], "stop")
        deadline = time.monotonic() + SECONDS
        while agent.proc_tree(pids[2][0]).processes[-1].state != "T":
            assert time.monotonic() < deadline
        agent.proc_throttle(pids[2][0], "continue")


def test_cpu_of_a_hog(agent: asys.sync.Node) -> None:
    with hog() as pid:
        deadline = time.monotonic() + SECONDS
        while True:
            found = agent.proc_tree(pid)
            target = found.processes[found.index]
            if target.cpu_percent > 0:
                break
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert target.memory_percent <= 100


def test_a_zombie(agent: asys.sync.Node) -> None:
    with zombie() as pid:
        found = agent.proc_tree(pid)
        target = found.processes[found.index]
        assert (target.state, target.name.raw) == ("Z", "true")
        assert ProcessFlags.ZOMBIE in target.flags


def test_init_is_the_root_of_all(agent: asys.sync.Node) -> None:
    found = agent.proc_tree(1, depth=255)
    assert found.index == 0
    assert found.total >= found.count
    assert {found.processes[0].pid, found.processes[0].ppid} == {1, 0}
    depths = [one.depth for one in found.processes]
    assert all(later <= one + 1 for one, later in pairwise(depths))


@pytest.mark.parametrize("pid", [0x3FFFFFFF, 0xFFFFFFFF])
def test_a_process_that_is_not_there(agent: asys.sync.Node, pid: int) -> None:
    with pytest.raises(asys.InvalidPayload):
        agent.proc_tree(pid)
    with pytest.raises(asys.ArgumentError):
        agent.proc_tree(0)


def test_scope_does_not_hide_and_the_rate_counts(daemon: Daemon) -> None:
    with connect(daemon, asys.Identity(CORE_AGENT)) as bound:
        for _ in range(2):
            with pytest.raises(asys.InvalidPayload):
                bound.proc_tree(0x3FFFFFFF)
        for _ in range(2):
            assert bound.proc_tree(1).processes[0].pid == 1
        for pid in (1, 0x3FFFFFFF):
            with pytest.raises(asys.Blocked):
                bound.proc_tree(pid)
