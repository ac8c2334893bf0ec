"""Group 4, Diagnostics: what went wrong, and who started whom. Nothing here waits in the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from asys.isa import LOG_DETAIL, LOG_SUMMARY, PROC_TREE
from asys.isa.diagnostics import LogAround, LogWindow, TreeRequest
from asys.node.dispatch import handles
from asys.node.handlers.core import fresh
from asys.node.refusal import Refused
from asys.protocol.status import SW

if TYPE_CHECKING:
    from asys.isa import Severity
    from asys.node.platform.base import Logs
    from asys.node.session import Session
    from asys.node.trees import Trees


@handles(LOG_SUMMARY, possible=lambda node: node.logs is not None, finds_target=True)
async def log_summary(session: Session, request: LogWindow) -> bytes:
    """What went wrong lately, from the process that reads the logs."""
    logs = _logs(session)
    _admit(session, LOG_SUMMARY.code, has_room=logs.has_room)
    _begin(session, LOG_SUMMARY.code)
    priority = cast("Severity", request.priority)
    payload = await logs.summary(request.window_s, priority, request.wanted)
    return payload + session.node.success


@handles(LOG_DETAIL, possible=lambda node: node.logs is not None, finds_target=True)
async def log_detail(session: Session, request: LogAround) -> bytes:
    """An event that LOG_SUMMARY has shown to anybody lately, with what stands around it."""
    logs = _logs(session)
    _admit(session, LOG_DETAIL.code, has_room=logs.has_room)
    if not logs.remembers(request.event_id):
        raise Refused(SW.INVALID_PAYLOAD, "no such event was shown lately")
    _begin(session, LOG_DETAIL.code)
    payload = await logs.detail(request.event_id, request.before, request.after)
    return payload + session.node.success


@handles(PROC_TREE, possible=lambda node: node.trees is not None, finds_target=True)
async def proc_tree(session: Session, request: TreeRequest) -> bytes:
    """A process among its kin. Looking is not touching: the agent's scope is not asked."""
    node = session.node
    trees = _trees(session)
    _admit(session, PROC_TREE.code, has_room=trees.has_room)
    if not trees.holds(request.pid):
        raise Refused(SW.INVALID_PAYLOAD, f"there is no process {request.pid}")
    _begin(session, PROC_TREE.code)
    if not node.sampler.touch():
        await fresh(session)
    tree = await trees.tree(request.pid, request.depth, lambda: node.sampler.processes.busy)
    session.shown.remember(tree.starts)
    return tree.payload + node.success


def _admit(session: Session, code: int, *, has_room: bool) -> None:
    """Refused: the agent is over its rate, or too many others wait."""
    session.grant.check_rate(code, session.node.clock.now())
    if not has_room:
        raise Refused(SW.BLOCKED, "too many wait for an answer of this kind")


def _begin(session: Session, code: int) -> None:
    """Every check has passed. Refused: the audit has no room."""
    session.recorder.intend()
    session.grant.take_rate(code, session.node.clock.now())


def _logs(session: Session) -> Logs:
    if session.node.logs is None:
        raise Refused(SW.NOT_SUPPORTED, "there are no logs to read")
    return session.node.logs


def _trees(session: Session) -> Trees:
    if session.node.trees is None:
        raise Refused(SW.NOT_SUPPORTED, "the process table has no parents here")
    return session.node.trees
