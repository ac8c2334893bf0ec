"""Group 1, Protocol Control."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asys.isa import TASK_QUERY, TaskState
from asys.isa.control import TaskQuery
from asys.node.dispatch import handles

if TYPE_CHECKING:
    from asys.node.session import Session


@handles(TASK_QUERY)
def task_query(session: Session, request: TaskQuery) -> TaskState:
    """Where a task of this session stands; one answer for unknown, freed and foreign handles."""
    node = session.node
    return TaskState(node.tasks.query(session.id, request.handle, node.clock.now()))
