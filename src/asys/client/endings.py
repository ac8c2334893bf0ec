"""What is said when a connection ends, or a request gets no answer."""

from __future__ import annotations

import copy

from asys.client.address import Address
from asys.client.pending import Pending
from asys.errors import (
    AgentRejected,
    AsysError,
    ConnectionLost,
    LinkError,
    OutcomeUnknown,
    SessionLimit,
)
from asys.protocol.link import LinkState
from asys.protocol.status import SW


def refusal(address: Address, agent_key: bytes, sw: int) -> LinkError | None:
    """The node's first message says whether it takes this agent (docs/protocol.md, 1)."""
    if sw == SW.DENIED:
        return AgentRejected(
            f"{address} does not know this agent, or not any more, or not from here; an admin of "
            f"the node adds it with: asyd agents add {agent_key.hex()}"
        )
    if sw == SW.BLOCKED:
        return SessionLimit(f"{address} has no room for another session; back off and try again")
    return None


def closed(
    address: Address, agent_key: bytes, state: LinkState, greeted: bool, reason: OSError | None
) -> ConnectionLost:
    """The node closed the connection, or `reason`; says how far it came and what that may mean."""
    why = f" ({reason.strerror or reason})" if reason is not None else ""
    if state is LinkState.MAGIC:
        what = (
            "closed the connection before it showed its key; it may have no room for another "
            "session, or something else than asyd listens there"
        )
    elif state is not LinkState.OPEN:
        what = "closed the connection during the handshake"
    elif not greeted:
        what = (
            "closed the connection before its first answer; it may not know this agent's key "
            f"{agent_key.hex()}, or have no room for another session"
        )
    else:
        what = "closed the connection"
    return ConnectionLost(f"{address} {what}{why}")


def ended(address: Address, error: LinkError) -> ConnectionLost:
    """For whoever calls after `error` ended the connection."""
    lost = ConnectionLost(f"the connection to {address} has ended: {error}")
    lost.__cause__ = error
    return lost


def unanswered(pending: Pending, address: Address, reason: LinkError) -> AsysError:
    """For the waiter of a request that was sent and got no answer."""
    if not pending.seq:
        return anew(reason)
    name = pending.instruction.name
    unknown = OutcomeUnknown(
        f"{name} (Seq {pending.seq}) was sent to {address}, and whether it ran is not known: "
        f"{reason}",
        instruction=name,
        seq=pending.seq,
    )
    unknown.__cause__ = reason
    return unknown


def anew(error: LinkError) -> LinkError:
    """The same error as an exception of its own, for one of several that it is raised to."""
    return copy.copy(error)
