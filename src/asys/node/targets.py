"""The processes and services that an instruction names: scope, then rate, then target.

In the order of docs/protocol.md, section 5.2: what is outside the agent's scope is refused before a
rate is looked at, and a rate before it shows whether the target is there at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from asys.node.platform.base import NoSuchTarget
from asys.node.refusal import Refused
from asys.protocol.status import SW

if TYPE_CHECKING:
    from asys.node.agents.grant import Grant
    from asys.node.platform.base import ProcessHandle, ServiceManager
    from asys.node.session import Session


def process_target(
    session: Session,
    code: int,
    pid: int,
    refuse: Callable[[ProcessHandle], None] = lambda process: None,
) -> ProcessHandle:
    """The process with this PID, for whoever closes it.

    The intent is on record, and one has been taken from the rate. `refuse` raises Refused where the
    instruction has something of its own against a process that is in the scope.

    Refused: it is protected, outside the scope, over the rate, another one than the session was
    shown, or a zombie; or the audit has no room. NoSuchTarget; other PlatformErrors.
    """
    node = session.node
    grant = session.grant
    now = node.clock.now()
    refusal = node.protection.pid_refusal(pid)
    if refusal:
        raise Refused(SW.DENIED, f"PID {pid} is protected: {refusal}")
    try:
        process = node.platform.process(pid)
    except NoSuchTarget:
        grant.check_rate(code, now)
        raise
    try:
        refusal = process.refusal()
        if refusal:
            raise Refused(SW.DENIED, f"PID {pid} is protected: {refusal}")
        users = grant.scope.users
        if users is not None and not users.issuperset(process.owners()):
            raise Refused(SW.DENIED, f"PID {pid} belongs to a user outside the scope")
        refuse(process)
        grant.check_rate(code, now)
        if session.shown.differs(pid, process.start):
            raise Refused(SW.INVALID_PAYLOAD, f"PID {pid} is another process by now")
        if process.zombie:
            raise Refused(SW.INVALID_PAYLOAD, f"PID {pid} has ended")
        session.recorder.intend()
        grant.take_rate(code, now)
    except BaseException:
        process.close()
        raise
    return process


def check_service(services: ServiceManager, grant: Grant, unit: str) -> None:
    """Refused when nobody may touch the unit, or this agent may not.

    `unit` is the service manager's own id; where there is no such unit, what it would be called.
    """
    refusal = services.refusal(unit)
    if refusal:
        raise Refused(SW.DENIED, f"{unit} is protected: {refusal}")
    if not grant.scope.allows_service(unit.removesuffix(".service")):
        raise Refused(SW.DENIED, f"{unit} is outside the scope")
