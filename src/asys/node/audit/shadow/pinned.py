"""`known_collectors`: which key a collector must show (docs/audit.md, section 12).

A file of the form of `known_hosts` (docs/protocol.md, section 8) in the node's config directory.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from asys.client.address import Address
from asys.client.known_hosts import KnownHosts
from asys.errors import ArgumentError, IdentityError
from asys.node.audit.shadow.words import Destination
from asys.node.disk.files import ConfigError, quoted
from asys.protocol.keys import is_low_order

FILE_NAME: Final = "known_collectors"

_ADDRESS: Final = re.compile(r"(?P<host>[^:\[\]]+|\[[^\[\]]+\]):(?P<port>[0-9]{1,5})")


def parse_collector(written: str) -> Address:
    """The address in HOST:PORT or [IPV6]:PORT. ValueError."""
    match = _ADDRESS.fullmatch(written)
    if match is None:
        raise ValueError(f"{written!r} is not HOST:PORT, such as 192.0.2.9:7817 or [::1]:7817")
    try:
        return Address.of(match["host"], int(match["port"]))
    except ArgumentError as error:
        raise ValueError(f"{written!r}: {error}") from None


def parse_key(written: str) -> bytes:
    """The key in 64 hex digits. ValueError."""
    if not re.fullmatch("[0-9A-Fa-f]{64}", written):
        raise ValueError("a key is 64 hex digits, as `asys audit collect` prints it behind READY")
    key = bytes.fromhex(written)
    if is_low_order(key):
        raise ValueError("that key is nobody's: everybody can compute its secrets")
    return key


class KnownCollectors:
    """The keys of the collectors that an admin has confirmed."""

    def __init__(self, config_dir: Path) -> None:
        self._config_dir = config_dir
        self._known = KnownHosts(config_dir / FILE_NAME)

    def entries(self) -> dict[str, bytes]:
        """Every collector and its key. ConfigError: the file cannot be used."""
        try:
            return self._known.entries()
        except IdentityError as error:
            raise ConfigError(str(error)) from error

    def trust(self, address: Address, key: bytes) -> None:
        """Adds one. ConfigError, also when it is there with another key."""
        before = self.entries().get(str(address))
        if before not in (None, key):
            raise ConfigError(
                f"{self._known.path} has another key for {address}: {before.hex()}; remove that "
                "line first if the collector really has a new key"
            )
        try:
            self._known.add(address.host, address.port, key)
        except IdentityError as error:
            raise ConfigError(str(error)) from error

    def destination(self, address: Address) -> Destination:
        """The collector at an address. ConfigError: its key is not known; how to mend that."""
        key = self.entries().get(str(address))
        if key is None:
            raise ConfigError(
                f"{self._known.path} has no key for the collector {address}; run: asyd collector "
                f"trust {address} KEY --config-dir {quoted(self._config_dir)} "
                "(KEY is what `asys audit collect` prints behind READY)"
            )
        return Destination(address, key)
