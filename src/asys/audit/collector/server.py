"""What all connections of a collector share: who may come in, and which node is which."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from asys.audit.collector.connection import Connection
from asys.audit.collector.frames import Message, What
from asys.audit.collector.keeper import Keeper
from asys.audit.collector.nodes import NODES_FILE, Nodes, parse_nodes
from asys.node.clock import Clock, Handle
from asys.node.door import UNCONFIRMED, HandshakeRates, Unconfirmed
from asys.node.logs import Throttled
from asys.protocol.keys import PrivateKey

_log = logging.getLogger("asys.collector")

HANGS_SECONDS: Final = 5.0
"""A disk that does not answer for so long is said to hang."""

WATCH_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a collector takes on."""

    nodes: int = 1024
    """Nodes that are connected at a time."""

    unconfirmed: int = UNCONFIRMED
    """Connections that have not shown who they are; the oldest goes for a newcomer."""

    handshakes: int = 20
    """Handshakes a second from one address, and five times as many at once; 0: no limit."""


class Collector:
    """State that outlives a connection. Owned by one event loop."""

    keeper: Keeper

    def __init__(
        self, key: PrivateKey, nodes: Nodes, clock: Clock, limits: Limits | None = None
    ) -> None:
        """`keeper` has to be set before the first connection."""
        self.key = key
        self.clock = clock
        self._limits = limits or Limits()
        self._nodes = nodes
        self._rates = HandshakeRates(self._limits.handshakes)
        self._unconfirmed = Unconfirmed[Connection](self._limits.unconfirmed)
        self._all: set[Connection] = set()
        self._by_id: dict[int, Connection] = {}
        self._by_label: dict[str, Connection] = {}
        self._last_id = 0
        self._noticed = Throttled(_log)
        self._hangs: set[str] = set()
        self._watch: Handle | None = None
        self._tell_faults()

    def watch(self) -> None:
        """Looks, now and again each second, whether the disk answers."""
        self._watch = self.clock.call_later(WATCH_SECONDS, self.watch)
        now = self.clock.now()
        for label, one in self._by_label.items():
            late = one.in_work and now - one.waits_since >= HANGS_SECONDS
            if late and label not in self._hangs:
                self._hangs.add(label)
                _log.error(
                    "%s: THE DISK HANGS: it has not taken what was pushed for %d s", label,
                    HANGS_SECONDS,
                )  # fmt: skip
            elif not late and label in self._hangs:
                self._hangs.discard(label)
                _log.warning("%s: the disk answers again", label)

    def close(self) -> None:
        """Ends every connection."""
        if self._watch is not None:
            self._watch.cancel()
        for one in list(self._all):
            one.drop("")

    # -- who comes in

    def admit(self, connection: Connection) -> str:
        """Why there is no room for a connection, or ''. A newcomer displaces the oldest."""
        self._all.add(connection)
        evicted = self._unconfirmed.add(connection)
        if evicted is not None:
            evicted.drop("others have come that did not show who they are")
        return ""

    def greeted(self, connection: Connection, source: bytes | str) -> str:
        """The magic has come: why it may not go on, or ''."""
        if not self._rates.allow(source, self.clock.now()):
            return "too many handshakes from one address"
        self._unconfirmed.advance(connection)
        connection.shows_magic()
        return ""

    def label_of(self, key: bytes) -> str:
        """The label of a node; '' for one that may not come in."""
        return self._nodes.labels.get(key, "")

    def tell_unknown(self, connection: Connection) -> None:
        """Says how the node is admitted, if that is wanted."""
        key = connection.node_key.hex()
        self.notice(
            connection,
            f"an unknown node; to admit it, give it a LABEL in {NODES_FILE}: {key} LABEL",
        )

    def confirm(self, connection: Connection) -> str:
        """The first message has authenticated: why there is no room for the node, or ''."""
        if not self.keeper.up:
            return "the process that writes is not there"
        known = self._by_label.get(connection.label)
        if known is None and len(self._by_label) >= self._limits.nodes:
            return "too many nodes are connected"
        if known is not None:
            known.drop("the node has connected anew")
        self._unconfirmed.discard(connection)
        self._last_id = self._last_id % 0xFFFFFFFF + 1
        connection.id = self._last_id
        self._by_id[connection.id] = connection
        self._by_label[connection.label] = connection
        self.keeper.say(connection.id, What.HELLO, connection.label.encode())
        self._noticed.log(
            f"{connection.label}: connected", f"from {connection.peer}", self.clock.now()
        )
        return ""

    def forget(self, connection: Connection, why: str) -> None:
        """The connection is gone."""
        self._all.discard(connection)
        self._unconfirmed.discard(connection)
        if self._by_id.pop(connection.id, None) is not None:
            self.keeper.say(connection.id, What.GONE)
        if self._by_label.get(connection.label) is connection:
            del self._by_label[connection.label]
            self._noticed.log(f"{connection.label}: disconnected:", why, self.clock.now())

    def notice(self, connection: Connection, why: str) -> None:
        """A line for the log, at most one of its kind a second."""
        kind, _, detail = why.partition(": ")
        who = connection.label or "a stranger"
        detail = f"({connection.peer}): {detail}" if detail else f"({connection.peer})"
        self._noticed.log(f"{who}: {kind}", detail, self.clock.now())

    # -- what the disk says

    def answered(self, message: Message) -> None:
        """As Hearer.answered."""
        connection = self._by_id.get(message.connection)
        if connection is not None:
            connection.answered(message.body)

    def disk_lost(self) -> None:
        """As Hearer.disk_lost: the nodes connect again, and hear where they stand."""
        for one in list(self._by_id.values()):
            one.drop("the process that writes has died")

    def nodes_read(self, data: bytes | None, why: str) -> None:
        """As Hearer.nodes_read: a node whose line is gone, or has another label, is cut off."""
        if data is None:
            _log.error("the nodes stay as they were: %s", why)
            return
        self._nodes = parse_nodes(data.decode("utf-8", "replace"))
        self._tell_faults()
        for one in list(self._all):
            if one.label and self.label_of(one.node_key) != one.label:
                one.drop("it is not admitted any more, or not under this label")

    def reload(self) -> None:
        """Reads `authorized_nodes` again, in its own time."""
        if not self.keeper.up:
            _log.error("the nodes stay as they were: the process that writes is not there")
        self.keeper.say(0, What.NODES)

    def _tell_faults(self) -> None:
        for fault in self._nodes.faults:
            _log.error("%s, %s: this line grants nothing", NODES_FILE, fault)
        count = len(self._nodes.labels)
        _log.info("%d %s in %s", count, "node" if count == 1 else "nodes", NODES_FILE)
