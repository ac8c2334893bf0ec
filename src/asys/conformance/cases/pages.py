"""Level 6: what a node says of part B, and what concerns whole sessions (docs/protocol.md)."""

from __future__ import annotations

from asys.conformance.case import Level, case
from asys.conformance.expect import expect, is_status, says_nothing, succeeds
from asys.conformance.frames import CAPS, HELLO, PROC_THROTTLE, STATUS, SYS_CAPS, frame, number, u32
from asys.conformance.probe import PART_B, SESSION, SIGNED, Probe, granted

PART_B_CODES = (0x10, 0x12, 0x13, 0x14, 0x15, 0x21, 0x40, 0x41, 0x42, 0x60, 0x61, 0x62)


@case("caps.page-echo", Level.PART_B, "6.1", "SYS_CAPS with P1 = 1 answers with page 1", SESSION)
def page_echo(probe: Probe) -> None:
    """Bits 1-0 of byte 33. A node that answers 0 does not speak part B, and must not light it."""
    agent = probe.session()
    page = agent.ask(frame(SYS_CAPS, p1=1)).ljust(36, b"\0")[33] & 3
    lit = [code for code in PART_B_CODES if probe.lit(code) and code < 0x40]
    expect(
        page == 1 or not lit,
        f"P1 = 1 is answered with page {page}, and yet {lit[0] if lit else 0:02X} is lit",
    )
    if page != 1:
        probe.deviates("P1 of SYS_CAPS is ignored: the node does not speak part B")


@case(
    "caps.pages",
    Level.PART_B,
    "6.1",
    "each page is echoed; the rest is the same on all",
    SESSION,
    PART_B,
)
def pages(probe: Probe) -> None:
    """Bytes 8 to 32."""
    agent = probe.session()
    first = agent.ask(CAPS).ljust(36, b"\0")
    for page in (1, 2, 3):
        answer = agent.ask(frame(SYS_CAPS, p1=page)).ljust(36, b"\0")
        expect(answer[33] & 3 == page, f"P1 = {page} is answered with page {answer[33] & 3}")
        expect(answer[8:33] == first[8:33], f"page {page} and page 0 differ in bytes 8 to 32")


@case("caps.page-range", Level.PART_B, "6.1", "P1 over 3: 6A80", SESSION, PART_B)
def page_range(probe: Probe) -> None:
    """There are four pages."""
    agent = probe.session()
    for p1 in (4, 0xFF):
        is_status(agent.ask(frame(SYS_CAPS, p1=p1)), "6A80", f"SYS_CAPS with P1 = {p1:02X}")


@case(
    "caps.flags",
    Level.PART_B,
    "5.1",
    "bit 7 of byte 33 and the node flags go together",
    SESSION,
    PART_B,
)
def flags(probe: Probe) -> None:
    """They may change between two answers: it is looked at three times."""
    agent = probe.session()
    seen = []
    for _ in range(3):
        caps, status = agent.ask(CAPS).ljust(36, b"\0"), agent.ask(STATUS).ljust(23, b"\0")
        seen.append((caps[33] >> 7, status[17]))
    expect(
        any(bit == bool(up) for bit, up in seen),
        f"bit 7 of byte 33 and byte 17 of SYS_STATUS are {seen}",
    )


@case(
    "target.init",
    Level.PART_B,
    "7.5",
    "nobody may touch PID 1: 6982",
    SESSION,
    PART_B,
    SIGNED,
    granted(PROC_THROTTLE, "PROC_THROTTLE"),
)
def init(probe: Probe) -> None:
    """Shown with CONTINUE, so that a node that does it does no harm."""
    agent = probe.session()
    answer = agent.ask(agent.signed(PROC_THROTTLE, u32(1), 1))
    is_status(answer, "6982", "PROC_THROTTLE of PID 1")


@case(
    "session.finish",
    Level.PART_B,
    "1.5",
    "an agent that sends no more gets its answers first",
    SESSION,
    PART_B,
)
def finish(probe: Probe) -> None:
    """What has arrived whole is answered, then the node closes."""
    agent = probe.session()
    agent.say(HELLO, STATUS)
    agent.finish()
    answers = [succeeds(agent.answer(), None, "a request before the end") for _ in range(2)]
    expect(len(answers[0]) < len(answers[1]), "the answers come in another order")
    says_nothing(agent.rest(), "behind the last answer")


@case(
    "session.replayed",
    Level.PART_B,
    "1.8",
    "message 1 a second time: close, without a byte",
    SESSION,
    PART_B,
)
def replayed(probe: Probe) -> None:
    """Whoever records a handshake cannot have the node work on it again."""
    agent = probe.session()
    succeeds(agent.ask(HELLO), None, "SYS_HELLO")
    wire, shown_frame = probe.greeted()
    expect(number(shown_frame, 0, 4), "there is no pre-handshake frame")
    wire.send(agent.message_1)
    says_nothing(wire.rest(), "to a message 1 that it has had before")
