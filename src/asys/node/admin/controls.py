"""What an admin can do to a running node: see its sessions, end them, go dark, reload.

The admin socket is one way in; SIGHUP is the other one for reading the agents again.
"""

from __future__ import annotations

import logging
import os
from typing import Final

from asys.node.admin.blackout import Blackout
from asys.node.admin.held import Held
from asys.node.admin.keys import AgentKeys, KeysInfo
from asys.node.admin.verbs import ReloadReport, SessionInfo
from asys.node.disk.config_dir import ConfigDir
from asys.node.disk.files import quoted
from asys.node.health.counts import Closing
from asys.node.health.metrics import Health
from asys.node.server import Node
from asys.protocol.statement import KeyStatement

REPORTED_LINES: Final = 100
"""Bad lines of `authorized_agents` that are logged one by one."""

_log = logging.getLogger("asyd")
_NS: Final = 1_000_000_000


class NodeControls:
    """As asys.node.admin.verbs.Controls, for a node with its directories."""

    def __init__(self, node: Node, config: ConfigDir, blackout: Blackout, health: Health) -> None:
        self._node = node
        self._health = health
        self._config = config
        self._blackout = blackout

    def sessions(self) -> list[SessionInfo]:
        """As Controls.sessions."""
        now = self._node.clock.time_ns() // _NS
        return [
            SessionInfo(
                key=one.agent_key,
                label=one.grant.holding.label,
                peer=one.peer,
                id=one.id,
                opened=one.opened_ns // _NS or now,
                idle_seconds=one.idle_seconds,
                confirmed=bool(one.id),
            )
            for one in self._node.sessions
        ]

    def close_key(self, key: bytes) -> int:
        """As Controls.close_key."""
        found = self._node.of_key(key)
        for session in found:
            session.close(Closing.ADMIN)
        return len(found)

    async def set_dark(self, dark: bool) -> None:
        """As Controls.set_dark: in force first, on the disk after."""
        self._node.authority.set_dark(dark)
        await self._blackout.set(dark)

    def is_dark(self) -> bool:
        """As Controls.is_dark."""
        return self._node.authority.dark

    async def held(self, what: str) -> Held | None:
        """As Controls.held."""
        if what == "isolations":
            return self._node.isolations
        if self._node.throttled is not None:
            await self._node.throttled.look()
        return self._node.throttled

    def metrics(self) -> str:
        """As Controls.metrics."""
        return self._health.text()

    def keys(self) -> KeysInfo:
        """As Controls.keys."""
        node = self._node
        keys = node.keys
        if keys.statement is None:
            return KeysInfo(node.key.public, None, ())
        known = node.authority.known()
        agents = tuple(
            AgentKeys(one.key, one.label, keys.state_of(one.key), node.is_connected(one.key))
            for one in known
        )
        return KeysInfo(node.key.public, keys.statement, agents)

    async def rotate(self, overlap: int) -> KeyStatement:
        """As Controls.rotate."""
        return await self._node.keys.begin(overlap)

    async def finish(self) -> KeyStatement:
        """As Controls.finish."""
        return await self._node.keys.finish()

    def reload(self) -> ReloadReport:
        """As Controls.reload. What is wrong is logged too."""
        book = self._config.load_agents()
        self._node.keys.look()
        self._node.authority.replace_book(book)
        report_agents(self._config, self._node)
        return ReloadReport(len(book.agents), book.faults)


def report_agents(config: ConfigDir, node: Node) -> None:
    """Says how many agents there are, and which lines grant nothing."""
    faults = node.book.faults
    for number, fault in faults[:REPORTED_LINES]:
        _log.warning("%s line %d grants nothing: %s", config.agents_from, number, fault)
    if len(faults) > REPORTED_LINES:
        _log.warning(
            "%d more lines grant nothing; see: asyd agents check", len(faults) - REPORTED_LINES
        )
    for agent in node.authority.ended_early:
        _log.warning(
            "%s line %d has ended and stays so, though the clock was set back since; to let it in "
            "again, give it another expires=",
            config.agents_from,
            agent.line,
        )
    _log.info("%d agents in %s", len(node.book.agents), config.agents_from)
    if config.agents_from != config.agents_path and os.path.exists(config.agents_path):
        _log.warning("%s is not read: the agents are a credential", config.agents_path)
    if not node.book.agents:
        _log.warning(
            "nobody can connect; add an agent with: asyd agents add KEY --config-dir %s",
            quoted(config.path),
        )
