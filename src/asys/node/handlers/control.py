"""Group 1, Protocol Control."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asys.isa import (
    ABANDON,
    CONTINUE,
    KEY_STATEMENT,
    REKEY,
    SVC_RESTART,
    TASK_CANCEL,
    TASK_QUERY,
    Abandoned,
    Empty,
    StatedKey,
    TaskState,
    TaskStatus,
)
from asys.isa.control import CancelledTask, TaskQuery
from asys.node import chains
from asys.node.dispatch import NEW_KEYS, NewKeys, handles, serves
from asys.node.health.counts import Closing
from asys.node.refusal import Refused
from asys.node.targets import check_service
from asys.protocol.status import SW

if TYPE_CHECKING:
    from asys.node.session import Session


serves((CONTINUE.code,))(chains.proceed)


@handles(TASK_QUERY)
def task_query(session: Session, request: TaskQuery) -> TaskState:
    """Where a task of this session stands; one answer for unknown, freed and foreign handles."""
    node = session.node
    return TaskState(node.tasks.query(session.id, request.handle, node.clock.now()))


@handles(TASK_CANCEL, possible=lambda node: node.services is not None, finds_target=True)
async def task_cancel(session: Session, request: CancelledTask) -> TaskState:
    """Cancels a restart that has not begun; then where its task stands, as TASK_QUERY says it."""
    node = session.node
    grant = session.grant
    now = node.clock.now()
    task = node.tasks.pending_handle(session.id, request.handle, now)
    if task is not None and node.services is not None:
        if not grant.lit >> SVC_RESTART.code & 1:
            raise Refused(SW.DENIED, "restarts are not granted any more")
        check_service(node.services, grant, task.target)
    grant.check_rate(TASK_CANCEL.code, now)
    session.recorder.intend()
    grant.take_rate(TASK_CANCEL.code, now)
    if task is not None and task.job is not None:
        status = await task.job.cancel()
        if status is not TaskStatus.PENDING:
            task.finish(status, node.clock.now())
    return TaskState(node.tasks.query(session.id, request.handle, node.clock.now()))


@handles(REKEY, intends=False)
def rekey(_session: Session, _request: Empty) -> NewKeys:
    """The session answers under the old keys, then goes on with new ones.

    It alone knows whether something follows, and puts the intent on record.
    """
    return NEW_KEYS


@handles(KEY_STATEMENT, intends=False)
def key_statement(session: Session, _request: Empty) -> StatedKey:
    """What the node's key states about the next one; who has asked is remembered for the admin."""
    found = session.node.keys.tell(session.agent_key)
    if found is None:  # the overlap has ended, and the map is about to say so
        raise Refused(SW.NO_SUCH_INSTRUCTION, "there is no next key")
    return StatedKey(found.old_key, found.new_key, found.made, found.ends, found.signature)


@handles(ABANDON)
def abandon(session: Session, _request: Empty) -> Abandoned:
    """Closes the agent's other sessions; also a handshake that nobody has confirmed yet."""
    closed = 0
    for other in session.node.of_key(session.agent_key):
        if other is not session:
            closed += bool(other.id)
            other.close(Closing.ABANDONED)
    return Abandoned(closed)
