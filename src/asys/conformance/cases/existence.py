"""Level 4: what exists for an agent, and that nothing tells "forbidden" from "unknown"
(docs/protocol.md, sections 4.1 and 5.2). Nothing here is a request that a node could carry out.
"""

from __future__ import annotations

from asys.conformance.case import Level, case
from asys.conformance.expect import expect, is_status, refuses, shown, stays
from asys.conformance.frames import (
    NET_ISOLATE,
    PROC_THROTTLE,
    SVC_RESTART,
    frame,
)
from asys.conformance.probe import OTHER, SESSION, SIGNED, Probe
from asys.conformance.verdicts import NotRun
from asys.conformance.wire import Session

STANDARD = range(0x20, 0x90)
ABSENT = b"\x6a\x81"
IMPOSSIBLE = b"\x6d\x00"

NEVER_GIVEN_OUT = (0x04, 0x0F, 0x16, 0x1F, 0x90, 0xBF)
NOT_YET_GIVEN_OUT = (0x2F, 0x3F, 0x4F, 0x5F, 0x6F, 0x7F, 0x8F)
"""Codes that never get an instruction, and such as have none in this version."""


def _ways(agent: Session, code: int) -> dict[str, bytes]:
    """Requests of one code that differ in what they would be refused for, if it existed."""
    return {
        "plain": frame(code),
        "plain with data": frame(code, bytes(9)),
        "with P1 = FF": frame(code, p1=0xFF),
        "signed": agent.signed(code),
        "signed with data": agent.signed(code, bytes(5)),
    }


def _all_absent(agent: Session, code: int, whose: str) -> None:
    for name, request in _ways(agent, code).items():
        answer = agent.ask(request)
        expect(
            answer == ABSENT, f"{code:02X}, {whose}, {name} is answered {shown(answer)}, not 6A81"
        )


@case(
    "dark.unknown",
    Level.SECURITY,
    "4.1",
    "unknown codes: 6A81, however they are sent",
    SESSION,
    SIGNED,
)
def unknown(probe: Probe) -> None:
    """Existence comes before level, length and parameters."""
    agent = probe.session()
    unlit = [code for code in NOT_YET_GIVEN_OUT if not probe.lit(code)]
    for code in (*NEVER_GIVEN_OUT, *unlit):
        _all_absent(agent, code, "which has no instruction")
    stays(agent, "unknown codes")


@case(
    "dark.not-granted",
    Level.SECURITY,
    "4.1",
    "what only others may use: 6A81, as if unknown",
    OTHER,
    SESSION,
    SIGNED,
)
def not_granted(probe: Probe) -> None:
    """The codes that the first identity has lit and the second has not."""
    facts = probe.facts
    lit = 0 if facts is None else facts.lit & ~facts.lit_other
    codes = [code for code in STANDARD if lit >> code & 1]
    if not codes:
        raise NotRun("the second identity may use all that the first may; grant it less")
    agent = probe.session(probe.other)
    for code in codes:
        _all_absent(agent, code, "which is not granted")


@case("dark.map", Level.SECURITY, "6.1", "SYS_CAPS says what the node does", SESSION)
def the_map(probe: Probe) -> None:
    """Each code of 00-8F, in a form in which it cannot be carried out."""
    agent = probe.session()
    for code in range(0x90):
        answer = agent.ask(frame(code, b"\0"))
        absent = answer in (ABSENT, IMPOSSIBLE)
        if probe.lit(code):
            expect(not absent, f"{code:02X} is lit, and answered {shown(answer)}")
        else:
            expect(absent, f"{code:02X} is not lit, and answered {shown(answer)}")


@case(
    "order.level",
    Level.SECURITY,
    "5.2",
    "a signed instruction sent plain: 6982, stays open",
    SESSION,
)
def level(probe: Probe) -> None:
    """Before its length and its parameters are looked at."""
    codes = [code for code in (PROC_THROTTLE, NET_ISOLATE, SVC_RESTART) if probe.lit(code)]
    if not codes:
        raise NotRun("needs PROC_THROTTLE, NET_ISOLATE or SVC_RESTART for this identity")
    agent = probe.session()
    for code in codes:
        # PID 0, and a name that no service has: not even a node that takes it could do it.
        for name, request in {
            "plain": frame(code, bytes(4)),
            "plain and too short": frame(code),
            "plain with P1 = 07": frame(code, bytes(4), p1=7),
        }.items():
            refuses(agent, request, "6982", f"{code:02X} {name}")


@case(
    "order.length-before-parameters",
    Level.SECURITY,
    "5.2",
    "wrong length and wrong P1: 6700",
    SESSION,
    SIGNED,
)
def length_before_parameters(probe: Probe) -> None:
    """Length is looked at first."""
    if not probe.lit(PROC_THROTTLE):
        raise NotRun("needs PROC_THROTTLE for this identity")
    agent = probe.session()
    is_status(
        agent.ask(agent.signed(PROC_THROTTLE, bytes(3), p1=7)),
        "6700",
        "PROC_THROTTLE with 3 bytes and P1 = 07",
    )
