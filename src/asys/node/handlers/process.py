"""Group 2, Process Control."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asys.isa import PROC_THROTTLE, SVC_RESTART, TaskHandle, TaskStatus, ThrottleAction
from asys.isa.process import Restart, Throttle
from asys.node.dispatch import Refused, handles
from asys.node.platform.base import NoSuchTarget, RestartJob
from asys.protocol.status import SW

if TYPE_CHECKING:
    from asys.node.clock import Clock
    from asys.node.session import Session
    from asys.node.tasks import Task


@handles(PROC_THROTTLE, possible=lambda node: node.platform.can_throttle())
def proc_throttle(session: Session, request: Throttle) -> None:
    """Suspends or resumes a process that is still the one that this session was shown."""
    node = session.node
    refusal = node.protection.pid_refusal(request.pid)
    if refusal:
        raise Refused(SW.DENIED, f"PID {request.pid} is protected: {refusal}")
    process = node.platform.process(request.pid)
    try:
        refusal = process.refusal()
        if refusal:
            raise Refused(SW.DENIED, f"PID {request.pid} is protected: {refusal}")
        if session.shown.get(request.pid, process.start) != process.start:
            raise Refused(SW.INVALID_PAYLOAD, f"PID {request.pid} is another process by now")
        if process.zombie:
            raise Refused(SW.INVALID_PAYLOAD, f"PID {request.pid} has ended")
        if request.action == ThrottleAction.STOP:
            process.suspend()
        else:
            process.resume()
    finally:
        process.close()


@handles(SVC_RESTART, possible=lambda node: node.services is not None)
async def svc_restart(session: Session, request: Restart) -> TaskHandle:
    """Queues a restart with the service manager; the task ends when the manager says so."""
    node = session.node
    services = node.services
    if services is None:
        raise Refused(SW.NOT_SUPPORTED, "there is no service manager")
    pending = node.tasks.pending(session.id, request.name, node.clock.now())
    if pending is not None:
        return TaskHandle(pending.handle)
    unit = await services.resolve(request.name)
    refusal = services.refusal(unit)
    if refusal:
        raise Refused(SW.DENIED, f"{unit} is protected: {refusal}")
    task = node.tasks.open(session.id, request.name, node.clock.now())
    if task is None:
        raise Refused(SW.BLOCKED, "too many tasks")
    try:
        job = await services.restart(unit)
    except NoSuchTarget:
        task.finish(TaskStatus.FAILED, node.clock.now())
    except BaseException:
        node.tasks.discard(task)
        raise
    else:
        node.spawn(_follow(task, job, node.clock))
    if session.closed:
        node.tasks.discard(task)
    return TaskHandle(task.handle)


async def _follow(task: Task, job: RestartJob, clock: Clock) -> None:
    status = await job.wait()
    task.finish(status, clock.now())
