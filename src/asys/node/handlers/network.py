"""What cuts a process off the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asys.isa import NET_ISOLATE, IsolateAction
from asys.isa.network import Isolate
from asys.node.dispatch import handles
from asys.node.held.isolations import MAX_ISOLATIONS, Isolations
from asys.node.platform.base import ProcessHandle
from asys.node.refusal import Refused
from asys.node.targets import process_target
from asys.protocol.status import SW

if TYPE_CHECKING:
    from asys.node.server import Node
    from asys.node.session import Session


def _can_isolate(node: Node) -> bool:
    return node.isolations is not None and not node.isolations.lack


@handles(NET_ISOLATE, possible=_can_isolate, finds_target=True)
async def net_isolate(session: Session, request: Isolate) -> None:
    """Cuts a process off, or releases it; answered when that is in force."""
    isolations = session.node.isolations
    if isolations is None:
        raise Refused(SW.NOT_SUPPORTED, "nothing can be isolated")
    if request.action == IsolateAction.RELEASE:
        await _release(session, isolations, request.pid)
        return
    held = isolations

    def refuse(process: ProcessHandle) -> None:
        refusal = held.refusal(process.pid, process.start, may_undo)
        if refusal is SW.DENIED:
            raise Refused(refusal, f"PID {process.pid} is isolated for another agent")
        if refusal is not None:
            raise Refused(refusal, f"{MAX_ISOLATIONS} isolations stand")

    def may_undo(key: bytes) -> bool:
        return _may_undo(session, key)

    holding = session.grant.holding
    process = process_target(session, NET_ISOLATE.code, request.pid, refuse)
    await isolations.isolate(
        process,
        holding.key,
        holding.label,
        may_undo,
        keep_loopback=request.keep_loopback,
        ttl_s=request.ttl_s,
    )


async def _release(session: Session, isolations: Isolations, pid: int) -> None:
    now = session.node.clock.now()
    grant = session.grant
    wanted = isolations.undoable(pid, lambda key: _may_undo(session, key))
    if not wanted and isolations.under(pid):
        raise Refused(SW.DENIED, f"PID {pid} is isolated for another agent")
    grant.check_rate(NET_ISOLATE.code, now)
    if not wanted:
        raise Refused(SW.INVALID_PAYLOAD, f"PID {pid} is not isolated")
    session.recorder.intend()
    grant.take_rate(NET_ISOLATE.code, now)
    await isolations.let_go(wanted)


def _may_undo(session: Session, key: bytes) -> bool:
    """Whether the agent may release what the agent with this key had isolated: itself, an agent
    below it, or, for an admin, anybody.
    """
    holding = session.grant.holding
    if holding.admin or key == holding.key:
        return True
    return any(one.key == key for one in session.node.authority.listing(holding.key))
