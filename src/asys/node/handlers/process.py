"""Group 2, Process Control."""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from asys.isa import PROC_THROTTLE, SVC_RESTART, TaskHandle, TaskStatus, ThrottleAction
from asys.isa.process import Restart, Throttle
from asys.node.dispatch import handles
from asys.node.platform.base import NoSuchTarget, RestartJob
from asys.node.refusal import Refused
from asys.node.targets import check_service, process_target
from asys.protocol.status import SW

if TYPE_CHECKING:
    from asys.node.clock import Clock
    from asys.node.recorder import TaskRecord
    from asys.node.server import Node
    from asys.node.session import Session
    from asys.node.tasks import Task


def _can_throttle(node: Node) -> bool:
    return node.throttled is not None and not node.throttled.lack


@handles(PROC_THROTTLE, possible=_can_throttle, finds_target=True)
def proc_throttle(session: Session, request: Throttle) -> Coroutine[Any, Any, None] | None:
    """Suspends or resumes a process that is still the one that this session was shown.

    By a signal it is done at once; what takes longer is done beside the event loop.
    """
    throttled = session.node.throttled
    if throttled is None:
        raise Refused(SW.NOT_SUPPORTED, "no process can be held")
    process = process_target(session, PROC_THROTTLE.code, request.pid)
    if request.action == ThrottleAction.STOP:
        holding = session.grant.holding
        return throttled.stop(process, holding.key, holding.label, session.grant.scope.users)
    return throttled.resume(process)


@handles(SVC_RESTART, possible=lambda node: node.services is not None, finds_target=True)
async def svc_restart(session: Session, request: Restart) -> TaskHandle:
    """Queues a restart with the service manager; the task ends when the manager says so."""
    node = session.node
    services = node.services
    if services is None:
        raise Refused(SW.NOT_SUPPORTED, "there is no service manager")
    grant = session.grant  # what was held when the instruction was accepted
    pending = node.tasks.pending(session.id, request.name, node.clock.now())
    if pending is not None:
        check_service(services, grant, pending.target)
        pending.join(session.recorder.task())
        return TaskHandle(pending.handle)
    unit = await services.resolve(request.name)
    check_service(services, grant, unit)
    grant.check_rate(SVC_RESTART.code, node.clock.now())
    task = node.tasks.open(session.id, request.name, unit, node.clock.now())
    if task is None:
        raise Refused(SW.BLOCKED, "too many tasks")
    try:
        session.recorder.intend()
        grant.take_rate(SVC_RESTART.code, node.clock.now())
        job = task.job = await services.restart(unit)
    except NoSuchTarget:
        task.finish(TaskStatus.FAILED, node.clock.now())
        # Behind the record of the answer.
        node.clock.call_soon(partial(session.recorder.task().ended, TaskStatus.FAILED))
    except BaseException:
        node.tasks.discard(task)
        raise
    else:
        node.spawn(_follow(task, job, node.clock, session.recorder.task()))
    if session.closed:
        node.tasks.discard(task)
    return TaskHandle(task.handle)


async def _follow(task: Task, job: RestartJob, clock: Clock, record: TaskRecord) -> None:
    status = await job.wait()
    task.finish(status, clock.now())
    for one in (record, *task.joined):
        one.ended(status)
