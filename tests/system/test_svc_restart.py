"""SVC_RESTART and TASK_QUERY from the SDK to a real systemd, through a real asyd beside it."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
from collections.abc import Iterator

import pytest

import asys
from asys.isa import TASK_QUERY, TaskStatus
from asys.node.platform.services.systemd import Systemd
from asys.node.tasks import TASK_LIFETIME, TASK_TIMEOUT
from asys.protocol.apdu import encode_plain
from support.daemon import COMMAND
from support.jobs import SECONDS
from support.node_rig import Rig
from support.systemd_box import Gate, SystemdBox

pytestmark = pytest.mark.root


class BoxedNode:
    """An asyd as root beside a systemd, and an agent that it knows."""

    def __init__(self, address: str, key: bytes, identity: asys.Identity) -> None:
        self.address = address
        self.key = key
        self.identity = identity

    def connect(self) -> asys.sync.Node:
        """A new session of the agent."""
        return asys.sync.connect(
            self.address, identity=self.identity, node_key=self.key, timeout=SECONDS
        )


@pytest.fixture
def node(box: SystemdBox) -> Iterator[BoxedNode]:
    name = f"asyd-{secrets.token_hex(4)}"
    config = box.share / name
    config.mkdir(mode=0o700)
    identity = asys.Identity.generate()
    agents = config / "authorized_agents"
    agents.write_text(f"{identity.public.hex()} admin caps=core,SVC_RESTART\n")
    agents.chmod(0o600)
    asyd = box.popen(
        *(sys.executable, "-c", COMMAND),
        *("--config-dir", f"/run/box/{name}", "--listen", f"unix:/run/box/{name}.sock"),
        *("--audit", "off"),
    )
    assert asyd.stdout is not None
    word, _, key = asyd.stdout.readline().split()
    assert word == "READY"
    yield BoxedNode(f"unix:{box.share / name}.sock", bytes.fromhex(key), identity)
    shutil.rmtree(config)


def test_success(box: SystemdBox, node: BoxedNode) -> None:
    service = box.service()
    box.run("systemctl", "start", service)
    before = box.property(service, "MainPID")
    with node.connect() as agent:
        task = agent.svc_restart(service)
        assert task.wait(timeout=SECONDS) is TaskStatus.SUCCESS
        state = agent.call(TASK_QUERY, task.handle)  # the SDK's task would remember by itself
        assert state.status is TaskStatus.NOT_FOUND
    assert box.property(service, "MainPID") not in (before, "0")


def test_failure_and_no_such_unit(box: SystemdBox, node: BoxedNode) -> None:
    failing = box.service("/bin/false", Type="oneshot")
    with node.connect() as agent:
        assert agent.svc_restart(failing).wait(timeout=SECONDS) is TaskStatus.FAILED
        assert agent.svc_restart("no-such-unit").wait(timeout=SECONDS) is TaskStatus.FAILED


@pytest.mark.parametrize("name", ["systemd-journald", "dbus", "dbus-org.freedesktop.login1"])
def test_what_nobody_may_restart(box: SystemdBox, node: BoxedNode, name: str) -> None:
    """The journal and the bus are refused; another alias shows that not every alias is."""
    with node.connect() as agent:
        if name.startswith("dbus-org"):
            assert agent.svc_restart(name).wait(timeout=SECONDS) is TaskStatus.SUCCESS
        else:
            before = box.property(name, "MainPID")
            with pytest.raises(asys.Denied):
                agent.svc_restart(name)
            assert box.property(name, "MainPID") == before


def test_two_sessions_have_their_own_handles(box: SystemdBox, node: BoxedNode, gate: Gate) -> None:
    service = box.service(gate.wait, Type="oneshot")
    with node.connect() as one, node.connect() as other:
        task = one.svc_restart(service)
        assert one.svc_restart(service).handle == task.handle
        theirs = other.svc_restart(service)
        assert theirs.handle != task.handle
        assert other.task(task.handle).query() is TaskStatus.NOT_FOUND
        assert one.task(theirs.handle).query() is TaskStatus.NOT_FOUND
        assert task.query() is TaskStatus.PENDING
        gate.open()
        gate.open()  # the second restart may have begun the service once more
        # systemd may merge the second job with the first, or cancel the first in its favour.
        assert theirs.wait(timeout=SECONDS) is TaskStatus.SUCCESS
        assert task.wait(timeout=SECONDS) in (TaskStatus.SUCCESS, TaskStatus.CANCELLED)


def test_a_lost_session_abandons_the_result_and_not_the_restart(
    box: SystemdBox, node: BoxedNode, gate: Gate
) -> None:
    service = box.service(gate.wait, Type="oneshot", RemainAfterExit="yes")
    agent = node.connect()
    handle = agent.svc_restart(service).handle
    agent.close()
    with node.connect() as again:
        assert again.task(handle).query() is TaskStatus.NOT_FOUND
        gate.open()
        box.run("systemctl", "start", service)  # waits for the job that is under way
        assert box.property(service, "ActiveState") == "active"
        assert again.task(handle).query() is TaskStatus.NOT_FOUND


async def test_a_restart_that_takes_too_long_is_a_timeout_once(box: SystemdBox, gate: Gate) -> None:
    """30 s of the node's clock, which this test turns; systemd keeps its own time."""
    service = box.service(gate.wait, Type="oneshot", RemainAfterExit="yes")
    systemd = Systemd(f"unix:path={box.private_socket}", direct=True, call_timeout_s=SECONDS)
    rig = Rig(services=systemd)
    agent = rig.connect()

    def status(handle: bytes) -> TaskStatus:
        (answer,) = agent.ask(encode_plain(TASK_QUERY.code, data=handle))
        assert answer[1:] == b"\x90\x00"
        return TaskStatus(answer[0])

    async def restart() -> bytes:
        agent.send(agent.restart(service))
        async with asyncio.timeout(SECONDS):
            while not (answers := agent.responses()):
                await rig.settle()  # the event loop talks to systemd meanwhile
        assert answers[0][4:] == b"\x90\x00"
        return answers[0][:4]

    try:
        asked = await restart()
        rig.advance(TASK_TIMEOUT - 0.1)
        assert status(asked) is TaskStatus.PENDING
        rig.advance(0.2)
        unasked = await restart()  # no longer the pending task of that name: a new one
        assert unasked != asked
        assert status(asked) is TaskStatus.TIMEOUT
        assert status(asked) is TaskStatus.NOT_FOUND
        rig.advance(TASK_LIFETIME - 1)
        gate.open()
        gate.open()
        box.run("systemctl", "start", service)
        await rig.settle()
        assert status(unasked) is TaskStatus.TIMEOUT  # it has ended by now, and too late
        assert status(unasked) is TaskStatus.NOT_FOUND
    finally:
        await rig.close()
