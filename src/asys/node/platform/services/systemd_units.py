"""Starts and stops units through systemd, over D-Bus, and reads what became of them."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from dbus_fast import Message

from asys.node.platform.base import SystemFailure
from asys.node.platform.services.dbus import CannotConnect, DBusConnection, NotSent, ReplyLost
from asys.node.platform.services.systemd_api import SERVICE, manager_call, values
from asys.protocol.status import SW

TIMEOUT_S: Final = 30.0
"""Longest wait for a reply or a job. Nothing that an agent asks waits for it."""

EARLY_RESULTS: Final = 64
"""Jobs whose end is remembered as their name may not be known yet."""


class SystemdUnits:
    """A connection to systemd's own socket, opened at the first call and kept."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._connecting = asyncio.Lock()
        self._connection: DBusConnection | None = None
        self._results: dict[str, str] = {}
        self._waiting: dict[str, asyncio.Future[str]] = {}

    async def job(self, member: str, unit: str) -> str:
        """StartUnit, StopUnit and so on, to its end: done, failed, canceled, ... PlatformError."""
        path = str(values(await self._call(manager_call(member, "ss", unit, "replace")), "o")[0])
        early = self._results.pop(path, None)
        if early is not None:
            return early
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[path] = ended
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await ended
        except TimeoutError:
            raise SystemFailure(f"{member} {unit} does not end", SW.NODE_TIMED_OUT) from None
        finally:
            del self._waiting[path]

    async def reload(self) -> None:
        """Has systemd read its unit files again. PlatformError."""
        values(await self._call(manager_call("Reload", "")), "")

    async def reset(self, unit: str) -> None:
        """Forgets that a unit has failed. PlatformError; also where it is not loaded."""
        values(await self._call(manager_call("ResetFailedUnit", "s", unit)), "")

    async def service_property(self, unit: str, name: str) -> Any:
        """A property of a service. PlatformError."""
        path = values(await self._call(manager_call("GetUnit", "s", unit)), "o")[0]
        asked = Message(
            destination=SERVICE,
            path=str(path),
            interface="org.freedesktop.DBus.Properties",
            member="Get",
            signature="ss",
            body=["org.freedesktop.systemd1.Service", name],
        )
        return values(await self._call(asked), "v")[0].value

    async def close(self) -> None:
        """Ends the connection."""
        async with self._connecting:
            if self._connection is not None:
                await self._connection.close()
                self._connection = None

    async def _call(self, message: Message) -> Message:
        try:
            return await (await self._connected()).call(message)
        except TimeoutError:
            raise SystemFailure(f"no answer to {message.member}", SW.NODE_TIMED_OUT) from None
        except (CannotConnect, NotSent, ReplyLost) as error:
            reason = error or f"the connection broke during {message.member}"
            raise SystemFailure(f"systemd: {reason}", SW.NODE_IO_ERROR) from error

    async def _connected(self) -> DBusConnection:
        async with self._connecting:
            if self._connection is None or not self._connection.alive:
                self._connection = await DBusConnection.open(
                    self._address,
                    direct=True,
                    timeout_s=TIMEOUT_S,
                    signals=frozenset({"JobRemoved"}),
                    on_signal=self._on_signal,
                    on_lost=self._on_lost,
                )
                values(await self._connection.call(manager_call("Subscribe", "")), "")
            return self._connection

    def _on_signal(self, _connection: DBusConnection, message: Message) -> None:
        _, path, _, result = message.body
        waiting = self._waiting.get(path)
        if waiting is None:
            if len(self._results) >= EARLY_RESULTS:
                del self._results[next(iter(self._results))]
            self._results[path] = str(result)
        elif not waiting.done():
            waiting.set_result(str(result))

    def _on_lost(self, _connection: DBusConnection) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(
                    SystemFailure("the connection to systemd broke", SW.NODE_IO_ERROR)
                )
