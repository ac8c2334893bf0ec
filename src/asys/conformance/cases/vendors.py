"""Level 6: what holds for the instructions of every vendor (docs/protocol.md, section 7.19)."""

from __future__ import annotations

from asys.conformance.case import Level, case
from asys.conformance.expect import is_status
from asys.conformance.frames import frame
from asys.conformance.probe import PART_B, SESSION, SIGNED, Probe
from asys.conformance.verdicts import NotRun
from asys.conformance.wire import Session

CODES = range(0xC0, 0x100)
NO_VENDOR = bytes.fromhex("FFFFFFFE")
"""No domain gives this id by anything but an accident of 1 in 4 billion."""


def _granted_code(agent: Session) -> int:
    """A code of vendors that the identity holds: it is not lit where no vendor has it."""
    for code in (CODES[0], CODES[-1]):
        if agent.ask(frame(code)) != b"\x6a\x81":
            return code
    raise NotRun("C0 and FF are not granted to this identity")


@case("vendor.unsigned", Level.PART_B, "7.19", "sent plain: 6982", SESSION, PART_B, SIGNED)
def unsigned(probe: Probe) -> None:
    """All of them are signed at least."""
    agent = probe.session()
    code = _granted_code(agent)
    is_status(agent.ask(frame(code, NO_VENDOR)), "6982", f"{code:02X} sent plain")


@case(
    "vendor.short",
    Level.PART_B,
    "7.19",
    "no whole Vendor_ID, or a body over 16,384: 6700",
    SESSION,
    PART_B,
    SIGNED,
)
def short(probe: Probe) -> None:
    """Before it is looked at whose it is."""
    agent = probe.session()
    code = _granted_code(agent)
    for size in (0, 3):
        answer = agent.ask(agent.signed(code, bytes(size)))
        is_status(answer, "6700", f"{code:02X} with {size} bytes")
    answer = agent.ask(agent.signed(code, NO_VENDOR + bytes(16385), cla=0x06))
    is_status(answer, "6700", f"{code:02X} with a body of 16,385 bytes")


@case(
    "vendor.nobody",
    Level.PART_B,
    "7.19",
    "a vendor that is not there, or not allowed: 6982",
    SESSION,
    PART_B,
    SIGNED,
)
def nobody(probe: Probe) -> None:
    """One answer for both."""
    agent = probe.session()
    code = _granted_code(agent)
    answer = agent.ask(agent.signed(code, NO_VENDOR + b"body"))
    is_status(answer, "6982", f"{code:02X} of a vendor that is not there")
