"""Level 5: TASK_QUERY, PROC_THROTTLE and SVC_RESTART as deployed (docs/protocol.md, section 7).

What changes something runs only on what the caller has named, and is taken back.
"""

from __future__ import annotations

import time

from asys.conformance.case import Level, case
from asys.conformance.expect import expect, is_status, refuses, succeeds
from asys.conformance.frames import (
    PROC_THROTTLE,
    SVC_RESTART,
    TASK_QUERY,
    frame,
    number,
    u32,
)
from asys.conformance.probe import (
    OUTSIDE_PID,
    OUTSIDE_SERVICE,
    PID,
    SERVICE,
    SESSION,
    SIGNED,
    Probe,
    granted,
    granted_to_other,
)
from asys.conformance.verdicts import NotRun
from asys.conformance.wire import Session

THROTTLE = granted(PROC_THROTTLE, "PROC_THROTTLE")
RESTART = granted(SVC_RESTART, "SVC_RESTART")
QUERY = granted(TASK_QUERY, "TASK_QUERY")

NOBODY = 0x7FFFFFFE
"""A PID that no kernel gives out."""

STOP, CONTINUE = 0, 1
PENDING, SUCCESS, FAILED, NOT_FOUND = 0, 1, 2, 0xFF

TASK_SECONDS = 35.0
"""A task has an outcome 30 s after its creation at the latest."""

POLL_SECONDS = 0.1


def _handle(probe: Probe) -> bytes:
    """A handle that nobody has."""
    return probe.random.randbytes(4)


def _status_of(agent: Session, handle: bytes) -> int:
    answer = agent.ask(frame(TASK_QUERY, handle))
    return succeeds(answer, 1, f"TASK_QUERY {handle.hex()}")[0]


# -- TASK_QUERY


@case("task.unknown", Level.STANDARD, "7.1", "an unknown handle: FF and 9000", SESSION, QUERY)
def task_unknown(probe: Probe) -> None:
    """Not an error: unknown, freed and another session's are one answer."""
    agent = probe.session()
    for handle in (_handle(probe), bytes(4)):
        status = _status_of(agent, handle)
        expect(status == NOT_FOUND, f"handle {handle.hex()} has the status {status:02X}, not FF")


@case("task.short", Level.STANDARD, "7.1", "fewer than 4 bytes: 6700", SESSION, QUERY)
def task_short(probe: Probe) -> None:
    """And the session stays open."""
    agent = probe.session()
    for size in (0, 3):
        refuses(agent, frame(TASK_QUERY, bytes(size)), "6700", f"TASK_QUERY with {size} bytes")


@case(
    "task.more-ignored",
    Level.STANDARD,
    "7.1",
    "bytes behind the handle are ignored",
    SESSION,
    QUERY,
)
def task_more(probe: Probe) -> None:
    """As deployed."""
    answer = probe.session().ask(frame(TASK_QUERY, _handle(probe) + bytes(4)))
    expect(answer == b"\xff\x90\x00", f"TASK_QUERY with 8 bytes is answered {answer.hex()}")


# -- PROC_THROTTLE


@case(
    "throttle.length", Level.STANDARD, "7.2", "fewer than 4 bytes: 6700", SESSION, SIGNED, THROTTLE
)
def throttle_length(probe: Probe) -> None:
    """Lc is 8 with Seq."""
    agent = probe.session()
    for size in (0, 3):
        refuses(
            agent, agent.signed(PROC_THROTTLE, bytes(size)), "6700", f"PROC_THROTTLE, {size} bytes"
        )


@case(
    "throttle.too-long", Level.STANDARD, "7.2", "more than 4 bytes: 6700", SESSION, SIGNED, THROTTLE
)
def throttle_too_long(probe: Probe) -> None:
    """Deployed nodes take more and look at the first 4."""
    agent = probe.session()
    for size in (5, 8):
        payload = u32(NOBODY) + bytes(size - 4)
        answer = agent.ask(agent.signed(PROC_THROTTLE, payload, CONTINUE))
        if answer == b"\x6a\x80":
            probe.deviates("PROC_THROTTLE is accepted with an Lc over 8")
        is_status(answer, "6700", f"PROC_THROTTLE with {size} bytes")


@case("throttle.pid-zero", Level.STANDARD, "7.2", "PID 0: 6A80", SESSION, SIGNED, THROTTLE)
def throttle_pid_zero(probe: Probe) -> None:
    """To a kernel it would mean a whole group of processes."""
    agent = probe.session()
    request = agent.signed(PROC_THROTTLE, u32(0), CONTINUE)
    refuses(agent, request, "6A80", "PROC_THROTTLE of PID 0")


@case("throttle.action", Level.STANDARD, "7.2", "P1 over 1: 6A80", SESSION, SIGNED, THROTTLE, PID)
def throttle_action(probe: Probe) -> None:
    """Only 0 and 1 have a meaning. The process goes on at the end, whatever was answered."""
    agent = probe.session()
    pid = u32(probe.target.pid or 0)
    try:
        for p1 in (2, 0xFF):
            answer = agent.ask(agent.signed(PROC_THROTTLE, pid, p1))
            is_status(answer, "6A80", f"PROC_THROTTLE with P1 = {p1:02X}")
    finally:
        agent.say(agent.signed(PROC_THROTTLE, pid, CONTINUE))


@case(
    "throttle.no-process", Level.STANDARD, "7.2", "no such process: 6A80", SESSION, SIGNED, THROTTLE
)
def throttle_no_process(probe: Probe) -> None:
    """For both actions."""
    agent = probe.session()
    for action in (STOP, CONTINUE):
        request = agent.signed(PROC_THROTTLE, u32(NOBODY), action)
        refuses(agent, request, "6A80", f"PROC_THROTTLE of PID {NOBODY}")


@case(
    "throttle.does",
    Level.STANDARD,
    "7.2",
    "stop and continue, each twice: 9000",
    SESSION,
    SIGNED,
    THROTTLE,
    PID,
)
def throttle_does(probe: Probe) -> None:
    """Idempotent. The process goes on at the end, whatever was answered."""
    agent = probe.session()
    pid = u32(probe.target.pid or 0)
    try:
        for action in (STOP, STOP, CONTINUE, CONTINUE):
            answer = agent.ask(agent.signed(PROC_THROTTLE, pid, action))
            succeeds(answer, 0, f"PROC_THROTTLE with P1 = {action:02X}")
    finally:
        agent.say(agent.signed(PROC_THROTTLE, pid, CONTINUE))


@case(
    "throttle.outside-users",
    Level.STANDARD,
    "8.1",
    "a process outside of users=: 6982",
    SESSION,
    SIGNED,
    OUTSIDE_PID,
    granted_to_other(PROC_THROTTLE, "PROC_THROTTLE"),
)
def throttle_outside(probe: Probe) -> None:
    """Shown with CONTINUE, so that a node that does it does no harm."""
    agent = probe.session(probe.other)
    request = agent.signed(PROC_THROTTLE, u32(probe.target.outside_pid or 0), CONTINUE)
    refuses(agent, request, "6982", "PROC_THROTTLE of a process that is not in users=")


# -- SVC_RESTART


@case("restart.empty", Level.STANDARD, "7.3", "no name: 6700", SESSION, SIGNED, RESTART)
def restart_empty(probe: Probe) -> None:
    """Lc under 5."""
    agent = probe.session()
    refuses(agent, agent.signed(SVC_RESTART), "6700", "SVC_RESTART without a name")


@case(
    "restart.name",
    Level.STANDARD,
    "7.3",
    "names with other characters, or too long: 6A80",
    SESSION,
    SIGNED,
    RESTART,
)
def restart_name(probe: Probe) -> None:
    """1 to 64 of a-z, 0-9, `_`, `.` and `-`. No service has one of these names."""
    agent = probe.session()
    made_up = f"asys-conformance-{probe.random.randbytes(4).hex()}"
    for name in (
        f"{made_up}X",
        f"{made_up} x",
        f"../{made_up}",
        f"{made_up}@x",
        made_up + "x" * 64,
        f"{made_up}\0",
    ):
        request = agent.signed(SVC_RESTART, name.encode("ascii"))
        refuses(agent, request, "6A80", f"SVC_RESTART of {name[:40]!r}")


@case(
    "restart.suffix",
    Level.STANDARD,
    "7.3",
    "a name that ends in .service: 6A80",
    SESSION,
    SIGNED,
    RESTART,
)
def restart_suffix(probe: Probe) -> None:
    """The node adds it where it is wanted."""
    agent = probe.session()
    name = f"asys-conformance-{probe.random.randbytes(4).hex()}.service"
    refuses(agent, agent.signed(SVC_RESTART, name.encode()), "6A80", f"SVC_RESTART of {name}")


def _queued(probe: Probe, agent: Session) -> bytes:
    """The handle of a restart of --service."""
    answer = agent.ask(agent.signed(SVC_RESTART, probe.spared_service()))
    return succeeds(answer, 4, f"SVC_RESTART of {probe.target.service}")


def _outcome(agent: Session, handle: bytes) -> int:
    """What becomes of a task. PENDING: nothing within the time that it has."""
    deadline = time.monotonic() + TASK_SECONDS
    while time.monotonic() < deadline:
        status = _status_of(agent, handle)
        if status != PENDING:
            return status
        time.sleep(POLL_SECONDS)
    return PENDING


@case(
    "restart.no-service",
    Level.STANDARD,
    "7.3",
    "no such service: a handle, its task ends as 2",
    SESSION,
    SIGNED,
    RESTART,
)
def restart_no_service(probe: Probe) -> None:
    """9000 means queued; the handle tells the rest."""
    agent = probe.session()
    name = f"asys-conformance-{probe.random.randbytes(4).hex()}"
    answer = agent.ask(agent.signed(SVC_RESTART, name.encode("ascii")))
    if answer == b"\x69\x82":
        raise NotRun(f"services= of this identity does not let it name {name}")
    handle = succeeds(answer, 4, f"SVC_RESTART of {name}")
    status = _outcome(agent, handle)
    expect(status == FAILED, f"its task has the status {status:02X} and not 02")


@case(
    "restart.handle",
    Level.STANDARD,
    "7.4",
    "a handle has two halves, neither is 0",
    SESSION,
    SIGNED,
    RESTART,
    SERVICE,
)
def restart_handle(probe: Probe) -> None:
    """The id of the session, then a random number."""
    agent = probe.session()
    handle = _queued(probe, agent)
    expect(number(handle, 0, 2) and number(handle, 2, 2), f"the handle is {handle.hex()}")
    _outcome(agent, handle)


@case(
    "restart.once",
    Level.STANDARD,
    "7.3",
    "again while it is pending: the same handle",
    SESSION,
    SIGNED,
    RESTART,
    SERVICE,
)
def restart_once(probe: Probe) -> None:
    """No second restart. One that is done already is no fault."""
    agent = probe.session()
    service = probe.spared_service()
    agent.say(*(agent.signed(SVC_RESTART, service) for _ in range(2)))
    first, second = (succeeds(agent.answer(), 4, "SVC_RESTART") for _ in range(2))
    status = _status_of(agent, first)
    expect(
        first == second or status not in (PENDING, NOT_FOUND),
        f"a second handle, while the task of the first has the status {status:02X}",
    )
    _outcome(agent, second)


@case(
    "restart.ends",
    Level.STANDARD,
    "7.4",
    "the task ends as 1; its answer frees the handle",
    SESSION,
    SIGNED,
    RESTART,
    SERVICE,
)
def restart_ends(probe: Probe) -> None:
    """A terminal status is told once."""
    agent = probe.session()
    handle = _queued(probe, agent)
    status = _outcome(agent, handle)
    expect(status == SUCCESS, f"the task of the restart has the status {status:02X} and not 01")
    status = _status_of(agent, handle)
    expect(status == NOT_FOUND, f"after its end was told it has the status {status:02X}, not FF")


@case(
    "restart.other-session",
    Level.STANDARD,
    "7.4",
    "another session's handle: FF",
    SESSION,
    SIGNED,
    RESTART,
    SERVICE,
)
def restart_other_session(probe: Probe) -> None:
    """Of the same agent, and of another one where there is one."""
    agent = probe.session()
    others = [probe.session()]
    if probe.target.other:
        others.append(probe.session(probe.other))
    handle = _queued(probe, agent)
    for other in others:
        answer = other.ask(frame(TASK_QUERY, handle))
        expect(answer[:1] != b"\x00", "another session is told that the task is pending")
        expect(answer in (b"\xff\x90\x00", b"\x6a\x81"), f"another session hears {answer.hex()}")
    _outcome(agent, handle)


@case(
    "restart.outside-services",
    Level.STANDARD,
    "8.1",
    "a service outside of services=: 6982",
    SESSION,
    SIGNED,
    OUTSIDE_SERVICE,
    granted_to_other(SVC_RESTART, "SVC_RESTART"),
)
def restart_outside(probe: Probe) -> None:
    """Nothing is queued."""
    agent = probe.session(probe.other)
    request = agent.signed(SVC_RESTART, (probe.target.outside_service or "").encode("ascii"))
    refuses(agent, request, "6982", "SVC_RESTART of a service that is not in services=")
