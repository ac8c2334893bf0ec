"""Level 6: REKEY and ABANDON (docs/protocol.md, sections 7.6 and 7.7)."""

from __future__ import annotations

from asys.conformance.case import Level, case
from asys.conformance.delegate import delegate
from asys.conformance.expect import ends, expect, is_status, refuses, succeeds
from asys.conformance.frames import ABANDON, AGENT_ADD, HELLO, REKEY, SYS_HELLO, frame, number
from asys.conformance.probe import PART_B, SEALED, SESSION, SIGNED, Probe, granted
from asys.conformance.verdicts import Failed
from asys.conformance.wire import Session, WireError

NEW_KEYS = granted(REKEY, "REKEY")


def _rekeyed(probe: Probe) -> Session:
    agent = probe.session()
    succeeds(agent.ask(HELLO), None, "SYS_HELLO")
    if probe.facts is not None and probe.facts.signs:
        succeeds(agent.ask(agent.signed(SYS_HELLO)), None, "a signed SYS_HELLO")
    succeeds(agent.ask(frame(REKEY)), 0, "REKEY", flags=True)
    agent.records.rekey()
    return agent


@case(
    "rekey.keys",
    Level.PART_B,
    "7.6",
    "new keys in both directions; the counters go on",
    SESSION,
    PART_B,
    NEW_KEYS,
)
def keys(probe: Probe) -> None:
    """Twice, as the second change begins from the first."""
    agent = _rekeyed(probe)
    try:
        succeeds(agent.ask(HELLO), None, "a request under new keys")
    except WireError as error:
        raise Failed(f"a request under new keys: {error}") from None
    succeeds(agent.ask(frame(REKEY)), 0, "a second REKEY", flags=True)
    agent.records.rekey()
    succeeds(agent.ask(HELLO), None, "a request under the keys after them")


@case(
    "rekey.tag",
    Level.PART_B,
    "7.6",
    "K, Epoch_ID and K_enc follow from the new key",
    SESSION,
    PART_B,
    SIGNED,
    NEW_KEYS,
)
def tag(probe: Probe) -> None:
    """Shown signed and, where it works, Enc+Sign."""
    agent = _rekeyed(probe)
    succeeds(agent.ask(agent.signed(SYS_HELLO)), None, "a frame signed with the new K")
    if probe.facts is not None and probe.facts.seals:
        succeeds(agent.ask(agent.sealed(SYS_HELLO)), None, "a frame sealed with the new K_enc")


@case("rekey.seq", Level.PART_B, "7.6", "Seq goes on", SESSION, PART_B, SIGNED, NEW_KEYS)
def seq(probe: Probe) -> None:
    """What was used before REKEY is used."""
    agent = _rekeyed(probe)
    is_status(agent.ask(agent.signed(SYS_HELLO, seq=1)), "6985", "a Seq from before REKEY")


@case(
    "rekey.payload",
    Level.PART_B,
    "7.6",
    "a payload: 6700, the keys stay",
    SESSION,
    PART_B,
    NEW_KEYS,
)
def payload(probe: Probe) -> None:
    """The session goes on under the old keys."""
    refuses(probe.session(), frame(REKEY, b"\0"), "6700", "REKEY with a payload")


@case(
    "rekey.followed",
    Level.PART_B,
    "7.6",
    "anything behind it: 6700, close",
    SESSION,
    PART_B,
    NEW_KEYS,
)
def followed(probe: Probe) -> None:
    """In the same message."""
    ends(probe.session(), frame(REKEY) + HELLO, "6700", "a frame behind REKEY")


@case(
    "abandon.payload",
    Level.PART_B,
    "7.7",
    "a payload: 6700",
    SESSION,
    PART_B,
    granted(ABANDON, "ABANDON"),
)
def abandon_payload(probe: Probe) -> None:
    """And no session is closed."""
    agent, other = probe.session(), probe.session()
    succeeds(other.ask(HELLO), None, "SYS_HELLO")
    refuses(agent, frame(ABANDON, b"\0"), "6700", "ABANDON with a payload")
    expect(not other.ended(), "ABANDON with a payload has closed another session")


@case(
    "abandon.closes",
    Level.PART_B,
    "7.7",
    "the other sessions of the key are closed, and counted",
    SESSION,
    PART_B,
    SEALED,
    granted(ABANDON, "ABANDON"),
    granted(AGENT_ADD, "AGENT_ADD"),
)
def abandon_closes(probe: Probe) -> None:
    """Shown with an agent that is added for it, so that nobody else's sessions are closed."""
    with delegate(probe, SYS_HELLO, ABANDON) as one:
        agents = [probe.session(one.private) for _ in range(3)]
        mine = probe.session()
        for agent in (*agents, mine):
            succeeds(agent.ask(HELLO), None, "SYS_HELLO of each session")
        answer = succeeds(agents[0].ask(frame(ABANDON)), 2, "ABANDON", flags=True)
        expect(number(answer, 0, 2) == 2, f"{number(answer, 0, 2)} sessions are counted, not 2")
        expect(agents[1].ended() and agents[2].ended(), "another session of the key stays open")
        expect(not mine.ended(), "a session of another agent is closed")
        expect(not agents[0].ended(), "the session that asked for it is closed")
