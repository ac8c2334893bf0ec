"""Level 6: Enc+Sign and signed extended frames (docs/protocol.md, section 3.3)."""

from __future__ import annotations

from asys.conformance.case import Level, case
from asys.conformance.expect import ends, expect, is_status, succeeds
from asys.conformance.frames import (
    AGENT_LIST,
    CLA_EXTENDED,
    CLA_SEALED,
    CLA_SIGNED,
    SYS_HELLO,
    UNKNOWN,
    header,
    u32,
)
from asys.conformance.probe import PART_B, SEALED, SESSION, SIGNED, Probe, granted
from asys.conformance.signing import EXTENDED_MISTAKES, SEAL_MISTAKES, sealed
from asys.conformance.verdicts import Failed
from asys.conformance.wire import WireError


@case(
    "seal.payload",
    Level.PART_B,
    "3.3",
    "an Enc+Sign SYS_HELLO is answered as a plain one",
    SESSION,
    PART_B,
    SIGNED,
)
def payload(probe: Probe) -> None:
    """With and without a payload. The report names the mistake where it is a known one."""
    agent = probe.session()
    answer = agent.ask(agent.sealed(SYS_HELLO, bytes(7)))
    if answer == b"\x69\x82":
        for name, rules in SEAL_MISTAKES.items():
            try:
                other = probe.session()
                if len(other.ask(other.sealed(SYS_HELLO, bytes(7), rules=rules))) > 2:
                    raise Failed(f"the node opens a payload that is sealed wrong: {name}")
            except WireError:
                continue
    succeeds(answer, None, "Enc+Sign SYS_HELLO")
    succeeds(agent.ask(agent.sealed(SYS_HELLO)), None, "the same without a payload")


@case("seal.extended", Level.PART_B, "3.3", "an extended Enc+Sign frame", SESSION, PART_B, SEALED)
def extended_sealed(probe: Probe) -> None:
    """AD and tag cover 7 bytes of header."""
    agent = probe.session()
    succeeds(agent.ask(agent.sealed(SYS_HELLO, bytes(300))), None, "a long Enc+Sign frame")


@case(
    "seal.wrong-tag", Level.PART_B, "3.3", "a wrong Auth_Tag: 6982, close", SESSION, PART_B, SEALED
)
def wrong_tag(probe: Probe) -> None:
    """Though C would open."""
    agent = probe.session()
    frame = bytearray(agent.sealed(SYS_HELLO))
    frame[-1] ^= 1
    ends(agent, bytes(frame), "6982", "Enc+Sign with a wrong Auth_Tag")


@case(
    "seal.wrong-ciphertext",
    Level.PART_B,
    "3.3",
    "C that does not open: 6982, close",
    SESSION,
    PART_B,
    SEALED,
)
def wrong_ciphertext(probe: Probe) -> None:
    """Though Auth_Tag is right."""
    agent = probe.session()
    data = u32(1) + probe.random.randbytes(24)
    ends(agent, agent.tagged(SYS_HELLO, data, cla=CLA_SEALED), "6982", "a C that does not open")


@case(
    "seal.short",
    Level.PART_B,
    "3.3",
    "C of less than 16 bytes: 6982, close",
    SESSION,
    PART_B,
    SEALED,
)
def short(probe: Probe) -> None:
    """It is shorter than its own tag."""
    agent = probe.session()
    data = u32(1) + bytes(15)
    ends(agent, agent.tagged(SYS_HELLO, data, cla=CLA_SEALED), "6982", "a C of 15 bytes")


@case(
    "seal.bound-to-header",
    Level.PART_B,
    "3.3",
    "C of another INS: 6982, close",
    SESSION,
    PART_B,
    SEALED,
)
def bound_to_header(probe: Probe) -> None:
    """AD has the header in it."""
    agent = probe.session()
    key = agent.records.send_key
    other = sealed(key, header(UNKNOWN, 0, 0, 20, CLA_SEALED), 1, b"")
    frame = agent.tagged(SYS_HELLO, u32(1) + other, cla=CLA_SEALED)
    ends(agent, frame, "6982", "a C that was sealed for another instruction")


@case(
    "seal.one-seq",
    Level.PART_B,
    "3.3",
    "Signed and Enc+Sign share one Seq",
    SESSION,
    PART_B,
    SEALED,
)
def one_seq(probe: Probe) -> None:
    """6985, and the session stays open; C is not even opened."""
    agent = probe.session()
    succeeds(agent.ask(agent.signed(SYS_HELLO, seq=1)), None, "a signed frame")
    is_status(agent.ask(agent.sealed(SYS_HELLO, seq=1)), "6985", "Enc+Sign with its Seq")
    unopened = agent.tagged(SYS_HELLO, u32(1) + bytes(20), cla=CLA_SEALED)
    is_status(agent.ask(unopened), "6985", "Enc+Sign with an old Seq and a C that does not open")
    succeeds(agent.ask(agent.sealed(SYS_HELLO, seq=2)), None, "the next Seq")
    is_status(agent.ask(agent.signed(SYS_HELLO, seq=2)), "6985", "signed, with the Seq of Enc+Sign")
    expect(not agent.ended(), "the session is closed after 6985")


@case(
    "seal.unknown-code",
    Level.PART_B,
    "3.3",
    "an unknown code, Enc+Sign: 6A81",
    SESSION,
    PART_B,
    SEALED,
)
def unknown_code(probe: Probe) -> None:
    """Opened before existence is looked at."""
    agent = probe.session()
    is_status(agent.ask(agent.sealed(UNKNOWN)), "6A81", "an unknown code, Enc+Sign")


@case(
    "seal.level",
    Level.PART_B,
    "4",
    "an enc-sign instruction sent plain or signed: 6982",
    SESSION,
    PART_B,
    SIGNED,
    granted(AGENT_LIST, "AGENT_LIST"),
)
def level(probe: Probe) -> None:
    """A level is a minimum."""
    agent = probe.session()
    is_status(agent.ask(bytes((0, AGENT_LIST, 0, 0, 0, 0))), "6982", "AGENT_LIST sent plain")
    is_status(agent.ask(agent.signed(AGENT_LIST)), "6982", "AGENT_LIST sent signed")


@case(
    "extended.signed",
    Level.PART_B,
    "3.1",
    "a signed extended frame: the tag covers 7 bytes",
    SESSION,
    PART_B,
    SIGNED,
)
def extended_signed(probe: Probe) -> None:
    """Deployed nodes cannot verify one; the report names the mistake where it is a known one."""
    cla = CLA_SIGNED | CLA_EXTENDED
    agent = probe.session()
    answer = agent.ask(agent.signed(SYS_HELLO, bytes(300), cla=cla))
    if answer == b"\x69\x82":
        for name, rules in EXTENDED_MISTAKES.items():
            try:
                other = probe.session()
                wrong = other.signed(SYS_HELLO, bytes(300), cla=cla, rules=rules)
                if len(other.ask(wrong)) > 2:
                    raise Failed(f"the node takes a tag that is made wrong: {name}")
            except WireError:
                continue
    succeeds(answer, None, "a signed extended frame")
