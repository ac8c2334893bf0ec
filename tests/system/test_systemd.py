"""SVC_RESTART's way to a real systemd, over its private socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
import uvloop

from asys.isa import TaskStatus
from asys.node.platform.base import NoSuchTarget
from asys.node.platform.services.systemd import Systemd
from support.jobs import SECONDS, outcome
from support.systemd_box import Gate, SystemdBox

pytestmark = pytest.mark.root


SLEEPER = "/bin/sleep infinity"


@pytest.fixture
async def systemd(box: SystemdBox) -> AsyncIterator[Systemd]:
    manager = Systemd(f"unix:path={box.private_socket}", direct=True, call_timeout_s=SECONDS)
    yield manager
    await manager.close()


async def test_a_service_is_restarted(box: SystemdBox, systemd: Systemd) -> None:
    name = box.service()
    box.run("systemctl", "start", name)
    before = box.property(name, "MainPID")
    unit = await systemd.resolve(name)
    assert unit == f"{name}.service"
    job = await systemd.restart(unit)
    assert await outcome(job) is TaskStatus.SUCCESS
    assert await outcome(job) is TaskStatus.SUCCESS
    after = box.property(name, "MainPID")
    assert "0" not in (before, after)
    assert after != before


async def test_a_stopped_service_is_started(box: SystemdBox, systemd: Systemd) -> None:
    name = box.service()
    job = await systemd.restart(f"{name}.service")
    assert await outcome(job) is TaskStatus.SUCCESS
    assert box.property(name, "ActiveState") == "active"


def test_it_works_on_uvloop(box: SystemdBox) -> None:
    name = box.service()

    async def restart() -> TaskStatus:
        manager = Systemd(f"unix:path={box.private_socket}", direct=True, call_timeout_s=SECONDS)
        try:
            return await outcome(await manager.restart(await manager.resolve(name)))
        finally:
            await manager.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(restart()) is TaskStatus.SUCCESS
    assert box.property(name, "ActiveState") == "active"


@pytest.mark.parametrize(
    ("start", "settings"),
    [
        ("/bin/false", {"Type": "oneshot"}),
        ("/bin/true", {"Type": "notify"}),
        ("/nonexistent/program", {"Type": "exec"}),
        (SLEEPER, {"Type": "notify", "TimeoutStartSec": "1ms"}),
    ],
    ids=["exit-status", "protocol", "no-program", "timeout"],
)
async def test_a_service_that_does_not_start_is_a_failed_job(
    box: SystemdBox, systemd: Systemd, start: str, settings: dict[str, str]
) -> None:
    name = box.service(start, **settings)
    job = await systemd.restart(f"{name}.service")
    assert await outcome(job) is TaskStatus.FAILED


async def test_a_missing_unit(systemd: Systemd) -> None:
    assert await systemd.resolve("no-such-thing") == "no-such-thing.service"
    with pytest.raises(NoSuchTarget, match=r"no-such-thing\.service not found"):
        await systemd.restart("no-such-thing.service")


@pytest.mark.parametrize("name", [".", "..", "-", "a" * 64, "x" * 300, "unit@", "a b", "a.socket"])
async def test_any_name_is_resolved_and_none_of_these_exists(systemd: Systemd, name: str) -> None:
    unit = await systemd.resolve(name)
    assert unit == f"{name}.service"
    with pytest.raises(NoSuchTarget):
        await systemd.restart(unit)


async def test_an_alias_resolves_to_the_units_own_name(box: SystemdBox, systemd: Systemd) -> None:
    name = box.service()
    alias = f"alias-of-{name}"
    link = box.path(f"/etc/systemd/system/{alias}.service")
    link.symlink_to(f"{name}.service")
    try:
        box.run("systemctl", "daemon-reload")
        assert await systemd.resolve(alias) == f"{name}.service"
    finally:
        link.unlink()


async def test_an_installed_alias_resolves_too(box: SystemdBox, systemd: Systemd) -> None:
    name = box.service()
    unit = box.path(f"/etc/systemd/system/{name}.service")
    unit.write_text(unit.read_text() + f"[Install]\nAlias=installed-{name}.service\n")
    box.run("systemctl", "enable", name)
    try:
        assert await systemd.resolve(f"installed-{name}") == f"{name}.service"
    finally:
        box.run("systemctl", "disable", name)


@pytest.mark.parametrize(
    ("target", "reason"),
    [("systemd-journald.service", "the journal"), ("dbus.service", "the message bus")],
)
async def test_journal_and_bus_are_refused_under_any_name(
    box: SystemdBox, systemd: Systemd, target: str, reason: str
) -> None:
    assert systemd.refusal(await systemd.resolve(target.removesuffix(".service"))) == reason
    link = box.path("/etc/systemd/system/harmless.service")
    link.symlink_to(f"/lib/systemd/system/{target}")
    try:
        box.run("systemctl", "daemon-reload")
        unit = await systemd.resolve("harmless")
        assert unit == target
        assert systemd.refusal(unit) == reason
    finally:
        link.unlink()
        box.run("systemctl", "daemon-reload")


async def test_what_is_not_protected_is_not_refused(systemd: Systemd) -> None:
    assert systemd.refusal("cron.service") == ""
    assert systemd.refusal("systemd-journald-like.service") == ""
    assert systemd.refusal("systemd-journald@app.service") == "the journal"
    assert systemd.refusal("dbus-broker.service") == "the message bus"


async def test_a_masked_unit_is_a_failed_job_and_the_log_says_why(
    box: SystemdBox, systemd: Systemd, caplog: pytest.LogCaptureFixture
) -> None:
    name = box.service()
    unit = box.path(f"/etc/systemd/system/{name}.service")
    unit.unlink()
    unit.symlink_to("/dev/null")
    box.run("systemctl", "daemon-reload")
    with caplog.at_level(logging.WARNING):
        job = await systemd.restart(f"{name}.service")
        assert await outcome(job) is TaskStatus.FAILED
    assert f"{name}.service" in caplog.text
    assert "masked" in caplog.text


async def test_two_restarts_at_the_same_time(box: SystemdBox, systemd: Systemd) -> None:
    good, bad = box.service(), box.service("/bin/false", Type="oneshot")
    jobs = await asyncio.gather(
        systemd.restart(f"{good}.service"), systemd.restart(f"{bad}.service")
    )
    results = await asyncio.gather(*(outcome(job) for job in jobs))
    assert results == [TaskStatus.SUCCESS, TaskStatus.FAILED]


async def test_two_restarts_of_one_service_both_end(
    box: SystemdBox, systemd: Systemd, gate: Gate
) -> None:
    """systemd makes one job of them."""
    name = box.service(gate.wait, Type="oneshot")
    first = await systemd.restart(f"{name}.service")
    second = await systemd.restart(f"{name}.service")
    gate.open()
    gate.open()  # whether the second restart began the service once more or not
    assert await outcome(first) is TaskStatus.SUCCESS
    assert await outcome(second) is TaskStatus.SUCCESS


async def test_a_cancelled_job_and_a_wait_that_was_given_up(
    box: SystemdBox, systemd: Systemd
) -> None:
    """A service that ignores SIGTERM keeps its restart waiting until somebody drops the job."""
    name = box.service(
        "/bin/bash -c 'trap \"\" TERM; systemd-notify --ready; while :; do sleep 3600; done'",
        Type="notify",
        NotifyAccess="all",
        TimeoutStopSec="infinity",
        KillMode="process",
    )
    box.run("systemctl", "start", name)
    pid = box.property(name, "MainPID")
    job = await systemd.restart(f"{name}.service")
    waiting = asyncio.create_task(job.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    box.run("systemctl", "cancel", job.path.rpartition("/")[2])
    assert await outcome(job) is TaskStatus.CANCELLED
    assert box.property(name, "MainPID") == pid


async def test_closing_ends_every_wait(box: SystemdBox, systemd: Systemd, gate: Gate) -> None:
    name = box.service(gate.wait, Type="oneshot")
    job = await systemd.restart(f"{name}.service")
    await systemd.close()
    assert await outcome(job) is TaskStatus.FAILED
    await systemd.close()
