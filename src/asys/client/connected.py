"""What the nodes of both shells tell about themselves without asking anybody."""

from __future__ import annotations

from typing import Protocol

from asys.client.caller import Caller
from asys.client.options import check_timeout
from asys.isa import Capabilities, CapabilityMap
from asys.isa.capmap import code_of


class HasCaller(Protocol):
    """What carries the bytes of a caller."""

    @property
    def caller(self) -> Caller:
        """The caller of the connection."""


class Connected:
    """A connection that has been accepted: its ends, its state, its timeout."""

    _wire: HasCaller

    def __init__(self, timeout: float) -> None:
        """Not for users of the SDK: `connect` makes nodes."""
        self._timeout = timeout

    @property
    def _caller(self) -> Caller:
        return self._wire.caller

    @property
    def host(self) -> str:
        """Host name, IP address, or `unix:PATH`."""
        return self._caller.address.host

    @property
    def port(self) -> int:
        """TCP port; 0 for a unix socket."""
        return self._caller.address.port

    @property
    def node_key(self) -> bytes:
        """The node's static public key, 32 bytes, proven in the handshake."""
        return self._caller.link.node_key

    @property
    def next_key(self) -> bytes | None:
        """The key that the node's present one has stated in this connection, 32 bytes, checked.

        It is on record in `known_hosts`, unless the key was given in code: put it there instead,
        before the node's admin ends the old one. The next connection is made with it (section 8.4).
        """
        return self._caller.node_keys.next_key

    @property
    def agent_key(self) -> bytes:
        """This agent's public key, 32 bytes."""
        return self._caller.agent_key

    @property
    def caps(self) -> Capabilities | None:
        """SYS_CAPS, page 0, as last answered; None when it is not granted to this agent."""
        return self._caller.lit.caps

    @property
    def capability_map(self) -> CapabilityMap | None:
        """All instructions that exist for this agent here; None when SYS_CAPS is not granted.

        As it was at connect, changed by every later answer that says something of it: SYS_CAPS
        sets its page, 6A81 takes an instruction out. An admin may change it at any time;
        `refresh_capabilities` asks the node.
        """
        return self._caller.lit.map

    def can(self, instruction: str | int) -> bool:
        """Whether an instruction exists for this agent here, by name, code or two hex digits.

        `can("PROC_THROTTLE")`, `can(0x20)`, `can("20")`. It asks nobody: `capability_map` says what
        it knows. What is lit may still be refused for a target (6982) or for a while (6400).
        ArgumentError for what is no instruction. Where SYS_CAPS is not granted nothing is known,
        and guessing would be wrong either way: that is the StatusError that SYS_CAPS was answered
        with, as a rule NoSuchInstruction.
        """
        return self._caller.lit.can(code_of(instruction))

    @property
    def speaks_part_b(self) -> bool:
        """The node knows the capability map by pages, and what else came with it."""
        return self._caller.lit.speaks_part_b

    @property
    def closed(self) -> bool:
        """The connection has ended; every call raises ConnectionLost."""
        return self._caller.error is not None

    @property
    def timeout(self) -> float:
        """Seconds that a call waits for its answer. May be set."""
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._timeout = check_timeout(seconds)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<Node {self._caller.address} {self.node_key[:4].hex()} {state}>"
