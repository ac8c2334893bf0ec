"""systemd over the system bus: what asyd uses when it is not root."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest
from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus

from asys.isa import TaskStatus
from asys.node.platform.base import NoSuchTarget, SystemFailure
from asys.node.platform.services.systemd import Systemd
from asys.protocol.status import SW
from support.jobs import SECONDS, outcome
from support.systemd_box import Gate, SystemdBox

pytestmark = pytest.mark.root

SCRIPT = """\
import asyncio, os, sys
from pathlib import Path
from asys.node.platform.services.find import find_service_manager

async def main():
    manager = find_service_manager(None)
    print(manager, os.geteuid(), await manager.resolve(sys.argv[1]))
    try:
        job = await manager.restart(sys.argv[1] + ".service")
        print((await job.wait()).name)
    except Exception as error:
        print(type(error).__name__, error)
    await manager.close()

asyncio.run(main())
"""


def address(box: SystemdBox) -> str:
    return f"unix:path={box.path('/run/dbus/system_bus_socket')}"


@pytest.fixture
async def systemd(box: SystemdBox) -> AsyncIterator[Systemd]:
    manager = Systemd(
        address(box), direct=False, call_timeout_s=SECONDS, reconnect_delays_s=[0.01] * 1000
    )
    yield manager
    await manager.close()


@pytest.fixture
async def stranger(box: SystemdBox) -> AsyncIterator[MessageBus]:
    """Somebody else on the bus."""
    bus = await MessageBus(bus_address=address(box), bus_type=BusType.SYSTEM).connect()
    yield bus
    bus.disconnect()
    await asyncio.wait([asyncio.ensure_future(_ended(bus))])


async def _ended(bus: MessageBus) -> None:
    await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # the library's own gap


async def names(bus: MessageBus) -> set[str]:
    reply = await bus.call(
        Message(
            destination="org.freedesktop.DBus",
            path="/org/freedesktop/DBus",
            interface="org.freedesktop.DBus",
            member="ListNames",
        )
    )
    assert reply is not None
    return {str(name) for name in reply.body[0]}


async def test_success_failure_and_no_such_unit(box: SystemdBox, systemd: Systemd) -> None:
    good, bad = box.service(), box.service("/bin/false", Type="oneshot")
    assert await systemd.resolve(good) == f"{good}.service"
    assert await outcome(await systemd.restart(f"{good}.service")) is TaskStatus.SUCCESS
    assert await outcome(await systemd.restart(f"{bad}.service")) is TaskStatus.FAILED
    with pytest.raises(NoSuchTarget):
        await systemd.restart("no-such-thing.service")


async def test_nobody_else_can_say_that_a_job_has_ended(
    box: SystemdBox, gate: Gate, systemd: Systemd, stranger: MessageBus
) -> None:
    name = box.service(f"/bin/sh -c '{gate.wait}; exit 1'", Type="oneshot")
    before = await names(stranger)
    job = await systemd.restart(f"{name}.service")
    for destination in await names(stranger) - before:
        forged = Message(
            message_type=MessageType.SIGNAL,
            destination=destination,
            path="/org/freedesktop/systemd1",
            interface="org.freedesktop.systemd1.Manager",
            member="JobRemoved",
            signature="uoss",
            body=[int(job.path.rpartition("/")[2]), job.path, f"{name}.service", "done"],
        )
        await stranger.send(forged)
    await names(stranger)  # the bus has handed on what came before this
    await systemd.resolve(name)  # and it has come before this
    gate.open()
    assert await outcome(job) is TaskStatus.FAILED


async def test_systemd_comes_back_to_the_bus_under_another_name(
    box: SystemdBox, gate: Gate, systemd: Systemd
) -> None:
    name = box.service(gate.wait, Type="oneshot", RemainAfterExit="yes")
    job = await systemd.restart(f"{name}.service")
    await asyncio.to_thread(box.run, "systemctl", "daemon-reexec")
    gate.open()
    assert await outcome(job) is TaskStatus.SUCCESS


async def test_the_bus_is_restarted_under_a_pending_job(
    box: SystemdBox, gate: Gate, systemd: Systemd
) -> None:
    name = box.service(gate.wait, Type="oneshot", RemainAfterExit="yes")
    job = await systemd.restart(f"{name}.service")
    await asyncio.to_thread(box.run, "systemctl", "restart", "dbus.service")
    gate.open()
    assert await outcome(job) is TaskStatus.SUCCESS


async def test_a_bus_without_systemd(box: SystemdBox) -> None:
    """A message bus of its own, on which nobody is org.freedesktop.systemd1."""
    bus = box.popen(
        *("dbus-daemon", "--session", "--nofork", "--print-address"),
        "--address=unix:path=/run/box/empty-bus",
    )
    assert bus.stdout is not None
    assert bus.stdout.readline().startswith("unix:path=/run/box/empty-bus")
    systemd = Systemd(f"unix:path={box.share / 'empty-bus'}", direct=False, call_timeout_s=SECONDS)
    with pytest.raises(SystemFailure, match=r"org\.freedesktop\.systemd1") as caught:
        await systemd.resolve("anything")
    assert caught.value.sw == SW.NODE_ERROR
    await systemd.close()


def test_an_unprivileged_user_may_look_and_not_touch(box: SystemdBox) -> None:
    name = box.service()
    done = box.run(
        *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
        # The interpreter may live where only root can read.
        *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
        *(sys.executable, "-c", SCRIPT, name),
    )
    found, refused = done.stdout.splitlines()
    over_a_bus = "<Systemd at unix:path=/run/dbus/system_bus_socket, over a bus>"
    assert found == f"{over_a_bus} 65534 {name}.service"
    assert refused.startswith("NotPermitted systemd: ")
    assert box.property(name, "ActiveState") == "inactive"


def test_root_uses_the_private_socket_even_without_a_bus(box: SystemdBox) -> None:
    name = box.service()
    box.run("systemctl", "stop", "dbus.socket", "dbus.service")
    try:
        done = box.run(sys.executable, "-c", SCRIPT, name)
    finally:
        box.run("systemctl", "start", "dbus.socket")
    itself = "<Systemd at unix:path=/run/systemd/private, itself>"
    assert done.stdout.splitlines() == [f"{itself} 0 {name}.service", "SUCCESS"]
