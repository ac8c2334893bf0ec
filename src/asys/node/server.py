"""The node: what all sessions share, who may come in, and what they listen on."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

from asys.isa import Capabilities
from asys.node import handlers
from asys.node.agents import Agent, AgentBook
from asys.node.capability import words
from asys.node.clock import Clock
from asys.node.dispatch import Dispatcher
from asys.node.grant import Grant
from asys.node.logs import Throttled
from asys.node.platform.base import MachineFacts, Platform, PlatformError, ServiceManager
from asys.node.protection import Protection
from asys.node.sampler import Sampler
from asys.node.session import Session
from asys.node.tasks import TaskTable
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import VERSION
from asys.protocol.status import SW

__all__ = ["Limits", "Node", "handlers"]

_log = logging.getLogger("asyd.node")

FACTS_SECONDS: Final = 1.0
"""Age above which the machine's facts are read again when a session opens."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a node takes on. Over a limit it refuses at once."""

    sessions: int = 1024
    sessions_per_key: int = 64
    handshakes: int = 256
    """Connections that have not shown who they are."""


class Node:
    """State that outlives a session. Owned by one event loop."""

    platform: Platform
    clock: Clock
    services: ServiceManager | None

    def __init__(
        self,
        *,
        key: PrivateKey,
        book: AgentBook,
        platform: Platform,
        clock: Clock,
        services: ServiceManager | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.key = key
        self.platform = platform
        self.clock = clock
        self.services = services
        self.limits = limits or Limits()
        self.uid = platform.node_uid()
        self.tasks = TaskTable()
        self.sampler = Sampler(platform, clock)
        self.protection = Protection(platform)
        self.noticed = Throttled(logging.getLogger("asyd.door"))
        self._book = book
        self._dispatcher = Dispatcher(self)
        self._grants: dict[bytes, Grant] = {}
        self._facts = platform.facts()
        self._facts_at = clock.now()
        self._connections: set[Session] = set()
        self._sessions: dict[int, Session] = {}
        self._per_key: Counter[bytes] = Counter()
        self._background: set[asyncio.Task[None]] = set()

    # -- who comes in

    def admit(self, session: Session) -> bool:
        """Whether there is room for a connection that has not shown who it is."""
        handshakes = len(self._connections) - len(self._sessions)
        if len(self._sessions) >= self.limits.sessions or handshakes >= self.limits.handshakes:
            return False
        self._connections.add(session)
        return True

    def open_session(self, session: Session, agent_key: bytes) -> SW | None:
        """Gives a session its id and its grant; else the status word that refuses it."""
        grant = self.grant(agent_key)
        if grant is None:
            return SW.DENIED
        if (
            len(self._sessions) >= self.limits.sessions
            or self._per_key[agent_key] >= self.limits.sessions_per_key
        ):
            return SW.BLOCKED
        session_id = 0
        while not session_id or session_id in self._sessions:
            session_id = secrets.randbits(16)
        session.id = session_id
        session.grant = grant
        self._sessions[session_id] = session
        self._per_key[agent_key] += 1
        now = self.clock.now()
        if now - self._facts_at > FACTS_SECONDS:
            self._read_facts(now)
        self.sampler.wake()
        return None

    def _read_facts(self, now: float) -> None:
        """Looks at the machine again; where that fails, what was known stays."""
        self._facts_at = now
        try:
            self._facts = self.platform.facts()
        except PlatformError as error:
            _log.warning("SYS_CAPS says what it said before: %s", error)

    def leave(self, session: Session) -> None:
        """Frees what a session held: its id, its place, its task handles."""
        if self._sessions.pop(session.id, None) is not None:
            key = session.grant.agent.key
            self._per_key[key] -= 1
            if not self._per_key[key]:
                del self._per_key[key]
            self.tasks.close_session(session.id)

    def forget(self, session: Session) -> None:
        """The connection is gone."""
        self._connections.discard(session)

    # -- what an agent holds

    def grant(self, agent_key: bytes) -> Grant | None:
        """What the agent with this key holds; None when the file does not name it."""
        grant = self._grants.get(agent_key)
        if grant is None:
            agent = self._book.get(agent_key)
            if agent is None:
                return None
            grant = self._grants[agent_key] = self._compile(agent)
        return grant

    def _compile(self, agent: Agent) -> Grant:
        return Grant(
            agent, self._dispatcher.table(agent.caps), agent.caps & self._dispatcher.possible
        )

    def replace_book(self, book: AgentBook) -> None:
        """Takes over a new reading of `authorized_agents`.

        Live sessions hold by the new one from their next instruction on; sessions of keys that are
        no longer there are closed.
        """
        self._book = book
        self._grants.clear()
        self._dispatcher.forget_tables()
        for session in list(self._sessions.values()):
            grant = self.grant(session.grant.agent.key)
            if grant is None:
                session.close("its key was removed")
            else:
                session.grant = grant

    def caps_reply(self, grant: Grant) -> bytes:
        """The answer to SYS_CAPS for an agent."""
        if grant.caps_facts is not self._facts:
            grant.caps_facts = self._facts
            grant.caps_reply = _capabilities(grant.lit, self._facts).pack() + SW.SUCCESS.wire
        return grant.caps_reply

    # -- running

    @property
    def book(self) -> AgentBook:
        """Who may connect, as last read."""
        return self._book

    @property
    def session_count(self) -> int:
        """Sessions that are open now."""
        return len(self._sessions)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs something beside the sessions; what goes wrong in it is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._spawned)

    def _spawned(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("background work failed", exc_info=error)

    async def close(self) -> None:
        """Ends every connection and what runs beside them."""
        for session in list(self._connections):
            session.abort()
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self.sampler.close()
        if self.services is not None:
            await self.services.close()


def _capabilities(lit: int, facts: MachineFacts) -> Capabilities:
    core, ext = words(lit)
    major, minor, patch = facts.kernel
    return Capabilities(
        core_bitmap=core,
        ext_bitmap=ext,
        protocol_version=VERSION,
        kernel_major=major,
        kernel_minor=minor,
        kernel_patch=patch,
        cpu_count=facts.cpu_count,
        architecture=facts.architecture,
        ram_mb=facts.ram_mb,
        swap_mb=facts.swap_mb,
        root_size_mb=facts.root_size_mb,
        root_file_system=facts.root_file_system,
        rpi_source=facts.rpi_source,
        page=0,
    )
