"""Where an agent may connect from: `from=` (docs/protocol.md, section 8)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from asys.node.agents.words import BadOption, cut, elements

UNIX: Final = "unix"
"""The word for the Unix sockets that asyd listens on."""

_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_PREFIX: Final = re.compile(r"[0-9A-Fa-f.:]{2,45}(?:/[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Sources:
    """Networks of IPv4 and IPv6 addresses, and whether a Unix socket will do."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    unix: bool = False

    def allows(self, peername: object) -> bool:
        """Whether a peer may be let in. `peername` is what its transport calls it.

        An IPv4 address counts as one however an IPv6 socket spells it. A peer that has gone has no
        name any more; it is not let in.
        """
        if isinstance(peername, (str, bytes)):
            return self.unix
        if not isinstance(peername, tuple) or not peername:
            return False
        address = _address(peername[0])
        return address is not None and any(address in network for network in self.networks)

    def __str__(self) -> str:
        """The list as it is written in the file."""
        words = [
            str(one.network_address) if one.prefixlen == one.max_prefixlen else str(one)
            for one in self.networks
        ]
        return ",".join([*words, UNIX] if self.unix else words)


def _address(host: object) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(str(host).partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def parse_sources(written: str) -> Sources:
    """A comma list of addresses, of prefixes such as 10.0.0.0/8, and of `unix`. BadOption."""
    words = elements(written)
    networks = tuple(_parse_network(word) for word in words if word != UNIX)
    return Sources(networks, UNIX in words)


def _parse_network(word: str) -> IPv4Network | IPv6Network:
    if "%" in word:
        raise BadOption(f"{cut(word)} has a scope id; write the address without %")
    try:
        if not _PREFIX.fullmatch(word):
            raise ValueError(word)
        network = ip_network(word, strict=False)
    except ValueError:
        raise BadOption(
            f"{cut(word)} is no IPv4 or IPv6 address, no prefix such as 10.0.0.0/8 or "
            f"2001:db8::/32, and not the word {UNIX}"
        ) from None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        low = int(network.network_address) & 0xFFFFFFFF
        plain = IPv4Network((low, network.prefixlen - 96))
        raise BadOption(f"{cut(word)} is IPv4 in the clothes of IPv6; write {plain}")
    if network.network_address != ip_address(word.partition("/")[0]):
        raise BadOption(f"{cut(word)} has bits set behind its prefix; write {network}")
    return network
