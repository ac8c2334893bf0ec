"""The node: what all sessions share, who may come in, and what they listen on."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from asys.audit.records import KeyEvent, Refusal
from asys.isa import CONTINUE
from asys.isa.capmap import EVERYTHING, STATEMENT, with_carrier
from asys.node import handlers
from asys.node.agents.authority import Authority, Past, Store
from asys.node.agents.book import AgentBook
from asys.node.agents.directory import Delegate, Holding, key_hash
from asys.node.agents.grant import Grant
from asys.node.agents.rates import Bucket, RateLimit
from asys.node.agents.scope import Scope
from asys.node.audit.coalesce import NO_KEY
from asys.node.audit.journaled_log import JournaledLog
from asys.node.audit.log import Audit
from asys.node.audit.shadow.strict import Strict
from asys.node.chains import Chains
from asys.node.clock import Clock
from asys.node.connection import Connection
from asys.node.courtesy import Courtesy
from asys.node.descriptors import Descriptors
from asys.node.dispatch import Dispatcher
from asys.node.door import HandshakeRates, Replays, Unconfirmed
from asys.node.facts import Facts
from asys.node.health.counts import Closing, Counts
from asys.node.held.isolations import Isolations
from asys.node.held.throttled import ThrottleBook, Throttling
from asys.node.keys import NodeKeys
from asys.node.limits import Limits, Mode
from asys.node.logs import Throttled
from asys.node.platform.base import Logs, Platform, ServiceManager
from asys.node.protection import Protection
from asys.node.recorder import NOTHING, JournalingRecorder, NoRecorder, Recorder
from asys.node.sampler import Sampler
from asys.node.session import Session
from asys.node.tasks import TaskTable
from asys.node.trees import Trees
from asys.node.vendor.pool import Pool
from asys.node.vendor.vendors import Vendors, chainable_by, lit_by
from asys.protocol.keys import PrivateKey
from asys.protocol.statement import KeyStatement
from asys.protocol.status import SW

__all__ = ["Limits", "Mode", "Node", "handlers"]

_log = logging.getLogger("asyd.node")

_NS: Final = 1_000_000_000

_STATUS_FLAGS: Final = 17
"""Where SYS_STATUS shows the node flags."""


class Node:
    """State that outlives a session. Owned by one event loop."""

    platform: Platform
    clock: Clock
    services: ServiceManager | None
    logs: Logs | None
    trees: Trees | None

    def __init__(
        self,
        *,
        key: PrivateKey | NodeKeys,
        book: AgentBook,
        platform: Platform,
        clock: Clock,
        services: ServiceManager | None = None,
        logs: Logs | None = None,
        limits: Limits | None = None,
        mode: Mode = Mode.FULL,
        delegates: tuple[Delegate, ...] = (),
        store: Store | None = None,
        past: Past | None = None,
        dark: bool = False,
        audit: Audit | None = None,
        audit_needed: bool = True,
        throttling: Throttling | None = None,
        isolations: Isolations | None = None,
        vendors: Vendors | None = None,
        checked: bool = True,
    ) -> None:
        """Without `audit` nothing is on record; with `audit_needed`, what leaves no record as there
        is no room for it must not run.

        `checked` False leaves capability maps, scopes and rates out, to measure their cost.
        """
        self.keys: Final = key if isinstance(key, NodeKeys) else NodeKeys(key, clock)
        self.platform = platform
        self.clock = clock
        self.services = services
        self.logs = logs
        """What reads the machine's logs; None where that cannot be done."""
        found = platform.process_trees()
        self.trees = Trees(found) if found is not None else None
        """What finds out who started whom; None where that cannot be done."""
        self.limits = limits or Limits()
        self.uid = platform.node_uid()
        self.tasks = TaskTable()
        self.chains = Chains(clock)
        self.courtesy = Courtesy(clock.now)
        self.counts: Final = Counts()
        self.sampler = Sampler(platform, clock, lag=self.counts.lag)
        self.protection = Protection(platform)
        self.noticed = Throttled(logging.getLogger("asyd.door"))
        self.rates = HandshakeRates(self.limits.handshakes)
        self.replays = Replays()
        self.isolations = isolations
        """What is cut off the network; None where that cannot be done."""
        self.throttled: ThrottleBook | None = None
        """What is stopped; None where no process can be held."""
        if platform.can_throttle():
            self.throttled = ThrottleBook(platform, clock, throttling, connected=self.is_connected)
        self.audit = audit
        self.strict: Strict | None = None
        """What holds up instructions until a collector has their record, where there is one."""
        self._audit_needed = audit_needed
        self._checked = checked
        self.vendors = vendors
        if vendors is not None:
            vendors.changed = self._regrant
        self._dispatcher = Dispatcher(self, mode.offered)
        self._grants: dict[bytes, Grant] = {}
        self._buckets: dict[tuple[bytes, RateLimit], Bucket] = {}
        self.facts = Facts(platform, clock.now())
        self.descriptors = Descriptors()
        """What connections must leave for the node's own work."""
        self._connections: set[Connection] = set()
        self._unconfirmed = Unconfirmed[Connection](self.limits.unconfirmed)
        self._sessions: dict[int, Session] = {}
        self._per_key: Counter[bytes] = Counter()
        self._background: set[asyncio.Task[None]] = set()
        self.authority = Authority(
            book,
            delegates,
            clock,
            node_key=self.key.public,
            store=store,
            changed=self._regrant,
            dark=dark,
            past=past,
        )
        self.keys.changed = self._new_keys
        self.keys.record = self._record_keys
        self.keys.announce()

    # -- keys

    @property
    def key(self) -> PrivateKey:
        """The key that the node shows."""
        return self.keys.key

    def _new_keys(self) -> None:
        """There is another key, or a next one: for every agent another instruction, or one less."""
        self.authority.set_node_key(self.key.public)
        self._regrant()

    def _record_keys(self, event: KeyEvent, statement: KeyStatement) -> None:
        if self.audit is not None:
            self.audit.node_key(event, statement.old_key, statement.new_key, statement.ends)

    # -- who comes in

    def admit(self, session: Connection) -> bool:
        """Whether there is room for a connection that has not shown who it is.

        When too many of these are there, the newcomer takes the place of the oldest; also where
        there are file descriptors for no more.
        """
        if len(self._sessions) >= self.limits.sessions:
            return False
        evicted = None
        if len(self._connections) >= self.descriptors.connections:
            evicted = self._unconfirmed.pop()
            if evicted is None:
                return False
        self._connections.add(session)
        evicted = self._unconfirmed.add(session) or evicted
        if evicted is not None:
            evicted.evict()
        return True

    def greeted(self, session: Connection, source: bytes | str) -> str:
        """A connection has shown the magic: why it may not go on, or ''."""
        if not self.rates.allow(source, self.clock.now()):
            return "too many handshakes from one address"
        self._unconfirmed.advance(session)
        return ""

    def knows(self, agent_key: bytes, peername: object, ephemeral: bytes) -> Grant | None:
        """The grant of an agent whose message 1 has authenticated; None: answer 6982."""
        grant = self.grant(agent_key)
        if grant is not None and grant.ended(self.clock.time_ns()):
            self.authority.expire(grant.ends_ns // _NS)
            grant = self.grant(agent_key)
        if grant is None or not _may_come_from(grant.holding, peername):
            return None
        self.replays.remember(ephemeral, self.clock.now())
        return grant

    def confirm(self, session: Session) -> SW | None:
        """The first message of a session has authenticated: nobody replays that.

        Gives it its id and its place; else the status word that refuses it.
        """
        key = session.grant.holding.key
        if (
            len(self._sessions) >= self.limits.sessions
            or self._per_key[key] >= self.limits.sessions_per_key
        ):
            return SW.BLOCKED
        session_id = 0
        while not session_id or session_id in self._sessions:
            session_id = secrets.randbits(16)
        session.id = session_id
        self._unconfirmed.discard(session)
        self._sessions[session_id] = session
        self._per_key[key] += 1
        self.counts.opened += 1
        self.keys.came(key, session.node_key)
        self.facts.refresh(self.clock.now())
        self.sampler.wake()
        return None

    def record(self, session: Session) -> Recorder | NoRecorder:
        """What puts a session that has just been confirmed on record, if anything does."""
        if self.audit is None:
            return NOTHING
        holding = session.grant.holding
        who = (holding.key, holding.label, holding.root.line, session.peer)
        if isinstance(self.audit, JournaledLog):
            return JournalingRecorder(
                self.audit, *who, needed=self._audit_needed, strict=self.strict
            )
        return Recorder(self.audit, *who, needed=self._audit_needed, strict=self.strict)

    def count_refusal(self, reason: Refusal, agent_key: bytes = b"") -> None:
        """Puts on record that a connection led to no session; `agent_key` where one was proven."""
        self.counts.refused[reason.name.lower()] += 1
        if self.audit is not None:
            self.audit.refused(reason, key_hash(agent_key) if agent_key else NO_KEY)

    def leave(self, session: Connection) -> None:
        """Frees what a session held: its id, its place, its task handles."""
        session.recorder.close()
        if self._sessions.pop(session.id, None) is not None:
            self.counts.closed[session.ending] += 1
            key = session.grant.holding.key
            self._per_key[key] -= 1
            if not self._per_key[key]:
                del self._per_key[key]
                if self.throttled is not None:
                    self.throttled.left(key)
            self.tasks.close_session(session.id)
            self.chains.close_session(session.id)

    def count_descriptors(self) -> None:
        """Everything is open by now that stays open: the rest is for connections and a reserve."""
        self.descriptors.count(len(self._connections))

    def forget(self, session: Connection) -> None:
        """The connection is gone."""
        self._unconfirmed.discard(session)
        self._connections.discard(session)

    def of_key(self, agent_key: bytes) -> list[Connection]:
        """The connections of an agent that have come through the handshake, confirmed or not."""
        return [
            session
            for session in self._connections
            if not session.closed and session.agent_key == agent_key
        ]

    # -- what an agent holds

    def grant(self, agent_key: bytes) -> Grant | None:
        """What the agent with this key holds; None: it may not connect."""
        grant = self._grants.get(agent_key)
        if grant is None:
            holding = self.authority.holding(agent_key)
            if holding is None:
                return None
            grant = self._grants[agent_key] = self._compile(holding)
        return grant

    def caps(self, holding: Holding) -> int:
        """The effective map of a holding; the bit of CONTINUE follows from the others, that of
        KEY_STATEMENT from the node's keys.
        """
        vendors = self._vendors_for(holding.root.scope)
        chainable = self._dispatcher.chainable | chainable_by(vendors)
        caps = with_carrier(self.authority.caps(holding), chainable)
        return caps & ~STATEMENT if self.keys.next is None else caps | STATEMENT

    def _vendors_for(self, scope: Scope) -> Mapping[int, Pool]:
        return self.vendors.usable(scope) if self.vendors is not None else {}

    def _compile(self, holding: Holding) -> Grant:
        caps = self.caps(holding)
        scope = holding.root.scope
        rates = {limit.code: self._bucket(holding, limit) for limit in holding.root.rates}
        if not self._checked:
            caps, scope, rates = EVERYTHING, Scope(), {}
        vendors = self._vendors_for(scope)
        grant = Grant(
            holding,
            self._dispatcher.table(caps, rates),
            caps & (self._dispatcher.possible | lit_by(vendors)),
            scope,
            rates,
            holding.expires * _NS,
            vendors=vendors,
        )
        if not grant.ends_ns:  # what ends has its time looked at with every request
            grant.readings = self._dispatcher.readings(caps, rates)
        return grant

    def _bucket(self, holding: Holding, limit: RateLimit) -> Bucket:
        """The bucket that all agents of one line share; reading the file again does not fill it."""
        return self._buckets.setdefault((holding.root.key, limit), Bucket(limit))

    def _regrant(self) -> None:
        """Something has changed: live sessions hold by it from their next instruction on.

        Sessions of keys that hold nothing any more, or may not be where they are, are closed.
        """
        self._grants.clear()
        self._dispatcher.forget_tables()
        lines = self.book.agents
        for root, limit in list(self._buckets):
            if root not in lines or limit not in lines[root].rates:
                del self._buckets[root, limit]
        for session in list(self._connections):
            if session.closed or not session.agent_key:
                continue
            grant = self.grant(session.agent_key)
            if grant is None or not _may_come_from(grant.holding, session.peername):
                session.close(Closing.REVOKED)
            else:
                session.grant = grant
                if not grant.lit >> CONTINUE.code & 1:
                    self.chains.close_session(session.id)

    def caps_reply(self, grant: Grant, page: int) -> bytes:
        """The answer to SYS_CAPS for an agent."""
        return self.facts.reply(grant, page, flags=self.flags)

    # -- flags

    @property
    def flags(self) -> int:
        """The node flags: bit 0 is AUDIT_DEGRADED."""
        return self.audit.flags if self.audit is not None else 0

    @property
    def success(self) -> bytes:
        """The status word of success with the node flags, for what was never deployed without."""
        flags = self.flags
        return bytes((0x91, flags)) if flags else SW.SUCCESS.wire

    def show_flags(self, status_reply: bytes) -> bytes:
        """A response to SYS_STATUS, with the node flags in their place where it is not an error."""
        flags = self.flags
        if not flags or len(status_reply) <= _STATUS_FLAGS:
            return status_reply
        return status_reply[:_STATUS_FLAGS] + bytes((flags,)) + status_reply[_STATUS_FLAGS + 1 :]

    # -- running

    @property
    def book(self) -> AgentBook:
        """The lines of `authorized_agents`, as last read."""
        return self.authority.book

    @property
    def sessions(self) -> list[Connection]:
        """Sessions that are open now, and those that are not confirmed yet."""
        return [one for one in self._connections if one.agent_key and not one.closed]

    @property
    def session_count(self) -> int:
        """Sessions that are open now."""
        return len(self._sessions)

    @property
    def connection_count(self) -> int:
        """Connections that are there now, sessions or not."""
        return len(self._connections)

    def is_connected(self, agent_key: bytes) -> bool:
        """Whether an agent has a session."""
        return agent_key in self._per_key

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
        if self.vendors is not None:
            await self.vendors.close()
        if self.throttled is not None:
            await self.throttled.close()
        if self.isolations is not None:
            await self.isolations.close()
        await self.authority.close()
        await self.keys.close()
        self.chains.close()
        self.sampler.close()
        if self.trees is not None:
            self.trees.close()
        if self.logs is not None:
            await self.logs.close()
        if self.services is not None:
            await self.services.close()


def _may_come_from(holding: Holding, peername: object) -> bool:
    sources = holding.root.sources
    return sources is None or sources.allows(peername)
