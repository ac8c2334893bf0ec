"""Which keys to use and to expect: files are read once, and again when they have changed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from asys.client.address import Address
from asys.client.identity import Identity
from asys.client.known_hosts import KnownHosts
from asys.fleet.inventory import NodeEntry


class Keyring:
    """The agent's keys and the nodes'. A file that lists thousands of nodes is not read for each.

    Every method raises IdentityError for a file that cannot be used.
    """

    def __init__(self, identity: Identity | None, known_hosts: KnownHosts | None) -> None:
        """What holds for nodes whose entry does not say otherwise; None: as in `~/.asys`."""
        self._identity: Final = identity
        self._known_hosts: Final = known_hosts
        self._loaded: dict[Path | None, Identity] = {}
        self._read: dict[Path, tuple[tuple[int, int, int], dict[str, bytes]]] = {}

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
        if entry.known_hosts is not None:
            return KnownHosts(entry.known_hosts)
        return self._known_hosts or KnownHosts()

    def node_key(self, entry: NodeEntry) -> bytes | None:
        """The key that this node must show; None: nobody has confirmed one."""
        if entry.key is not None:
            return entry.key
        hosts = self.known_hosts(entry)
        try:
            found = hosts.path.stat()
        except OSError:
            return None  # `connect` says what is wrong with it
        state = (found.st_mtime_ns, found.st_size, found.st_ino)
        before = self._read.get(hosts.path)
        if before is None or before[0] != state:
            before = self._read[hosts.path] = (state, hosts.entries())
        return before[1].get(str(Address.of(entry.host, entry.port)))
