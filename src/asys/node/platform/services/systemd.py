"""Restarts services through systemd, over D-Bus: nothing is forked, no program is run.

As root over systemd's private socket, where no message bus has to be alive; else over the system
bus. The connection is opened at the first call, kept, and opened again when it has broken.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from dbus_fast import Message

from asys.isa import TaskStatus
from asys.node.platform.base import PlatformError, SystemFailure
from asys.node.platform.services.dbus import CannotConnect, DBusConnection, NotSent, ReplyLost
from asys.node.platform.services.own_unit import own_units
from asys.node.platform.services.systemd_api import (
    ABSENT,
    BUS,
    MATCHES,
    SERVICE,
    UNITS,
    bus_call,
    error_text,
    manager_call,
    values,
)
from asys.node.platform.services.systemd_jobs import (
    GONE,
    JOB,
    SERVICE_UNIT,
    UNIT,
    Asking,
    SystemdJob,
)
from asys.protocol.status import SW

PRIVATE_SOCKET: Final = "unix:path=/run/systemd/private"
SYSTEM_BUS: Final = "unix:path=/run/dbus/system_bus_socket"

CALL_TIMEOUT_S: Final = 2.0
"""Longest wait for one connect or one reply: PID 1 answers in far less than a millisecond."""

RECONNECT_DELAYS_S: Final = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Pauses before each try to get back a connection that jobs hang on. systemd that executes itself
anew (`systemctl daemon-reexec`) is away for about a second."""

PROTECTED: Final = {
    "systemd-journald.service": "the journal",
    "dbus.service": "the message bus",
    "dbus-broker.service": "the message bus",
}

_RESULTS: Final = {"done": TaskStatus.SUCCESS, "canceled": TaskStatus.CANCELLED}

_log = logging.getLogger(__name__)


class Systemd:
    """ServiceManager for systemd.

    `address` is a D-Bus address; `direct` says that systemd itself listens there and no bus.
    """

    name: ClassVar[str] = "systemd"

    def __init__(
        self,
        address: str,
        *,
        direct: bool,
        call_timeout_s: float = CALL_TIMEOUT_S,
        reconnect_delays_s: Sequence[float] = RECONNECT_DELAYS_S,
    ) -> None:
        self._address = address
        self._direct = direct
        self._call_timeout_s = call_timeout_s
        self._reconnect_delays_s = reconnect_delays_s
        self._protected = PROTECTED | dict.fromkeys(own_units(), "asyd itself")
        self._connecting = asyncio.Lock()
        self._connection: DBusConnection | None = None
        self._owner = SERVICE
        self._asking: dict[str, Asking] = {}
        self._jobs: dict[str, SystemdJob] = {}
        self._recovery: asyncio.Task[None] | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<Systemd at {self._address}, {'itself' if self._direct else 'over a bus'}>"

    async def resolve(self, name: str) -> str:
        """The Id of the unit behind `name`, which has no `.service`."""
        unit = f"{name}.service"
        reply, _ = await self._call(manager_call("ListUnitsByNames", "as", [unit]), repeat=True)
        if reply.error_name in ABSENT:
            return unit
        rows = values(reply, UNITS)[0]
        return str(rows[0][0]) if rows else unit

    def refusal(self, unit: str) -> str:
        """Why nobody may restart this unit, or ''."""
        if unit.startswith("systemd-journald@"):  # the journal of a namespace
            unit = "systemd-journald.service"
        return self._protected.get(unit, "")

    async def restart(self, unit: str) -> SystemdJob:
        """Queues a restart, as `systemctl restart` does; `unit` is an Id that resolve() gave."""
        asking = self._asking.setdefault(unit, Asking())
        asking.calls += 1
        asked_ns = time.monotonic_ns()
        try:
            reply, connection = await self._call(
                manager_call("RestartUnit", "ss", unit, "replace"), repeat=False
            )
            return self._job(reply, connection, unit, asked_ns)
        finally:
            asking.calls -= 1
            if not asking.calls:
                del self._asking[unit]

    async def close(self) -> None:
        """Ends the connection. Jobs that are still pending count as failed; systemd goes on."""
        self._closed = True
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.wait([self._recovery])
        async with self._connecting:
            if self._connection is not None:
                await self._connection.close()
        self._give_up()

    # Calls

    async def _call(self, message: Message, *, repeat: bool) -> tuple[Message, DBusConnection]:
        """A call's reply, a return or an error, and the connection that it came over.

        The call is made again once where it cannot have been carried out, with `repeat` also
        where it may have been. NotPermitted, SystemFailure.
        """
        lost: Exception | None = None
        for _ in range(2):
            connection = await self._connected()
            try:
                return await connection.call(message), connection
            except TimeoutError:
                raise SystemFailure(
                    f"systemd did not answer {message.member} within {self._call_timeout_s:g} s",
                    SW.NODE_TIMED_OUT,
                ) from None
            except NotSent as error:
                lost = error
            except ReplyLost as error:
                lost = error
                if not repeat:
                    break
        raise SystemFailure(
            f"the connection to systemd broke during {message.member}", SW.NODE_IO_ERROR
        ) from lost

    async def _connected(self) -> DBusConnection:
        async with self._connecting:
            if self._closed:
                raise SystemFailure("the connection to systemd was closed", SW.NODE_IO_ERROR)
            if self._connection is None or not self._connection.alive:
                self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> DBusConnection:
        """A new connection, on which JobRemoved arrives. NotPermitted, SystemFailure."""
        try:
            connection = await DBusConnection.open(
                self._address,
                direct=self._direct,
                timeout_s=self._call_timeout_s,
                signals=frozenset({"JobRemoved", "NameOwnerChanged"}),
                on_signal=self._on_signal,
                on_lost=self._on_lost,
            )
            try:
                await self._subscribe(connection)
            except BaseException:
                await connection.close()
                raise
        except TimeoutError:
            raise SystemFailure(
                f"{self._address}: no answer within {self._call_timeout_s:g} s", SW.NODE_TIMED_OUT
            ) from None
        except (CannotConnect, NotSent, ReplyLost) as error:
            reason = error or "it broke at once"
            raise SystemFailure(f"no connection to systemd: {reason}", SW.NODE_IO_ERROR) from error
        return connection

    async def _subscribe(self, connection: DBusConnection) -> None:
        self._owner = SERVICE
        if not self._direct:
            for match in MATCHES:
                values(await connection.call(bus_call("AddMatch", match)), "")
            # Anybody on the bus can send us a JobRemoved; only systemd's own counts.
            self._owner = str(
                values(await connection.call(bus_call("GetNameOwner", SERVICE)), "s")[0]
            )
        values(await connection.call(manager_call("Subscribe", "")), "")

    # Jobs

    def _job(
        self, reply: Message, connection: DBusConnection, unit: str, asked_ns: int
    ) -> SystemdJob:
        """The job that a RestartUnit made, or joined."""
        error = reply.error_name or ""
        if error.startswith("org.freedesktop.systemd1.") and error not in ABSENT:
            # Masked, not loadable, not to be started by hand, ...: it failed before it was queued.
            _log.warning("systemd does not restart %s: %s", unit, error_text(reply))
            return _ended(unit, TaskStatus.FAILED)
        path = str(values(reply, "o")[0])
        asking = self._asking[unit]
        if path in asking.ended:
            return _ended(unit, asking.ended[path])
        # systemd merges restarts of one unit that wait in its queue into one job.
        job = self._jobs.setdefault(path, SystemdJob(path, unit, asked_ns, connection))
        job.canceller = self._cancel
        job.asked_ns = asked_ns
        if asking.forgot:
            job.connection = None
        if self._stale(job):
            self._recover_soon()
        return job

    def _on_signal(self, connection: DBusConnection, message: Message) -> None:
        if message.member == "JobRemoved" and message.sender == self._owner:
            _, path, unit, result = message.body
            status = _RESULTS.get(result, TaskStatus.FAILED)
            if unit in self._asking:
                self._asking[unit].remember(path, status)
            self._finish(path, status)
        elif message.member == "NameOwnerChanged" and message.sender == BUS:
            connection.drop()  # systemd has left the bus, or comes back under another name

    def _finish(self, path: str, status: TaskStatus) -> None:
        job = self._jobs.pop(path, None)
        if job is not None:
            job.finish(status)

    def _give_up(self) -> None:
        for path in list(self._jobs):
            self._finish(path, TaskStatus.FAILED)

    async def _cancel(self, job: SystemdJob) -> None:
        """Takes a job out of the queue where its restart has not begun.

        A restart stops the unit and then starts it. From its first half on, also while it waits for
        the second, nothing is cancelled: that would leave the unit stopped. A unit that was stopped
        before is as it was. PlatformError.
        """
        reply, _ = await self._call(manager_call("ListUnitsByNames", "as", [job.unit]), repeat=True)
        rows = values(reply, UNITS)[0]
        if not rows or str(rows[0][9]) != job.path:
            return  # it has just ended
        if await self._property(job.path, JOB, "State", missing="") != "waiting":
            return
        stopped_us = await self._property(str(rows[0][6]), UNIT, "InactiveEnterTimestampMonotonic")
        if int(stopped_us) * 1000 >= job.first_asked_ns:
            return
        message = Message(destination=SERVICE, path=job.path, interface=JOB, member="Cancel")
        reply, _ = await self._call(message, repeat=False)
        if reply.error_name not in GONE:
            values(reply, "")

    # Jobs that may have ended unseen, as after a connection has broken

    def _stale(self, job: SystemdJob) -> bool:
        """Whether the job's JobRemoved may have been missed."""
        return job.connection is None or job.connection is not self._connection

    def _on_lost(self, connection: DBusConnection) -> None:
        if connection is self._connection:
            self._connection = None
        self._recover_soon()

    def _recover_soon(self) -> None:
        if self._jobs and self._recovery is None and not self._closed:
            self._recovery = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        """Connects again and finds out what has become of the jobs that may have ended unseen."""
        try:
            for delay in self._reconnect_delays_s:
                await asyncio.sleep(delay)
                try:
                    for job in [job for job in self._jobs.values() if self._stale(job)]:
                        await self._settle(job)
                except PlatformError as error:
                    _log.info("%s", error)
                if not any(map(self._stale, self._jobs.values())):
                    return
            _log.error("systemd is lost; %d restarts count as failed", len(self._jobs))
            self._give_up()
        finally:
            self._recovery = None

    async def _settle(self, job: SystemdJob) -> None:
        """Ends a job that systemd no longer has; else its JobRemoved comes over the connection.

        Success is only said where systemd shows it. Of a oneshot service that is done it keeps no
        trace (unless RemainAfterExit=yes), so that one counts as failed.
        """
        reply, connection = await self._call(
            manager_call("ListUnitsByNames", "as", [job.unit]), repeat=True
        )
        rows = values(reply, UNITS)[0]
        active, unit_path, job_path = (str(rows[0][i]) for i in (3, 6, 9)) if rows else ("",) * 3
        if job_path == job.path:
            job.connection = connection
            return
        restarted = False
        if active in ("active", "reloading", "inactive", "deactivating"):
            # It was restarted when what runs, or has run, began after the call, and did not fail.
            result = await self._property(unit_path, SERVICE_UNIT, "Result")
            began_us = await self._property(
                unit_path, SERVICE_UNIT, "ExecMainStartTimestampMonotonic"
            )
            restarted = result == "success" and int(began_us) * 1000 >= job.asked_ns
        self._finish(job.path, TaskStatus.SUCCESS if restarted else TaskStatus.FAILED)

    async def _property(
        self, path: str, interface: str, name: str, *, missing: str | None = None
    ) -> Any:
        """A property of a unit or a job; `missing`, where it is given, of a job that has ended."""
        message = Message(
            destination=SERVICE,
            path=path,
            interface="org.freedesktop.DBus.Properties",
            member="Get",
            signature="ss",
            body=[interface, name],
        )
        reply, _ = await self._call(message, repeat=True)
        if missing is not None and reply.error_name in GONE:
            return missing
        return values(reply, "v")[0].value


def _ended(unit: str, status: TaskStatus) -> SystemdJob:
    job = SystemdJob("", unit, 0)
    job.finish(status)
    return job
