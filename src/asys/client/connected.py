"""What the nodes of both shells tell about themselves without asking anybody."""

from __future__ import annotations

from typing import Final

from asys.client.caller import Caller
from asys.client.options import check_timeout
from asys.isa import Capabilities


class Connected:
    """A connection that has been accepted: its ends, its state, its timeout."""

    def __init__(self, caller: Caller, timeout: float) -> None:
        """Not for users of the SDK: `connect` makes nodes."""
        self._caller: Final = caller
        self._timeout = timeout

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
    def agent_key(self) -> bytes:
        """This agent's public key, 32 bytes."""
        return self._caller.agent_key

    @property
    def caps(self) -> Capabilities | None:
        """SYS_CAPS as it was at connect; None when SYS_CAPS is not granted to this agent."""
        return self._caller.caps

    @property
    def speaks_part_b(self) -> bool:
        """The node knows the capability map by pages, and what else came with it."""
        return self._caller.speaks_part_b

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
