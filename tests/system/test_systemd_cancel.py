"""What a real systemd does when a restart is taken back, in each of its phases."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest

from asys.isa import TaskStatus
from asys.node.platform.services.systemd import Systemd
from support.jobs import SECONDS, outcome
from support.systemd_box import Gate, SystemdBox

pytestmark = pytest.mark.root

SLEEPER = "ExecStart=/bin/sleep infinity"


@pytest.fixture
async def systemd(box: SystemdBox) -> AsyncIterator[Systemd]:
    manager = Systemd(f"unix:path={box.private_socket}", direct=True, call_timeout_s=SECONDS)
    yield manager
    await manager.close()


def made(box: SystemdBox, service: str, unit: str = "") -> str:
    name = f"test-{secrets.token_hex(4)}.service"
    box.unit(name, f"[Unit]\n{unit}\n[Service]\n{service}\n")
    return name


async def until(box: SystemdBox, unit: str, name: str, value: str) -> None:
    async with asyncio.timeout(SECONDS):
        while await asyncio.to_thread(box.property, unit, name) != value:
            pass


async def test_a_restart_that_waits_is_cancelled_and_the_service_runs_on(
    box: SystemdBox, systemd: Systemd, gate: Gate
) -> None:
    behind = made(box, f"{SLEEPER}\nExecStop={gate.wait}")
    name = made(box, SLEEPER, f"Before={behind}")
    box.run("systemctl", "start", behind, name)
    before = box.property(name, "MainPID")
    box.run("systemctl", "stop", "--no-block", behind)
    await until(box, behind, "ActiveState", "deactivating")
    job = await systemd.restart(name)
    shared = await systemd.restart(name)
    assert await job.cancel() is TaskStatus.CANCELLED
    assert await outcome(job) is TaskStatus.CANCELLED
    assert await outcome(shared) is TaskStatus.CANCELLED, "systemd has made one job of the two"
    assert await job.cancel() is TaskStatus.CANCELLED
    gate.open()
    await until(box, behind, "ActiveState", "inactive")
    assert box.property(name, "MainPID") == before
    assert box.property(name, "ActiveState") == "active"


async def test_a_restart_that_stops_the_service_goes_on(
    box: SystemdBox, systemd: Systemd, gate: Gate
) -> None:
    name = made(box, f"{SLEEPER}\nExecStop={gate.wait}")
    box.run("systemctl", "start", name)
    job = await systemd.restart(name)
    await until(box, name, "ActiveState", "deactivating")
    assert await job.cancel() is TaskStatus.PENDING
    gate.open()
    assert await outcome(job) is TaskStatus.SUCCESS
    assert box.property(name, "ActiveState") == "active"
    gate.open()  # for its end


async def test_the_second_half_of_a_restart_is_not_taken_away(
    box: SystemdBox, systemd: Systemd, gate: Gate
) -> None:
    """The service is stopped, and its start waits: without it, it would stay stopped."""
    ahead = made(box, f"Type=oneshot\nRemainAfterExit=yes\nExecStart={gate.wait}")
    name = made(box, SLEEPER, f"After={ahead}")
    box.run("systemctl", "start", name)
    box.run("systemctl", "start", "--no-block", ahead)
    await until(box, ahead, "ActiveState", "activating")
    job = await systemd.restart(name)
    await until(box, name, "ActiveState", "inactive")
    assert await job.cancel() is TaskStatus.PENDING
    again = await systemd.restart(name)
    assert await again.cancel() is TaskStatus.PENDING, "what the first one stopped, it starts"
    gate.open()
    assert await outcome(job) is TaskStatus.SUCCESS
    assert box.property(name, "ActiveState") == "active"


async def test_a_stopped_service_stays_so_when_its_start_is_cancelled(
    box: SystemdBox, systemd: Systemd, gate: Gate
) -> None:
    ahead = made(box, f"Type=oneshot\nRemainAfterExit=yes\nExecStart={gate.wait}")
    name = made(box, SLEEPER, f"After={ahead}")
    box.run("systemctl", "start", "--no-block", ahead)
    await until(box, ahead, "ActiveState", "activating")
    job = await systemd.restart(name)
    assert await job.cancel() is TaskStatus.CANCELLED
    gate.open()
    await until(box, ahead, "ActiveState", "active")
    assert box.property(name, "ActiveState") == "inactive"


async def test_what_has_ended_says_how(box: SystemdBox, systemd: Systemd) -> None:
    name = made(box, SLEEPER)
    job = await systemd.restart(name)
    assert await outcome(job) is TaskStatus.SUCCESS
    assert await job.cancel() is TaskStatus.SUCCESS


async def test_one_that_ends_meanwhile_is_not_mistaken_for_another(
    box: SystemdBox, systemd: Systemd, gate: Gate
) -> None:
    """Its unit has another job by now: that one is left alone."""
    behind = made(box, f"{SLEEPER}\nExecStop={gate.wait}")
    name = made(box, SLEEPER, f"Before={behind}")
    box.run("systemctl", "start", behind, name)
    box.run("systemctl", "stop", "--no-block", behind)
    await until(box, behind, "ActiveState", "deactivating")
    job = await systemd.restart(name)
    path, job.path = job.path, "/org/freedesktop/systemd1/job/1"
    assert await job.cancel() is TaskStatus.PENDING
    job.path = path
    gate.open()
    assert await outcome(job) is TaskStatus.SUCCESS
