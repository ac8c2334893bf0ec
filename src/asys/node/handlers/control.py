"""Group 1, Protocol Control."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asys.isa import ABANDON, REKEY, TASK_QUERY, Abandoned, Empty, TaskState
from asys.isa.control import TaskQuery
from asys.node.dispatch import NEW_KEYS, NewKeys, handles

if TYPE_CHECKING:
    from asys.node.session import Session


@handles(TASK_QUERY)
def task_query(session: Session, request: TaskQuery) -> TaskState:
    """Where a task of this session stands; one answer for unknown, freed and foreign handles."""
    node = session.node
    return TaskState(node.tasks.query(session.id, request.handle, node.clock.now()))


@handles(REKEY, intends=False)
def rekey(_session: Session, _request: Empty) -> NewKeys:
    """The session answers under the old keys, then goes on with new ones.

    It alone knows whether something follows, and puts the intent on record.
    """
    return NEW_KEYS


@handles(ABANDON)
def abandon(session: Session, _request: Empty) -> Abandoned:
    """Closes the agent's other sessions; also a handshake that nobody has confirmed yet."""
    closed = 0
    for other in session.node.of_key(session.agent_key):
        if other is not session:
            closed += bool(other.id)
            other.close("abandoned by another session of its agent")
    return Abandoned(closed)
