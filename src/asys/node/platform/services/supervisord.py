"""Restarts services through supervisord, over its XML-RPC interface.

A service is a program, or a whole group where the group has several processes. supervisord has no
job of its own for a restart: it is a stop and a start, and what runs meanwhile is kept here.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any, ClassVar, Final, NamedTuple

from asys.isa import TaskStatus
from asys.node.platform.base import NoSuchTarget, PlatformError, SystemFailure
from asys.node.platform.services import http_rpc
from asys.node.platform.services.http_rpc import Endpoint, Fault
from asys.protocol.status import SW

CALL_TIMEOUT_S: Final = 2.0
"""Longest wait for an answer that supervisord has at hand. Stopping and starting take their time
(stopwaitsecs, startsecs) and have no limit here."""

BAD_NAME: Final = 10
NOT_RUNNING: Final = 70
SUCCESS: Final = 80
"""Of supervisord's fault codes, which are status codes in the answers about groups as well."""

MESSAGE_BUSES: Final = frozenset({"dbus", "dbus-daemon", "dbus-broker"})
JOURNALS: Final = frozenset({"journald", "systemd-journald"})

_log = logging.getLogger(__name__)


class Program(NamedTuple):
    """A process as supervisord names it. A program outside of any group is a group of its own."""

    group: str
    name: str

    @property
    def unit(self) -> str:
        """As supervisorctl writes it."""
        return self.name if self.name == self.group else f"{self.group}:{self.name}"


class SupervisordJob:
    """A restart under way."""

    def __init__(self, task: asyncio.Task[TaskStatus]) -> None:
        self._task = task

    async def wait(self) -> TaskStatus:
        """As RestartJob.wait(). May be cancelled and called again."""
        await asyncio.wait([self._task])
        return TaskStatus.FAILED if self._task.cancelled() else self._task.result()

    async def cancel(self) -> TaskStatus:
        """As RestartJob.cancel(): supervisord has no queue, so nothing is ever taken out of it."""
        return await self.wait() if self._task.done() else TaskStatus.PENDING


class Supervisord:
    """ServiceManager for supervisord.

    `url` is unix:///PATH or http://HOST:PORT, with `user:password@` where it has one; ValueError
    for any other. Ids are `program`, `group:program`, and `group:*` for all of a group.
    """

    name: ClassVar[str] = "supervisord"

    def __init__(self, url: str, *, call_timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._endpoint = Endpoint.parse(url)
        self._call_timeout_s = call_timeout_s
        self._restarts: set[asyncio.Task[TaskStatus]] = set()
        self._groups: dict[str, asyncio.Lock] = {}

    async def resolve(self, name: str) -> str:
        """The id of a program or a group; a program in a group may be named without it."""
        programs = await self._programs()
        group = [program for program in programs if program.group == name]
        if len(group) == 1:
            return group[0].unit
        if group:
            return f"{name}:*"
        alone = [program for program in programs if program.name == name]
        return alone[0].unit if len(alone) == 1 else name

    def refusal(self, unit: str) -> str:
        """Why nobody may restart this unit, or ''."""
        group, _, name = unit.partition(":")
        own_group = os.environ.get("SUPERVISOR_GROUP_NAME")
        own_name = os.environ.get("SUPERVISOR_PROCESS_NAME")
        if own_group is not None and group == own_group and name in ("*", own_name or "", ""):
            return "asyd itself"
        names = {group, name}
        if names & MESSAGE_BUSES:
            return "the message bus"
        return "the journal" if names & JOURNALS else ""

    async def restart(self, unit: str) -> SupervisordJob:
        """Starts a restart; `unit` is an id that resolve() gave."""
        group, _, name = unit.partition(":")
        if not any(
            program.unit == unit or (name == "*" and program.group == group)
            for program in await self._programs()
        ):
            raise NoSuchTarget(f"supervisord has no program {unit}")
        lock = self._groups.setdefault(group, asyncio.Lock())
        task = asyncio.create_task(self._restart(unit, lock))
        self._restarts.add(task)
        task.add_done_callback(self._restarts.discard)
        return SupervisordJob(task)

    async def close(self) -> None:
        """Gives up the restarts under way: what supervisord was told, it still does."""
        if self._restarts:
            for task in self._restarts:
                task.cancel()
            await asyncio.wait(self._restarts)

    def __repr__(self) -> str:
        return f"<Supervisord {self._endpoint}>"

    async def _restart(self, unit: str, lock: asyncio.Lock) -> TaskStatus:
        group, _, name = unit.partition(":")
        try:
            async with lock:  # a start between another's stop and start would fail that one
                if name == "*":
                    await self._group("stopProcessGroup", group, allowed=NOT_RUNNING)
                    await self._group("startProcessGroup", group)
                else:
                    try:
                        await self._call("supervisor.stopProcess", unit, True, timeout_s=None)
                    except Fault as fault:
                        if fault.code != NOT_RUNNING:
                            raise
                    await self._call("supervisor.startProcess", unit, True, timeout_s=None)
        except (Fault, PlatformError) as error:
            _log.warning("supervisord did not restart %s: %s", unit, error)
            return TaskStatus.FAILED
        return TaskStatus.SUCCESS

    async def _group(self, method: str, group: str, *, allowed: int = SUCCESS) -> None:
        """Stops or starts a group. Fault, with the first of its processes that did not."""
        for entry in _entries(
            await self._call(f"supervisor.{method}", group, True, timeout_s=None)
        ):
            status = entry.get("status")
            if status not in (SUCCESS, allowed):
                raise Fault(int(status or 0), f"{entry.get('name')}: {entry.get('description')}")

    async def _programs(self) -> list[Program]:
        """Everything that supervisord looks after."""
        try:
            answer = await self._call(
                "supervisor.getAllProcessInfo", timeout_s=self._call_timeout_s
            )
        except Fault as fault:
            raise SystemFailure(f"supervisord refuses to answer: {fault}", SW.NODE_ERROR) from fault
        return [
            Program(str(entry.get("group")), str(entry.get("name"))) for entry in _entries(answer)
        ]

    async def _call(self, method: str, *arguments: str | bool, timeout_s: float | None) -> Any:
        return await http_rpc.call(self._endpoint, method, *arguments, timeout_s=timeout_s)


def _entries(answer: Any) -> list[dict[str, Any]]:
    """A list of structures, as supervisord describes processes. SystemFailure."""
    if not isinstance(answer, list) or not all(isinstance(entry, dict) for entry in answer):
        raise SystemFailure("supervisord answers something else than a list", SW.NODE_IO_ERROR)
    return answer
