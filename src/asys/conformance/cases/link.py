"""Level 1: from the first byte to an open session (docs/protocol.md, section 1)."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from asys.conformance.case import Level, case
from asys.conformance.expect import expect, says_nothing, shown, succeeds
from asys.conformance.frames import HELLO, STATUS
from asys.conformance.handshake import MAGIC, PRE_HANDSHAKE_SIZE, AgentHandshake, Rules
from asys.conformance.probe import SESSION, Probe
from asys.conformance.verdicts import Failed, NotRun
from asys.conformance.wire import Ended, Undecipherable, WireError

MANY = 260
"""Requests in one session: more than a counter of one byte can count."""

BATCH = 20
"""Requests under way at a time."""


@case("link.silent-first", Level.LINK, "1.1", "nothing is sent before the magic")
def silent_first(probe: Probe) -> None:
    """A node that speaks first tells every port scanner what it is."""
    says_nothing(probe.dial().overheard(_quiet_before_magic(probe)), "before it has the magic")


def _quiet_before_magic(probe: Probe) -> float:
    return min(probe.timing.quiet, probe.timing.magic / 2)


@case("link.wrong-magic", Level.LINK, "1.1", "a wrong magic: close, without a byte")
def wrong_magic(probe: Probe) -> None:
    """Whoever does not know the protocol learns nothing."""
    for wrong in (b"ASYX", b"GET "):
        wire = probe.dial()
        wire.send(wrong)
        says_nothing(wire.rest(), f"to the magic {wrong.hex()}")


@case("link.magic-in-pieces", Level.LINK, "1.1", "the magic may come in pieces")
def magic_in_pieces(probe: Probe) -> None:
    """TCP is a stream: where a segment ends means nothing."""
    wire = probe.dial()
    wire.send(MAGIC[:1])
    says_nothing(wire.overheard(_quiet_before_magic(probe)), "after one byte of the magic")
    wire.send(MAGIC[1:])
    wire.read_exactly(PRE_HANDSHAKE_SIZE)


@case(
    "link.pre-handshake-frame", Level.LINK, "1.1", "38 bytes with the magic in front, then silence"
)
def pre_handshake_frame(probe: Probe) -> None:
    """No length, no padding, nothing behind it."""
    wire, frame = probe.greeted()
    expect(frame[:4] == MAGIC, f"the pre-handshake frame begins with {frame[:4].hex()}")
    says_nothing(wire.overheard(probe.timing.quiet), "behind the 38 bytes, before message 1")


@case("link.version", Level.LINK, "1.1", "bytes 4 and 5 are the version, 01 in front")
def version(probe: Probe) -> None:
    """A u16, big-endian, its high byte the major version."""
    _, frame = probe.greeted()
    expect(frame[4] == 1, f"the version is {frame[4:6].hex()} and not 01xx")


@case("link.static-key", Level.LINK, "1.1", "the node's key stays the same, and is usable")
def static_key(probe: Probe) -> None:
    """It is what agents know the node by."""
    first = probe.greeted()[1][6:]
    second = probe.greeted()[1][6:]
    expect(first == second, "two connections show two different keys")
    expect(any(first), "the key is all zero")
    known = probe.target.node_key
    expect(known in (None, first), "the key is not the one that is known for this node")


@case("link.message-2", Level.LINK, "1.2", "Noise IK: message 2 has 48 bytes and authenticates")
def message_2(probe: Probe) -> None:
    """The report names the mistake where it is a known one."""

    def understood(rules: Rules) -> bool:
        probe.session(rules=rules)
        return True

    try:
        probe.session()
    except (Ended, Undecipherable) as error:
        raise Failed(f"{error}{probe.named_mistake(understood)}") from None


@case("link.records", Level.LINK, "1.2", "the keys of Split open the first record of each end")
def records(probe: Probe) -> None:
    """As `link.message-2`, one step on."""

    def understood(rules: Rules) -> bool:
        return len(probe.session(rules=rules).ask(HELLO)) >= 2

    try:
        agent = probe.session()
    except WireError as error:
        raise NotRun(f"no handshake: {error}") from None
    try:
        agent.ask(HELLO)
    except WireError as error:
        raise Failed(f"a first request: {error}{probe.named_mistake(understood)}") from None


@case("link.counters", Level.LINK, "1.2", "counters grow by one a record, little-endian, past 255")
def counters(probe: Probe) -> None:
    """The first record alone cannot show how a counter is written: it is 0."""

    def understood(rules: Rules) -> bool:
        agent = probe.session(rules=rules)
        return all(agent.ask(HELLO) for _ in range(3))

    try:
        agent = probe.session()
        agent.ask(HELLO)
    except WireError as error:
        raise NotRun(f"no first record: {error}") from None
    try:
        agent.ask(HELLO)
        for _ in range(MANY // BATCH):
            agent.say(*[HELLO] * BATCH)
            for _ in range(BATCH):
                agent.answer()
    except WireError as error:
        counted = agent.records.received
        raise Failed(f"after {counted} records: {error}{probe.named_mistake(understood)}") from None


@case("link.fresh-ephemeral", Level.LINK, "1.2", "each handshake has a new ephemeral key", SESSION)
def fresh_ephemeral(probe: Probe) -> None:
    """Else whoever learns it once reads every session."""
    first, second = (probe.session().message_2[:32] for _ in range(2))
    expect(first != second, "two handshakes have the same ephemeral key of the node")


@case(
    "link.silent-until-asked",
    Level.LINK,
    "1.3",
    "a known agent hears nothing before it asks",
    SESSION,
)
def silent_until_asked(probe: Probe) -> None:
    """What comes unasked would be taken for the answer to the first request."""
    said = probe.session().unasked(probe.timing.quiet)
    expect(said is None, f"the node sends {shown(said or b'')} unasked")


@case(
    "link.record-in-pieces",
    Level.LINK,
    "1.1",
    "a record may come in pieces, or with others",
    SESSION,
)
def record_in_pieces(probe: Probe) -> None:
    """As link.magic-in-pieces."""
    agent = probe.session()
    record = agent.sealed_records(HELLO)
    for cut in (record[:1], record[1:9]):
        agent.send(cut)
        said = agent.unasked(probe.timing.quiet / 2)
        expect(said is None, f"half a record is answered {shown(said or b'')}")
    agent.send(record[9:] + agent.sealed_records(STATUS))
    succeeds(agent.answer(), None, "a record in pieces")
    succeeds(agent.answer(), None, "a record right behind another")


@case(
    "link.bad-record",
    Level.LINK,
    "1.1",
    "a record that does not decrypt: close, without a byte",
    SESSION,
)
def bad_record(probe: Probe) -> None:
    """The next record cannot be found any more."""
    agent = probe.session()
    succeeds(agent.ask(HELLO), None, "SYS_HELLO")
    record = bytearray(agent.sealed_records(HELLO))
    record[-1] ^= 1
    agent.send(bytes(record))
    says_nothing(agent.rest(), "after a record with a wrong tag")


@case("link.short-record", Level.LINK, "1.1", "a record of less than 16 bytes: close", SESSION)
def short_record(probe: Probe) -> None:
    """It is shorter than its own tag."""
    for record in (b"\0\0", b"\0\x0f" + bytes(15)):
        agent = probe.session()
        succeeds(agent.ask(HELLO), None, "SYS_HELLO")
        agent.send(record)
        says_nothing(agent.rest(), f"after a record of {record[1]} bytes")


@case("link.bad-message-1", Level.LINK, "1.2", "message 1 that does not authenticate: close")
def bad_message_1(probe: Probe) -> None:
    """Without a byte."""
    wire, frame = probe.greeted()
    message = bytearray(AgentHandshake(probe.target.identity, frame[6:]).message_1())
    message[-1] ^= 1
    wire.send(bytes(message))
    says_nothing(wire.rest(), "after a message 1 with a wrong tag")


@case("link.low-order", Level.LINK, "1.2", "an ephemeral key of low order: close, without a byte")
def low_order(probe: Probe) -> None:
    """The handshake is right for who does not look at the result of X25519: all zero."""
    for point in (bytes(32), b"\x01" + bytes(31)):
        wire, frame = probe.greeted()
        handshake = AgentHandshake(probe.target.identity, frame[6:], ephemeral_public=point)
        wire.send(handshake.message_1())
        says_nothing(wire.rest(), "after a message 1 with a key of low order")


@case(
    "session.unknown-agent",
    Level.FRAMES,
    "1.3",
    "an unknown key: message 2, 6982 unasked, close",
    SESSION,
)
def unknown_agent(probe: Probe) -> None:
    """The handshake succeeds, so that only the agent itself learns that it is not known."""
    agent = probe.session(X25519PrivateKey.generate().private_bytes_raw())
    answer = agent.answer()
    expect(answer == b"\x69\x82", f"an unknown key gets {shown(answer)} and not 6982")
    says_nothing(agent.rest(), "behind the 6982 for an unknown key")
