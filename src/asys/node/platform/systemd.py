"""Restarts services through systemd, over D-Bus: nothing is forked, no program is run.

As root over systemd's private socket, where no message bus has to be alive; else over the system
bus. The connection is opened at the first call, kept, and opened again when it has broken.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, ClassVar, Final

from dbus_fast import Message, MessageType

from asys.isa import TaskStatus
from asys.node.platform.base import (
    NoSuchTarget,
    NotPermitted,
    PlatformError,
    SystemFailure,
)
from asys.node.platform.dbus import CannotConnect, DBusConnection, NotSent, ReplyLost
from asys.node.platform.own_unit import own_units
from asys.protocol.status import SW

PRIVATE_SOCKET: Final = "unix:path=/run/systemd/private"
SYSTEM_BUS: Final = "unix:path=/run/dbus/system_bus_socket"

CALL_TIMEOUT_S: Final = 2.0
"""Longest wait for one connect or one reply: PID 1 answers in far less than a millisecond."""

RECONNECT_DELAYS_S: Final = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Pauses before each try to get back a connection that jobs hang on. systemd that executes itself
anew (`systemctl daemon-reexec`) is away for about a second."""

EARLY_RESULTS: Final = 16
"""Ended jobs of one unit that are remembered while its RestartUnit has no answer yet."""

PROTECTED: Final = {
    "systemd-journald.service": "the journal",
    "dbus.service": "the message bus",
    "dbus-broker.service": "the message bus",
}

_SERVICE: Final = "org.freedesktop.systemd1"
_MANAGER_PATH: Final = "/org/freedesktop/systemd1"
_MANAGER: Final = "org.freedesktop.systemd1.Manager"
_BUS: Final = "org.freedesktop.DBus"
_MATCHES: Final = (
    f"type='signal',sender='{_SERVICE}',path='{_MANAGER_PATH}',interface='{_MANAGER}',"
    "member='JobRemoved'",
    f"type='signal',sender='{_BUS}',interface='{_BUS}',member='NameOwnerChanged',arg0='{_SERVICE}'",
)

_RESULTS: Final = {"done": TaskStatus.SUCCESS, "canceled": TaskStatus.CANCELLED}
_ABSENT: Final = {
    "org.freedesktop.systemd1.NoSuchUnit",
    "org.freedesktop.DBus.Error.InvalidArgs",  # what cannot be a unit's name
}
_FORBIDDEN: Final = {
    "org.freedesktop.DBus.Error.AccessDenied",
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
    "org.freedesktop.DBus.Error.AuthFailed",
}
_FAILURES: Final = {
    "org.freedesktop.DBus.Error.NoMemory": SW.NODE_OUT_OF_MEMORY,
    "org.freedesktop.DBus.Error.NoReply": SW.NODE_TIMED_OUT,
    "org.freedesktop.DBus.Error.Timeout": SW.NODE_TIMED_OUT,
    "org.freedesktop.DBus.Error.TimedOut": SW.NODE_TIMED_OUT,
    "org.freedesktop.DBus.Error.LimitsExceeded": SW.NODE_BUSY,
}

_log = logging.getLogger(__name__)


class SystemdJob:
    """A job in systemd's queue. `path` is its D-Bus object, unique until the machine reboots."""

    def __init__(self, path: str, unit: str, asked_ns: int) -> None:
        self.path = path
        self.unit = unit
        self.asked_ns = asked_ns
        self._ended: asyncio.Future[TaskStatus] = asyncio.get_running_loop().create_future()

    def finish(self, status: TaskStatus) -> None:
        """Sets how it ended; the first time counts."""
        if not self._ended.done():
            self._ended.set_result(status)

    async def wait(self) -> TaskStatus:
        """As RestartJob.wait(). May be cancelled and called again."""
        return await asyncio.shield(self._ended)


class _Asking:
    """A unit whose RestartUnit is under way, so that a job may end before its name is known."""

    def __init__(self) -> None:
        self.calls = 0
        self.ended: dict[str, TaskStatus] = {}

    def remember(self, path: str, status: TaskStatus) -> None:
        if len(self.ended) >= EARLY_RESULTS:
            del self.ended[next(iter(self.ended))]
        self.ended[path] = status


class Systemd:
    """ServiceManager for systemd.

    `address` is a D-Bus address; `direct` says that systemd itself listens there and no bus.
    """

    name: ClassVar[str] = "systemd"

    def __init__(
        self, address: str, *, direct: bool, call_timeout_s: float = CALL_TIMEOUT_S
    ) -> None:
        self._address = address
        self._direct = direct
        self._call_timeout_s = call_timeout_s
        self._protected = PROTECTED | dict.fromkeys(own_units(), "asyd itself")
        self._connecting = asyncio.Lock()
        self._connection: DBusConnection | None = None
        self._owner = _SERVICE
        self._asking: dict[str, _Asking] = {}
        self._jobs: dict[str, SystemdJob] = {}
        self._recovery: asyncio.Task[None] | None = None
        self._closed = False

    async def resolve(self, name: str) -> str:
        """The Id of the unit behind `name`, which has no `.service`."""
        unit = f"{name}.service"
        reply = await self._call("ListUnitsByNames", "as", [[unit]], repeat=True)
        if reply.error_name in _ABSENT:
            return unit
        return str(_body(reply)[0][0][0])

    def refusal(self, unit: str) -> str:
        """Why nobody may restart this unit, or ''."""
        # systemd-journald@NAMESPACE.service is a journal too.
        return self._protected.get(unit) or (
            PROTECTED["systemd-journald.service"] if unit.startswith("systemd-journald@") else ""
        )

    async def restart(self, unit: str) -> SystemdJob:
        """Queues a restart, as `systemctl restart` does; `unit` is an Id that resolve() gave."""
        asking = self._asking.setdefault(unit, _Asking())
        asking.calls += 1
        asked_ns = time.monotonic_ns()
        try:
            reply = await self._call("RestartUnit", "ss", [unit, "replace"], repeat=False)
            return self._started(reply, unit, asked_ns, asking.ended)
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

    async def _call(
        self, member: str, signature: str, body: list[Any], *, repeat: bool, **target: str
    ) -> Message:
        """A call to the manager, or to `target`; the reply is a return or an error.

        It is made again once where it cannot have been carried out, with `repeat` also where it
        may have been.
        """
        where = {"path": _MANAGER_PATH, "interface": _MANAGER, "destination": _SERVICE} | target
        lost: Exception | None = None
        for _ in range(2):
            connection = await self._connected()
            try:
                return await connection.call(
                    Message(member=member, signature=signature, body=body, **where)
                )
            except TimeoutError:
                raise SystemFailure(
                    f"systemd did not answer {member} within {self._call_timeout_s:g} s",
                    SW.NODE_TIMED_OUT,
                ) from None
            except NotSent as error:
                lost = error
            except ReplyLost as error:
                lost = error
                if not repeat:
                    break
        raise SystemFailure(
            f"the connection to systemd broke during {member}", SW.NODE_IO_ERROR
        ) from lost

    async def _connected(self) -> DBusConnection:
        async with self._connecting:
            if self._closed:
                raise SystemFailure("the connection to systemd was closed", SW.NODE_IO_ERROR)
            if self._connection is None or not self._connection.alive:
                self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> DBusConnection:
        """A connection on which JobRemoved arrives. SystemFailure, NotPermitted."""
        connection: DBusConnection | None = None
        try:
            connection = await DBusConnection.open(
                self._address,
                direct=self._direct,
                timeout_s=self._call_timeout_s,
                on_signal=self._on_signal,
                on_lost=self._on_lost,
            )
            await self._subscribe(connection)
            return connection
        except BaseException as error:
            if connection is not None:
                await connection.close()
            if isinstance(error, TimeoutError):
                raise SystemFailure(
                    f"{self._address}: no answer within {self._call_timeout_s:g} s",
                    SW.NODE_TIMED_OUT,
                ) from None
            if isinstance(error, (CannotConnect, NotSent, ReplyLost)):
                raise SystemFailure(f"no connection to systemd: {error}", SW.NODE_IO_ERROR) from (
                    error
                )
            raise

    async def _subscribe(self, connection: DBusConnection) -> None:
        if self._direct:
            self._owner = _SERVICE
        else:
            bus = {"destination": _BUS, "path": "/org/freedesktop/DBus", "interface": _BUS}
            for match in _MATCHES:
                message = Message(member="AddMatch", signature="s", body=[match], **bus)
                _body(await connection.call(message))
            # Any user of the bus can send us a JobRemoved; only systemd's own counts.
            owner = Message(member="GetNameOwner", signature="s", body=[_SERVICE], **bus)
            self._owner = str(_body(await connection.call(owner))[0])
        subscribe = Message(
            member="Subscribe", path=_MANAGER_PATH, interface=_MANAGER, destination=_SERVICE
        )
        _body(await connection.call(subscribe))

    # Jobs

    def _started(
        self, reply: Message, unit: str, asked_ns: int, ended: dict[str, TaskStatus]
    ) -> SystemdJob:
        """The job that a RestartUnit made, or joined."""
        error = reply.error_name
        if error and error not in _ABSENT and error.startswith("org.freedesktop.systemd1."):
            # Masked, not loadable, not to be started by hand, ...: a restart that failed at once.
            _log.warning("systemd does not restart %s: %s", unit, _text(reply))
            job = SystemdJob("", unit, asked_ns)
            job.finish(TaskStatus.FAILED)
            return job
        path = str(_body(reply)[0])
        if path in ended:
            job = SystemdJob(path, unit, asked_ns)
            job.finish(ended[path])
            return job
        joined = self._jobs.get(path)  # systemd merges restarts of one unit into one job
        if joined is not None:
            joined.asked_ns = asked_ns
            return joined
        job = SystemdJob(path, unit, asked_ns)
        self._jobs[path] = job
        connection = self._connection
        if connection is None or not connection.alive:
            self._recover_soon()  # the connection broke right behind the reply
        return job

    def _on_signal(self, message: Message) -> None:
        if message.member == "JobRemoved" and message.sender == self._owner:
            if message.signature != "uoss":
                return
            _, path, unit, result = message.body
            status = _RESULTS.get(result, TaskStatus.FAILED)
            if unit in self._asking:
                self._asking[unit].remember(path, status)
            self._finish(path, status)
        elif message.member == "NameOwnerChanged" and message.sender == _BUS:
            # systemd has left the bus, or come back to it under another name.
            if self._connection is not None:
                self._connection.drop()

    def _finish(self, path: str, status: TaskStatus) -> None:
        job = self._jobs.pop(path, None)
        if job is not None:
            job.finish(status)

    def _give_up(self) -> None:
        for path in list(self._jobs):
            self._finish(path, TaskStatus.FAILED)

    # After a connection has broken

    def _on_lost(self, connection: DBusConnection) -> None:
        if connection is self._connection:
            self._connection = None
            self._recover_soon()

    def _recover_soon(self) -> None:
        if self._jobs and self._recovery is None and not self._closed:
            self._recovery = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        """Connects again and finds out what has become of the jobs whose signals were missed."""
        try:
            for delay in RECONNECT_DELAYS_S:
                await asyncio.sleep(delay)
                try:
                    for job in list(self._jobs.values()):
                        await self._settle(job)
                except PlatformError as error:
                    _log.info("systemd: %s", error)
                    continue
                if self._connection is not None and self._connection.alive:
                    return
            _log.error("systemd: no connection; %d restarts count as failed", len(self._jobs))
            self._give_up()
        finally:
            self._recovery = None

    async def _settle(self, job: SystemdJob) -> None:
        """Ends a job that systemd no longer has."""
        reply = await self._call("ListUnitsByNames", "as", [[job.unit]], repeat=True)
        row = _body(reply)[0]
        active, unit_path, job_path = str(row[0][3]), str(row[0][6]), str(row[0][9])
        if job_path == job.path:
            return  # still in the queue: its JobRemoved comes over the new connection
        # Restarted is what runs, or ran, without failure since it was asked for.
        result = await self._property(unit_path, "Result")
        started_us = int(await self._property(unit_path, "ExecMainStartTimestampMonotonic"))
        restarted = (
            result == "success"
            and active not in ("failed", "activating")
            and started_us * 1000 >= job.asked_ns
        )
        self._finish(job.path, TaskStatus.SUCCESS if restarted else TaskStatus.FAILED)

    async def _property(self, unit_path: str, name: str) -> Any:
        reply = await self._call(
            "Get",
            "ss",
            ["org.freedesktop.systemd1.Service", name],
            repeat=True,
            path=unit_path,
            interface="org.freedesktop.DBus.Properties",
        )
        return _body(reply)[0].value


def _text(reply: Message) -> str:
    return str(reply.body[0]) if reply.body else str(reply.error_name)


def _body(reply: Message) -> list[Any]:
    """The values of a reply; an error becomes its PlatformError."""
    if reply.message_type is not MessageType.ERROR:
        return reply.body
    error = reply.error_name or ""
    message = f"systemd: {_text(reply)}"
    if error in _ABSENT:
        raise NoSuchTarget(message)
    if error in _FORBIDDEN:
        raise NotPermitted(message)
    raise SystemFailure(message, _FAILURES.get(error, SW.NODE_ERROR))
