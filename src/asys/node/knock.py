"""One connection at the door: what it costs, and whether it was here before."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from asys.audit.records import Refusal
from asys.node.door import source
from asys.node.listen import peer_credentials

if TYPE_CHECKING:
    from asys.node.connection import Connection


class Knock:
    """As asys.protocol.link.Gate; tells the session why, where it refuses."""

    __slots__ = ("_session", "_transport")

    def __init__(self, session: Connection, transport: asyncio.Transport) -> None:
        self._session = session
        self._transport = transport

    def greeted(self) -> str:
        """As Gate.greeted: a token for each handshake, paid before the node shows its key."""
        session = self._session
        known = peer_credentials(self._transport.get_extra_info("socket"))
        why = session.node.greeted(session, source(session.peername, known[0] if known else None))
        if why:
            session.refusal = Refusal.RATE
        return why

    def knocked(self, ephemeral: bytes) -> str:
        """As Gate.knocked: message 1 is not taken twice."""
        node = self._session.node
        if not node.replays.seen(ephemeral, node.clock.now()):
            return ""
        self._session.refusal = Refusal.REPLAY
        return "a handshake that was here before"
