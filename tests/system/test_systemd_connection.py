"""The connection to systemd breaks, is held up, or turns its messages around."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop
from dbus_fast import Message

from asys.isa import TaskStatus
from asys.node.platform.base import SystemFailure
from asys.node.platform.services.dbus import DBusConnection
from asys.node.platform.services.systemd import Systemd
from asys.node.platform.services.systemd_jobs import EARLY_RESULTS
from asys.protocol.status import SW
from support.dbus_relay import METHOD_RETURN, DBusRelay, kind
from support.jobs import SECONDS, outcome
from support.systemd_box import Gate, SystemdBox

pytestmark = pytest.mark.root

PATIENT = [0.01] * 1000
"""Pauses between tries to connect again that outlast any test."""


@pytest.fixture
async def relay(box: SystemdBox, tmp_path: Path) -> AsyncIterator[DBusRelay]:
    async with DBusRelay(str(tmp_path / "relay"), box.private_socket) as relay:
        yield relay


@pytest.fixture
async def systemd(relay: DBusRelay) -> AsyncIterator[Systemd]:
    manager = Systemd(
        relay.address, direct=True, call_timeout_s=SECONDS, reconnect_delays_s=PATIENT
    )
    yield manager
    await manager.close()


class Watcher:
    """A second client of systemd, which sees jobs end."""

    def __init__(self) -> None:
        self._ended = asyncio.Event()
        self._unit = ""

    def _on_signal(self, _: DBusConnection, message: Message) -> None:
        if message.member == "JobRemoved" and message.body[2] == self._unit:
            self._ended.set()

    async def watch(self, box: SystemdBox, name: str) -> None:
        self._unit = f"{name}.service"
        self._connection = await DBusConnection.open(
            f"unix:path={box.private_socket}",
            direct=True,
            timeout_s=SECONDS,
            signals=frozenset({"JobRemoved"}),
            on_signal=self._on_signal,
            on_lost=lambda _: None,
        )

    async def job_ended(self) -> None:
        await self._ended.wait()
        await self._connection.close()


async def test_a_connection_that_broke_is_opened_again(
    box: SystemdBox, relay: DBusRelay, systemd: Systemd
) -> None:
    name = box.service()
    unit = await systemd.resolve(name)
    await relay.broken()
    job = await systemd.restart(unit)
    assert await outcome(job) is TaskStatus.SUCCESS
    assert relay.connections == 2
    assert await outcome(await systemd.restart(unit)) is TaskStatus.SUCCESS
    assert relay.connections == 2


async def test_a_restart_over_a_connection_that_went_unnoticed(
    box: SystemdBox, relay: DBusRelay, systemd: Systemd
) -> None:
    """The question before the restart finds out, and is asked again."""
    name = box.service()
    await systemd.resolve(name)
    relay.hang_up()
    job = await systemd.restart(await systemd.resolve(name))
    assert await outcome(job) is TaskStatus.SUCCESS
    assert relay.connections == 2


@pytest.mark.parametrize("uv", [False, True], ids=["asyncio", "uvloop"])
def test_systemd_executes_itself_anew(box: SystemdBox, gate: Gate, uv: bool) -> None:
    """While nobody waits, and in the middle of a restart."""
    simple = box.service()
    slow = box.service(gate.wait, Type="oneshot", RemainAfterExit="yes")

    async def through() -> list[TaskStatus]:
        manager = Systemd(f"unix:path={box.private_socket}", direct=True, call_timeout_s=SECONDS)
        try:
            await manager.resolve(simple)
            await asyncio.to_thread(box.run, "systemctl", "daemon-reexec")
            first = await manager.restart(await manager.resolve(simple))
            second = await manager.restart(f"{slow}.service")
            await asyncio.to_thread(box.run, "systemctl", "daemon-reexec")
            gate.open()
            return [await outcome(first), await outcome(second)]
        finally:
            await manager.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if uv else None) as runner:
        assert runner.run(through()) == [TaskStatus.SUCCESS, TaskStatus.SUCCESS]


async def test_a_restart_goes_on_while_the_connection_is_replaced(
    box: SystemdBox, gate: Gate, relay: DBusRelay, systemd: Systemd
) -> None:
    name = box.service(gate.wait, Type="oneshot")
    asked = asyncio.Event()

    def answers(message: bytes) -> list[bytes]:
        if relay.connections == 2 and kind(message) == METHOD_RETURN and name.encode() in message:
            asked.set()
        return [message]

    relay.answers = answers
    job = await systemd.restart(f"{name}.service")
    await relay.broken()
    await asked.wait()
    gate.open()
    assert await outcome(job) is TaskStatus.SUCCESS


@pytest.mark.parametrize(
    ("remain", "then", "expected"),
    [
        ("", "exit 1", TaskStatus.FAILED),
        ("", "exit 0", TaskStatus.FAILED),  # systemd forgets it at once: nothing shows a success
        ("yes", "exit 0", TaskStatus.SUCCESS),
    ],
    ids=["failure", "no-trace", "success"],
)
async def test_a_restart_that_ended_unseen_is_found_out_about(
    box: SystemdBox,
    gate: Gate,
    relay: DBusRelay,
    systemd: Systemd,
    remain: str,
    then: str,
    expected: TaskStatus,
) -> None:
    name = box.service(f"/bin/sh -c '{gate.wait}; {then}'", Type="oneshot", RemainAfterExit=remain)
    watcher = Watcher()
    await watcher.watch(box, name)
    job = await systemd.restart(f"{name}.service")
    relay.accepting = False
    await relay.broken()
    gate.open()
    await watcher.job_ended()
    relay.accepting = True
    assert await outcome(job) is expected


async def test_a_restart_that_was_dropped_unseen_is_no_success(
    box: SystemdBox, gate: Gate, relay: DBusRelay, systemd: Systemd
) -> None:
    """The service runs, but what runs was started before the restart was asked for."""
    name = box.service(ExecStop=gate.wait)
    box.run("systemctl", "start", name)
    watcher = Watcher()
    await watcher.watch(box, name)
    job = await systemd.restart(f"{name}.service")
    relay.accepting = False
    await relay.broken()
    box.run("systemctl", "cancel", job.path.rpartition("/")[2])
    await watcher.job_ended()
    relay.accepting = True
    assert await outcome(job) is TaskStatus.FAILED
    gate.open()


async def test_a_unit_that_is_gone_after_all(
    box: SystemdBox, gate: Gate, relay: DBusRelay, systemd: Systemd
) -> None:
    name = box.service(gate.wait, Type="oneshot")
    watcher = Watcher()
    await watcher.watch(box, name)
    job = await systemd.restart(f"{name}.service")
    relay.accepting = False
    await relay.broken()
    box.remove_unit(f"{name}.service")
    await watcher.job_ended()
    relay.accepting = True
    assert await outcome(job) is TaskStatus.FAILED


async def test_a_systemd_that_does_not_come_back_fails_what_is_pending(
    box: SystemdBox, gate: Gate, relay: DBusRelay, caplog: pytest.LogCaptureFixture
) -> None:
    name = box.service(gate.wait, Type="oneshot")
    systemd = Systemd(relay.address, direct=True, call_timeout_s=SECONDS, reconnect_delays_s=[0, 0])
    job = await systemd.restart(f"{name}.service")
    relay.accepting = False
    await relay.broken()
    with caplog.at_level(logging.INFO):
        assert await outcome(job) is TaskStatus.FAILED
    assert "1 restarts count as failed" in caplog.text
    gate.open()
    await systemd.close()


async def test_closing_while_the_connection_is_gone(
    box: SystemdBox, gate: Gate, relay: DBusRelay, systemd: Systemd
) -> None:
    name = box.service(gate.wait, Type="oneshot")
    job = await systemd.restart(f"{name}.service")
    relay.accepting = False
    await relay.broken()
    await relay.seen(3)
    await systemd.close()
    assert await outcome(job) is TaskStatus.FAILED
    with pytest.raises(SystemFailure, match="closed"):
        await systemd.resolve(name)
    gate.open()


async def test_a_job_that_ends_before_its_restart_is_answered(
    box: SystemdBox, relay: DBusRelay, systemd: Systemd
) -> None:
    name = box.service("/bin/false", Type="oneshot")
    held: list[bytes] = []
    order: list[str] = []

    def answers(message: bytes) -> list[bytes]:
        if kind(message) == METHOD_RETURN and b"/job/" in message and not held:
            held.append(message)
            return []
        if b"JobRemoved" in message and name.encode() in message:
            order.extend(["JobRemoved", "reply"] if held else ["JobRemoved"])
            return [message, *held]
        return [message]

    relay.answers = answers
    job = await systemd.restart(f"{name}.service")
    assert order == ["JobRemoved", "reply"]
    assert await outcome(job) is TaskStatus.FAILED


async def test_early_results_are_bounded_and_none_is_waited_for_in_vain(
    box: SystemdBox, relay: DBusRelay, systemd: Systemd
) -> None:
    """Others restart the same service while the answer to ours is on its way."""
    name = box.service("/bin/true", Type="oneshot", RemainAfterExit="yes", StartLimitInterval="0")
    other = Systemd(f"unix:path={box.private_socket}", direct=True, call_timeout_s=SECONDS)
    held: list[bytes] = []
    holding, over = asyncio.Event(), asyncio.Event()

    def answers(message: bytes) -> list[bytes]:
        if kind(message) == METHOD_RETURN and b"/job/" in message and not held:
            held.append(message)
            holding.set()
            return []
        return [message, *held] if over.is_set() and b"Reloading" in message else [message]

    relay.answers = answers
    ours = asyncio.create_task(systemd.restart(f"{name}.service"))
    await holding.wait()
    await _restart_often(other, name, EARLY_RESULTS + 3)
    await other.close()
    over.set()
    await asyncio.to_thread(box.run, "systemctl", "daemon-reload")
    # Ours was the oldest of them and is forgotten: systemd is asked what became of it.
    assert await outcome(await ours) is TaskStatus.SUCCESS


async def _restart_often(manager: Systemd, name: str, times: int) -> None:
    for _ in range(times):
        await outcome(await manager.restart(f"{name}.service"))


async def test_a_restart_whose_answer_is_lost_is_not_sent_again(
    box: SystemdBox, relay: DBusRelay, systemd: Systemd
) -> None:
    name = box.service()
    sent = 0

    def requests(chunk: bytes) -> bytes:
        nonlocal sent
        if b"RestartUnit" not in chunk:
            return chunk
        sent += 1
        relay.cut()
        return b""

    relay.requests = requests
    with pytest.raises(SystemFailure, match="broke during RestartUnit") as caught:
        await systemd.restart(f"{name}.service")
    assert caught.value.sw == SW.NODE_IO_ERROR
    assert sent == 1


@pytest.mark.parametrize("times", [1, 2])
async def test_a_question_whose_answer_is_lost_is_asked_again_once(
    box: SystemdBox, relay: DBusRelay, systemd: Systemd, times: int
) -> None:
    name = box.service()
    lost = 0

    def requests(chunk: bytes) -> bytes:
        nonlocal lost
        if b"ListUnitsByNames" not in chunk or lost == times:
            return chunk
        lost += 1
        relay.cut()
        return b""

    relay.requests = requests
    if times == 1:
        assert await systemd.resolve(name) == f"{name}.service"
    else:
        with pytest.raises(SystemFailure, match="broke during ListUnitsByNames"):
            await systemd.resolve(name)
    assert lost == times


async def test_a_systemd_that_does_not_answer(box: SystemdBox, relay: DBusRelay) -> None:
    relay.requests = lambda chunk: b"" if b"ListUnitsByNames" in chunk else chunk
    systemd = Systemd(relay.address, direct=True, call_timeout_s=0.5)
    with pytest.raises(SystemFailure) as caught:
        await systemd.resolve("anything")
    assert caught.value.sw == SW.NODE_TIMED_OUT
    await systemd.close()


async def test_a_connection_that_breaks_at_once(relay: DBusRelay, systemd: Systemd) -> None:
    def requests(chunk: bytes) -> bytes:
        if b"Subscribe" in chunk:
            relay.cut()
        return chunk

    relay.requests = requests
    with pytest.raises(SystemFailure, match="no connection to systemd") as caught:
        await systemd.resolve("anything")
    assert caught.value.sw == SW.NODE_IO_ERROR


async def test_nobody_listens(tmp_path: Path) -> None:
    systemd = Systemd(f"unix:path={tmp_path}/nobody", direct=True, call_timeout_s=SECONDS)
    with pytest.raises(SystemFailure, match=r"no connection to systemd: .*No such file") as caught:
        await systemd.resolve("anything")
    assert caught.value.sw == SW.NODE_IO_ERROR
    await systemd.close()


async def test_a_systemd_that_lets_nobody_in(relay: DBusRelay) -> None:
    """It listens, and not a byte is answered."""
    relay.requests = lambda chunk: b""
    systemd = Systemd(relay.address, direct=True, call_timeout_s=0.05)
    with pytest.raises(SystemFailure, match="no answer within") as caught:
        await systemd.resolve("anything")
    assert caught.value.sw == SW.NODE_TIMED_OUT
    await systemd.close()
