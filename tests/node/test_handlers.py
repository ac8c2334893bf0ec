"""What instructions do, on the real machine: its processes, its vitals, its clock."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asys.isa import REGISTRY, Capabilities, Hello, Processes, Status, TaskStatus
from asys.isa.capmap import ALL, CORE, bits, words
from asys.node.platform.base import TableSnapshot
from asys.protocol.status import SW
from support.frames import CAPS, HELLO, PROCS, STATUS, frame
from support.machine import MadePlatform
from support.node_rig import AGENT, OTHER, Rig, RigAgent
from support.services import Services

PATIENCE = 60.0
OK = SW.SUCCESS.wire


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig({AGENT: "agent caps=all", OTHER: "reader"})
    yield rig
    await rig.close()


@pytest.fixture
def agent(rig: Rig) -> RigAgent:
    return rig.connect()


PARENT = """
import os, sys
pid = os.fork()
if not pid:
    if sys.argv[1] == "sleeps":
        os.execvp("sleep", ["sleep", "infinity"])
    os._exit(0)
if sys.argv[1] == "zombie":
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
print(pid, flush=True)
sys.stdin.read()
os.kill(pid, 9)
"""


@contextmanager
def grandchild(kind: str = "sleeps") -> Iterator[int]:
    """The PID of a process that is not this one's child, as those of the node itself are safe."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert parent.stdout is not None
        yield int(parent.stdout.readline())
    finally:
        parent.communicate()


def wait_for_state(pid: int, states: str) -> None:
    """A signal is sent at once, and takes effect when the process gets round to it."""
    end = time.monotonic() + PATIENCE
    while (state := Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]) not in states:
        assert time.monotonic() < end, f"process {pid} is {state!r} and not in {states!r}"
        os.sched_yield()


def body(response: bytes) -> bytes:
    assert response[-2:] == OK
    return response[:-2]


# -- PROC_THROTTLE


def test_a_process_is_suspended_and_goes_on(agent: RigAgent) -> None:
    with grandchild() as pid:
        wait_for_state(pid, "S")
        for _ in range(2):  # idempotent
            assert agent.ask(agent.throttle(pid)) == [OK]
            wait_for_state(pid, "T")
        for _ in range(2):
            assert agent.ask(agent.throttle(pid, action=1)) == [OK]
            wait_for_state(pid, "S")


def test_no_descriptor_is_left(agent: RigAgent) -> None:
    with grandchild() as pid:
        agent.ask(agent.throttle(pid, action=1))
        before = len(os.listdir("/proc/self/fd"))
        for target in [pid, pid, os.getpid(), 2**31 - 1, pid]:
            agent.ask(agent.throttle(target, action=1))
        assert len(os.listdir("/proc/self/fd")) == before


def test_who_is_never_touched(agent: RigAgent) -> None:
    for pid in {1, os.getpid(), os.getppid()}:
        assert agent.ask(agent.throttle(pid)) == [SW.DENIED.wire]


def test_a_thread_of_asyd_is_no_process(agent: RigAgent) -> None:
    """Its number would stop all of asyd, if it were taken for a PID."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        assert thread.native_id is not None
        assert agent.ask(agent.throttle(thread.native_id)) == [SW.INVALID_PAYLOAD.wire]
    finally:
        end.set()
        thread.join()


@pytest.mark.parametrize("pid", [2**22 + 1, 2**31 - 1, 2**31, 2**32 - 1])
def test_no_process_has_such_a_pid(agent: RigAgent, pid: int) -> None:
    assert agent.ask(agent.throttle(pid)) == [SW.INVALID_PAYLOAD.wire]


def test_a_process_that_has_ended(agent: RigAgent) -> None:
    with grandchild("zombie") as pid:
        assert agent.ask(agent.throttle(pid)) == [SW.INVALID_PAYLOAD.wire]


def test_a_pid_that_is_another_process_than_the_one_shown(agent: RigAgent) -> None:
    with grandchild() as pid:
        wait_for_state(pid, "S")
        process = agent.rig.node.platform.process(pid)
        process.close()
        agent.session.shown.add(TableSnapshot(1, (), {pid: process.start - 1}))
        assert agent.ask(agent.throttle(pid)) == [SW.INVALID_PAYLOAD.wire]
        wait_for_state(pid, "S")
        agent.session.shown.add(TableSnapshot(1, (), {pid: process.start}))
        assert agent.ask(agent.throttle(pid)) == [OK]
        wait_for_state(pid, "T")


# -- the Core ISA


@pytest.mark.parametrize(("key", "caps"), [(AGENT, ALL), (OTHER, CORE)], ids=["all", "core"])
def test_sys_caps(rig: Rig, key: object, caps: int) -> None:
    agent = rig.connect(AGENT if key is AGENT else OTHER)
    [response] = agent.ask(CAPS)
    caps_reply = Capabilities.unpack(body(response))
    # There is no service manager here, no isolator, one key, and nothing that comes in fragments.
    lacking = ("SVC_RESTART", "TASK_CANCEL", "NET_ISOLATE", "CONTINUE", "KEY_STATEMENT")
    can = bits(one.code for one in REGISTRY if one.name not in lacking)
    assert (caps_reply.core_bitmap, caps_reply.ext_bitmap) == words(caps & can)
    assert caps_reply.cpu_count == os.cpu_count()
    assert caps_reply.protocol_version == 0x0100
    assert caps_reply.page == 0
    release = os.uname().release.split("-")[0].split(".")
    assert [caps_reply.kernel_major, caps_reply.kernel_minor] == [int(one) for one in release[:2]]
    assert agent.ask(CAPS) == [response]
    assert agent.session.grant.caps_facts is not None


def test_sys_hello(rig: Rig, agent: RigAgent) -> None:
    for _ in range(2):
        [response] = agent.ask(HELLO)
        hello = Hello.unpack(body(response))
        assert hello == Hello(b"ASYS", rig.node.uid, rig.clock.time_ns())
        rig.clock.advance(1.5)


async def test_readings_come_when_there_are_fresh_ones(rig: Rig, agent: RigAgent) -> None:
    """The first request waits, the next ones do not; what was shown is remembered."""
    rig.clock.advance(10.0)  # the sampler sleeps
    agent.send(STATUS, PROCS)
    await rig.settle()
    assert agent.responses() == []
    received: list[bytes] = []

    def arrived() -> bool:
        received.extend(agent.responses())
        return len(received) == 2

    await rig.until(arrived)
    status = Status.unpack(body(received[0]))
    assert status.available_mb > 0
    processes = Processes.unpack(body(received[1]))
    assert processes.count >= 2
    assert all(agent.session.shown.differs(process.pid, -1) for process in processes.top)
    assert agent.ask(STATUS, PROCS) == received


@pytest.mark.parametrize("fails", ["vitals", "table"])
@pytest.mark.parametrize("kind", ["waits", "at once"])
async def test_what_cannot_be_read_fails_alone(fails: str, kind: str) -> None:
    platform = MadePlatform()
    rig = Rig(platform=platform)
    agent = rig.session()
    broken = platform.made_vitals if fails == "vitals" else platform.made_table
    broken.error = OSError(5, "Input/output error")
    if kind == "waits":
        rig.clock.advance(10.0)
    else:
        await rig.until(lambda: rig.node.sampler.fresh(rig.clock.now()))
    agent.send(STATUS, PROCS)
    received: list[bytes] = []

    def arrived() -> bool:
        received.extend(agent.responses())
        return len(received) == 2

    await rig.until(arrived)
    good = [response[-2:] == OK for response in received]
    assert good == [fails != "vitals", fails != "table"]
    assert received[fails != "vitals"] == SW.NODE_IO_ERROR.wire
    await rig.close()


async def test_the_end_of_the_node_while_somebody_waits() -> None:
    rig = Rig()
    agent = rig.connect()
    rig.clock.advance(10.0)
    agent.send(STATUS, PROCS)
    await rig.settle()
    await rig.close()
    assert agent.responses() == []


# -- tasks


async def test_what_ends_after_30_s_without_a_question_is_a_timeout() -> None:
    services = Services()
    rig = Rig(services=services)
    agent = rig.connect()
    agent.send(agent.restart("nginx"))
    await rig.settle()
    [response] = agent.responses()
    handle = body(response)
    rig.clock.advance(31.0)
    services.jobs["nginx.unit"].result.set_result(TaskStatus.SUCCESS)
    await rig.settle()
    query = frame(0x11, handle)
    assert [body(one)[0] for one in agent.ask(query, query)] == [
        TaskStatus.TIMEOUT,
        TaskStatus.NOT_FOUND,
    ]
    await rig.close()


@pytest.mark.parametrize("error", [RuntimeError("why"), OSError(5, "why")])
async def test_a_manager_that_fails_as_nobody_foresaw_leaves_no_task(error: Exception) -> None:
    services = Services()
    services.error = error
    rig = Rig(services=services)
    agent = rig.connect()
    agent.send(agent.restart("nginx"))
    await rig.settle()
    [response] = agent.responses()
    assert response[0] == 0x6F
    assert len(rig.node.tasks) == 0
    await rig.close()


async def test_a_handle_of_a_session_that_ended_meanwhile_is_freed() -> None:
    services = Services()
    services.restarting.clear()
    rig = Rig(services=services)
    agent = rig.connect()
    agent.send(agent.restart("nginx"))
    await rig.settle()
    assert len(rig.node.tasks) == 1
    agent.transport.lose()
    services.restarting.set()
    await rig.settle()
    assert services.restarts == 1  # the operation goes on
    assert len(rig.node.tasks) == 0
    await rig.close()


async def test_a_session_that_ends_while_its_name_is_looked_up() -> None:
    """The handle is made after the session has freed its own."""
    services = Services()
    services.resolving.clear()
    rig = Rig(services=services)
    agent = rig.connect()
    agent.send(agent.restart("nginx"))
    await rig.settle()
    agent.transport.lose()
    services.resolving.set()
    await rig.settle()
    assert services.restarts == 1
    assert len(rig.node.tasks) == 0
    await rig.close()
