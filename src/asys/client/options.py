"""What `connect` is told, checked and looked up before the first byte."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Final

from asys.client.address import Address
from asys.client.identity import Identity
from asys.client.known_hosts import KnownHosts
from asys.client.next_key import Carry
from asys.client.renewal import Renewal
from asys.errors import ArgumentError
from asys.protocol.limits import KEY_SIZE

DEFAULT_TIMEOUT: Final = 10.0
"""Seconds for connecting, and for each call."""


@dataclass(frozen=True, slots=True)
class Options:
    """Where to connect, as whom, which key to expect (None: unknown), how long to wait.

    `renewal` says how long the keys of the connection may serve; it is for one connection.
    `superseded` are keys that the node had before, and `carry` writes down that it states another.
    """

    address: Address
    identity: Identity
    trusted: bytes | None
    timeout: float
    renewal: Renewal
    superseded: frozenset[bytes] = frozenset()
    carry: Carry | None = None

    @classmethod
    def of(
        cls,
        host: str,
        port: int,
        identity: Identity | None,
        known_hosts: KnownHosts | None,
        node_key: bytes | None,
        timeout: float,
        rekey_seconds: float | None,
        rekey_requests: int | None,
    ) -> Options:
        """Checks and completes what the caller said.

        ArgumentError for an argument that cannot be right; IdentityError when the agent's key or
        `known_hosts` cannot be used.
        """
        address = Address.of(host, port)
        check_timeout(timeout)
        renewal = Renewal(rekey_seconds, rekey_requests)
        superseded: frozenset[bytes] = frozenset()
        carry: Carry | None = None
        if node_key is None:
            hosts = known_hosts or KnownHosts()
            trusted = hosts.lookup(host, port)
            if trusted is not None:
                superseded = hosts.superseded(host, port)
                carry = partial(hosts.carry, host, port)
        elif isinstance(node_key, bytes) and len(node_key) == KEY_SIZE:
            trusted = node_key
        else:
            raise ArgumentError(f"node_key must be {KEY_SIZE} bytes")
        return cls(
            address, identity or Identity.load(), trusted, timeout, renewal, superseded, carry
        )


def check_timeout(timeout: float) -> float:
    """The timeout itself. ArgumentError unless it is a positive, finite number of seconds."""
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise ArgumentError(f"timeout must be a number of seconds, not {timeout!r}")
    if not (timeout > 0 and math.isfinite(timeout)):
        raise ArgumentError(f"timeout must be more than 0 seconds and finite, not {timeout}")
    return float(timeout)
