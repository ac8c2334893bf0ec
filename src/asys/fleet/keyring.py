"""Which keys to use and to expect: files are read once, and again when they have changed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from asys.client.address import Address
from asys.client.identity import Identity
from asys.client.known_hosts import KnownHosts
from asys.fleet.inventory import NodeEntry
from asys.protocol.limits import DEFAULT_PORT
from asys.protocol.statement import KeyStatement


class Keyring:
    """The agent's keys and the nodes'. A file that lists thousands of nodes is not read for each.

    Every method raises IdentityError for a file that cannot be used.
    """

    def __init__(self, identity: Identity | None, known_hosts: KnownHosts | None) -> None:
        """What holds for nodes whose entry does not say otherwise; None: as in `~/.asys`."""
        self._identity: Final = identity
        self._known_hosts: Final = known_hosts
        self._loaded: dict[Path | None, Identity] = {}
        self._hosts: dict[Path | None, KnownHosts] = {}

    def identity(self, entry: NodeEntry) -> Identity:
        """Who asks this node. It is read once."""
        where = entry.identity
        if where is None and self._identity is not None:
            return self._identity
        if where not in self._loaded:
            self._loaded[where] = Identity.load(where)
        return self._loaded[where]

    def known_hosts(self, entry: NodeEntry) -> KnownHosts:
        """Where this node's key is, if the entry does not have it."""
        where = entry.known_hosts
        if where not in self._hosts:
            hosts = self._known_hosts if where is None else None
            self._hosts[where] = _Remembered(hosts or KnownHosts(where))
        return self._hosts[where]

    def node_key(self, entry: NodeEntry) -> bytes | None:
        """The key that this node must show; None: nobody has confirmed one."""
        if entry.key is not None:
            return entry.key
        return self.known_hosts(entry).lookup(entry.host, entry.port)


class _Remembered(KnownHosts):
    """Another one, whose file is read again when it has changed; else it answers from memory."""

    __slots__ = ("_before", "_entries", "_of", "_seen")

    def __init__(self, of: KnownHosts) -> None:
        super().__init__(of.path)
        self._of: Final = of
        self._seen: tuple[int, int, int] | None = None
        self._entries: dict[str, bytes] = {}
        self._before: dict[str, frozenset[bytes]] = {}

    def entries(self) -> dict[str, bytes]:
        """As KnownHosts.entries."""
        self._refresh()
        return self._entries

    def lookup(self, host: str, port: int = DEFAULT_PORT) -> bytes | None:
        """As KnownHosts.lookup; whoever is not there is looked for in the file itself."""
        found = self.entries().get(str(Address.of(host, port)))
        return self._of.lookup(host, port) if found is None and self._seen is None else found

    def superseded(self, host: str, port: int = DEFAULT_PORT) -> frozenset[bytes]:
        """As KnownHosts.superseded."""
        self._refresh()
        return self._before.get(str(Address.of(host, port)), frozenset())

    def carry(self, host: str, port: int, statements: Iterable[KeyStatement]) -> bytes:
        """As KnownHosts.carry."""
        return self._of.carry(host, port, statements)

    def _refresh(self) -> None:
        seen = self._state()
        if seen is None:
            self._seen, self._entries, self._before = None, {}, {}
        elif seen != self._seen:
            self._entries, self._before = self._of.entries(), self._of.all_superseded()
            self._seen = seen
