"""Group 6, Security & Auth: agents that agents add, within what they hold themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from asys.isa import (
    AGENT_ADD,
    AGENT_LIST,
    AGENT_REMOVE,
    AgentFlags,
    AgentHash,
    Agents,
    CapabilityMap,
    ListedAgent,
)
from asys.isa.capmap import STATEMENT, UNGRANTED
from asys.isa.security import PAGE_SIZE, AgentKey, AgentPage, NewAgent
from asys.node.agents.directory import key_hash
from asys.node.dispatch import handles
from asys.node.platform.base import SystemFailure
from asys.node.refusal import Refused
from asys.protocol.status import SW

if TYPE_CHECKING:
    from asys.node.agents.directory import Holding
    from asys.node.agents.grant import Charge
    from asys.node.server import Node
    from asys.node.session import Session


@handles(AGENT_ADD, finds_target=True)
async def agent_add(session: Session, request: NewAgent) -> AgentHash:
    """Lets an agent in, or changes what it was given; answered when it is on the disk."""
    caps = CapabilityMap.of(request.caps).bits & ~UNGRANTED
    if any(request.key == one.public for one in session.node.keys.more):
        raise Refused(SW.INVALID_PAYLOAD, "the key is the node's next one")
    with _disk_may_hang():
        await session.node.authority.add(
            session.agent_key,
            request.key,
            caps,
            request.ttl_s,
            request.label,
            _charge(session, AGENT_ADD.code),
        )
    return AgentHash(key_hash(request.key))


@handles(AGENT_REMOVE, finds_target=True)
async def agent_remove(session: Session, request: AgentKey) -> None:
    """Shuts an agent out, with all below it; answered when that is on the disk."""
    charge = _charge(session, AGENT_REMOVE.code)
    with _disk_may_hang():
        await session.node.authority.remove(session.agent_key, request.key, charge)


@contextmanager
def _disk_may_hang() -> Iterator[None]:
    """A disk that does not answer is nothing that nobody foresaw: 6F04, without a traceback."""
    try:
        yield
    except TimeoutError as error:
        raise SystemFailure(str(error), SW.NODE_TIMED_OUT) from error


@handles(AGENT_LIST)
def agent_list(session: Session, request: AgentPage) -> Agents:
    """A page of the agents below this one."""
    node = session.node
    found = node.authority.listing(session.agent_key)
    page = found[request.page * PAGE_SIZE : (request.page + 1) * PAGE_SIZE]
    rows = tuple(_row(node, one) for one in page)
    return Agents(min(len(found), 0xFFFF), len(rows), request.page, rows)


def _row(node: Node, one: Holding) -> ListedAgent:
    flags = AgentFlags(0)
    if node.is_connected(one.key):
        flags |= AgentFlags.CONNECTED
    if one.admin:
        flags |= AgentFlags.ADMIN
    return ListedAgent(
        one.key,
        key_hash(one.parent) if one.parent else bytes(4),
        CapabilityMap(node.caps(one) & ~STATEMENT),
        one.expires,
        flags,
        one.label,
    )


def _charge(session: Session, code: int) -> Charge:
    """The rate, and the record with the whole payload: who was let in is never just a digest."""
    intend = partial(session.recorder.intend, whole=True)
    return session.grant.charge(code, session.node.clock.now(), intend)
