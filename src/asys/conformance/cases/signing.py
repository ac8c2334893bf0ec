"""Level 4: Auth_Tag and Seq (docs/protocol.md, section 3).

All is shown with SYS_HELLO, which any agent may send signed, so that nothing happens on the node.
"""

from __future__ import annotations

from asys.conformance.case import Level, case
from asys.conformance.expect import ends, is_status, succeeds
from asys.conformance.frames import SYS_HELLO, SYS_STATUS, UNKNOWN
from asys.conformance.probe import SESSION, SIGNED, Probe
from asys.conformance.signing import TAG_MISTAKES
from asys.conformance.verdicts import Failed
from asys.conformance.wire import Session, WireError

TAG = 16


def _changed(frame_: bytes, at: int) -> bytes:
    """A frame with one bit of one byte changed after its tag was made."""
    changed = bytearray(frame_)
    changed[at] ^= 1
    return bytes(changed)


@case("sign.tag", Level.SECURITY, "3.1", "a signed SYS_HELLO is answered as a plain one", SESSION)
def tag(probe: Probe) -> None:
    """The report names the mistake where it is a known one."""
    agent = probe.session()
    answer = agent.ask(agent.signed(SYS_HELLO))
    if answer == b"\x69\x82":
        for name, rules in TAG_MISTAKES.items():
            try:
                other = probe.session()
                if len(other.ask(other.signed(SYS_HELLO, rules=rules))) > 2:
                    raise Failed(f"the node takes a tag that is made wrong: {name}")
            except WireError:
                continue
    succeeds(answer, None, "a signed SYS_HELLO")


@case("sign.wrong-tag", Level.SECURITY, "3.2", "a wrong tag: 6982, close", SESSION, SIGNED)
def wrong_tag(probe: Probe) -> None:
    """Each byte of the tag counts; here the first."""
    agent = probe.session()
    ends(agent, _changed(agent.signed(SYS_HELLO), -TAG), "6982", "a wrong first byte of the tag")


@case(
    "sign.whole-tag", Level.SECURITY, "3.2", "the last byte of the tag counts too", SESSION, SIGNED
)
def whole_tag(probe: Probe) -> None:
    """Who compares 4 or 8 bytes has a weaker tag."""
    agent = probe.session()
    ends(agent, _changed(agent.signed(SYS_HELLO), -1), "6982", "a wrong last byte of the tag")


@case(
    "sign.covers-header",
    Level.SECURITY,
    "3.1",
    "the tag covers CLA, INS, P1 and P2",
    SESSION,
    SIGNED,
)
def covers_header(probe: Probe) -> None:
    """Else a byte that says what to do could be changed on the way."""
    for name, at in (("INS", 1), ("P1", 2), ("P2", 3)):
        agent = probe.session()
        changed = _changed(agent.signed(SYS_STATUS), at)
        ends(agent, changed, "6982", f"a frame whose {name} is not the one that was signed")


@case("sign.covers-data", Level.SECURITY, "3.1", "the tag covers Seq and payload", SESSION, SIGNED)
def covers_data(probe: Probe) -> None:
    """All of Data."""
    for name, at in (("Seq", 8), ("payload", 12)):
        agent = probe.session()
        changed = _changed(agent.signed(SYS_HELLO, bytes(4)), at)
        ends(agent, changed, "6982", f"a frame whose {name} is not the one that was signed")


@case("sign.le-not-covered", Level.SECURITY, "3.1", "Le is not covered", SESSION, SIGNED)
def le_not_covered(probe: Probe) -> None:
    """It is advisory."""
    agent = probe.session()
    succeeds(agent.ask(_changed(agent.signed(SYS_HELLO), -TAG - 1)), None, "another Le")


@case(
    "sign.this-session",
    Level.SECURITY,
    "3.1",
    "a frame of another session: 6982, close",
    SESSION,
    SIGNED,
)
def this_session(probe: Probe) -> None:
    """K and Epoch_ID are the session's."""
    agent, other = probe.session(), probe.session()
    ends(agent, other.signed(SYS_HELLO), "6982", "a frame that was signed in another session")


@case("sign.short", Level.SECURITY, "3.2", "Lc under 4: 6982, close", SESSION, SIGNED)
def short(probe: Probe) -> None:
    """There is no room for Seq, right as the tag may be."""
    for size in (0, 3):
        agent = probe.session()
        ends(agent, agent.tagged(SYS_HELLO, bytes(size)), "6982", f"signed data of {size} bytes")


def _first(agent: Session, seq: int) -> None:
    succeeds(agent.ask(agent.signed(SYS_HELLO, seq=seq)), None, f"Seq {seq}")


@case(
    "sign.replay",
    Level.SECURITY,
    "3.2",
    "the same frame again: 6985, and it stays open",
    SESSION,
    SIGNED,
)
def replay(probe: Probe) -> None:
    """Deployed nodes close."""
    agent = probe.session()
    signed = agent.signed(SYS_HELLO)
    succeeds(agent.ask(signed), None, "a signed SYS_HELLO")
    is_status(agent.ask(signed), "6985", "the same frame again")
    if agent.ended():
        probe.deviates("the session is closed after 6985")


@case("sign.seq-order", Level.SECURITY, "3.2", "an older Seq, and 0: 6985", SESSION, SIGNED)
def seq_order(probe: Probe) -> None:
    """Seq is strictly increasing, and its first value is 1."""
    for before, seq in ((5, 3), (5, 5), (0, 0)):
        agent = probe.session()
        if before:
            _first(agent, before)
        what = f"Seq {seq} after {before}" if before else "Seq 0"
        is_status(agent.ask(agent.signed(SYS_HELLO, seq=seq)), "6985", what)


@case(
    "sign.seq-gaps",
    Level.SECURITY,
    "3.1",
    "gaps in Seq are allowed, up to FFFFFFFF",
    SESSION,
    SIGNED,
)
def seq_gaps(probe: Probe) -> None:
    """An agent that was interrupted has used numbers that the node never saw."""
    agent = probe.session()
    for seq in (1, 3, 0x100, 0xFFFFFFFF):
        _first(agent, seq)


@case(
    "sign.refused-uses-seq",
    Level.SECURITY,
    "3.2",
    "a refused instruction has used its Seq up",
    SESSION,
    SIGNED,
)
def refused_uses_seq(probe: Probe) -> None:
    """Whatever becomes of it."""
    agent = probe.session()
    is_status(agent.ask(agent.signed(UNKNOWN)), "6A81", "an unknown instruction, signed")
    is_status(agent.ask(agent.signed(SYS_HELLO, seq=1)), "6985", "its Seq again")


@case(
    "order.tag-before-existence",
    Level.SECURITY,
    "5.2",
    "a wrong tag on an unknown code: 6982",
    SESSION,
    SIGNED,
)
def tag_before_existence(probe: Probe) -> None:
    """Who cannot sign learns nothing of what exists."""
    agent = probe.session()
    changed = _changed(agent.signed(UNKNOWN), -TAG)
    ends(agent, changed, "6982", "an unknown code with a wrong tag")


@case(
    "order.seq-before-existence",
    Level.SECURITY,
    "5.2",
    "an old Seq on an unknown code: 6985",
    SESSION,
    SIGNED,
)
def seq_before_existence(probe: Probe) -> None:
    """The answer to a repeat is always the same."""
    agent = probe.session()
    _first(agent, 7)
    is_status(agent.ask(agent.signed(UNKNOWN, seq=7)), "6985", "an unknown code with an old Seq")
