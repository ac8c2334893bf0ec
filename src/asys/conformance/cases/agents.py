"""Level 6: agents that agents add (docs/protocol.md, sections 7.8 to 7.11).

All of them have random keys, live two minutes at most, and are removed behind the case.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from asys.conformance.case import Level, case
from asys.conformance.delegate import LABEL, Delegate, addition, delegate, key_hash, wire_map
from asys.conformance.expect import expect, is_status, says_nothing, succeeds
from asys.conformance.frames import (
    AGENT_ADD,
    AGENT_LIST,
    AGENT_REMOVE,
    HELLO,
    SYS_CAPS,
    SYS_HELLO,
    SYS_STATUS,
    UNKNOWN,
    frame,
    number,
)
from asys.conformance.probe import PART_B, SEALED, SESSION, Probe, granted
from asys.conformance.wire import Session

ADD = granted(AGENT_ADD, "AGENT_ADD")
REMOVE = granted(AGENT_REMOVE, "AGENT_REMOVE")
LIST = granted(AGENT_LIST, "AGENT_LIST")
ALL = (SESSION, PART_B, SEALED, ADD, REMOVE)

ENTRY = 108
PAGE = 32


@dataclass(frozen=True, slots=True)
class _Entry:
    key: bytes
    parent: bytes
    caps: bytes
    expires: int
    flags: int
    reserved: bytes
    label: bytes


def _page(agent: Session, page: int) -> tuple[int, list[_Entry]]:
    """The total, and the entries of one page of AGENT_LIST."""
    payload = succeeds(agent.ask(agent.sealed(AGENT_LIST, p1=page)), None, "AGENT_LIST", flags=True)
    expect(len(payload) >= 4, f"AGENT_LIST is answered with {len(payload)} bytes and a status word")
    count = payload[2]
    expect(payload[3] == page, f"page {page} is answered as page {payload[3]}")
    expect(count <= PAGE, f"{count} agents on a page")
    expect(
        len(payload) == 4 + ENTRY * count,
        f"{count} agents in {len(payload)} bytes, not {ENTRY} each",
    )
    rows = [payload[at : at + ENTRY] for at in range(4, len(payload), ENTRY)]
    return number(payload, 0, 2), [
        _Entry(
            row[:32], row[32:36], row[36:68], number(row, 68, 4), row[72], row[73:76], row[76:108]
        )
        for row in rows
    ]


def _entry(agent: Session, public: bytes) -> _Entry | None:
    """What AGENT_LIST says of a key."""
    for page in range(0x100):
        _, entries = _page(agent, page)
        for one in entries:
            if one.key == public:
                return one
        if len(entries) < PAGE:
            return None
    return None


@case(
    "agents.add", Level.PART_B, "7.8", "an added agent may do what its map says, and no more", *ALL
)
def add(probe: Probe) -> None:
    """It is answered with its key hash, a cut of BLAKE2b."""
    agent, one = probe.session(), Delegate()
    caps = wire_map(SYS_CAPS, SYS_HELLO)
    answer = agent.ask(agent.sealed(AGENT_ADD, addition(one.public, caps)))
    try:
        payload = succeeds(answer, 4, "AGENT_ADD", flags=True)
        expect(payload == key_hash(one.public), f"the key hash is {payload.hex()}")
        added = probe.session(one.private)
        succeeds(added.ask(HELLO), None, "SYS_HELLO of the added agent")
        answer = added.ask(frame(SYS_STATUS))
        is_status(answer, "6A81", "SYS_STATUS of an added agent without it")
    finally:
        agent.ask(agent.sealed(AGENT_REMOVE, one.public))


@case("agents.again", Level.PART_B, "7.8", "added again: the new map holds, at once", *ALL)
def again(probe: Probe) -> None:
    """Its sessions go on with it."""
    with delegate(probe, SYS_HELLO) as one:
        added = probe.session(one.private)
        is_status(added.ask(frame(SYS_STATUS)), "6A81", "what it does not have")
        agent = probe.session()
        caps = wire_map(SYS_HELLO, SYS_STATUS)
        answer = agent.ask(agent.sealed(AGENT_ADD, addition(one.public, caps)))
        succeeds(answer, 4, "AGENT_ADD of a key that is there", flags=True)
        succeeds(added.ask(frame(SYS_STATUS)), None, "what it has been given then")


@case(
    "agents.no-more-than-mine",
    Level.PART_B,
    "7.8",
    "a code that the caller does not hold: 6982",
    *ALL,
)
def no_more_than_mine(probe: Probe) -> None:
    """Nobody can hand on what it does not have."""
    agent, one = probe.session(), Delegate()
    caps = wire_map(SYS_HELLO, UNKNOWN + 0xF)
    answer = agent.ask(agent.sealed(AGENT_ADD, addition(one.public, caps)))
    if answer[-2:] != b"\x69\x82":
        agent.ask(agent.sealed(AGENT_REMOVE, one.public))
    is_status(answer, "6982", f"AGENT_ADD with the code {UNKNOWN + 0xF:02X}")


def _refused(probe: Probe, public: bytes, payload: bytes, status: str, what: str) -> None:
    """AGENT_ADD is refused; should it not be, what it has added is removed."""
    agent = probe.session()
    answer = agent.ask(agent.sealed(AGENT_ADD, payload))
    if answer[-2:-1] in (b"\x90", b"\x91"):
        agent.ask(agent.sealed(AGENT_REMOVE, public))
    is_status(answer, status, f"AGENT_ADD with {what}")


@case("agents.length", Level.PART_B, "7.8", "a length that is not that of the label: 6700", *ALL)
def length(probe: Probe) -> None:
    """And a payload that is too short."""
    one = Delegate()
    whole = addition(one.public, wire_map(SYS_HELLO))
    _refused(probe, one.public, whole + b"x", "6700", "a byte behind the label")
    _refused(probe, one.public, whole[:-1], "6700", "a label that is not whole")
    _refused(probe, one.public, whole[:68], "6700", "no label length")


@case("agents.label", Level.PART_B, "7.8", "a label of another form: 6A80", *ALL)
def label(probe: Probe) -> None:
    """31 of letters, digits, `.`, `_` and `-` at most."""
    one = Delegate()
    for bad in (b"two words", b"a=b", b"\xc3\xa9"):
        payload = addition(one.public, wire_map(SYS_HELLO), label=bad)
        _refused(probe, one.public, payload, "6A80", f"the label {bad!r}")


@case("agents.key", Level.PART_B, "7.8", "a key of low order, the node's, the caller's: 6A80", *ALL)
def key(probe: Probe) -> None:
    """None of them can be added."""
    agent = probe.session()
    mine = Delegate(probe.target.identity).public
    for name, public in {
        "a key of low order": bytes(32),
        "the node's own key": agent.shown[6:],
        "the caller's own key": mine,
    }.items():
        answer = agent.ask(agent.sealed(AGENT_ADD, addition(public, wire_map(SYS_HELLO))))
        is_status(answer, "6A80", f"AGENT_ADD of {name}")


@case(
    "agents.list",
    Level.PART_B,
    "7.10",
    "AGENT_LIST shows key, parent, map, end, flags, label",
    *ALL,
    LIST,
)
def listed(probe: Probe) -> None:
    """108 bytes for each agent."""
    with delegate(probe, SYS_HELLO) as one:
        agent, added = probe.session(), probe.session(one.private)
        succeeds(added.ask(HELLO), None, "SYS_HELLO of the added agent")
        entry = _entry(agent, one.public)
        if entry is None:
            expect(entry, "the added agent is not listed")
            return
        expect(
            entry.parent == key_hash(Delegate(probe.target.identity).public),
            f"its parent is {entry.parent.hex()}",
        )
        expect(entry.caps == wire_map(SYS_HELLO), f"its map is {entry.caps.hex()}")
        expect(entry.expires, "its end is 0, never")
        expect(entry.flags == 1, f"its flags are {entry.flags:02X}, not 01: connected")
        expect(not any(entry.reserved), "reserved bytes are not zero")
        expect(entry.label == LABEL.ljust(32, b"\0"), f"its label is {entry.label!r}")


@case("agents.list-end", Level.PART_B, "7.10", "a page behind the last: count 0", *ALL, LIST)
def list_end(probe: Probe) -> None:
    """And 9000."""
    with delegate(probe, SYS_HELLO):
        total, entries = _page(probe.session(), 0xFF)
        expect(not entries, f"page 255 has {len(entries)} agents")
        expect(total, "the total is 0, and there is one")


@case("agents.remove", Level.PART_B, "7.9", "removed: its sessions close, its key is unknown", *ALL)
def remove(probe: Probe) -> None:
    """A second time there is nothing to remove: 6A80."""
    with delegate(probe, SYS_HELLO) as one:
        agent, added = probe.session(), probe.session(one.private)
        succeeds(added.ask(HELLO), None, "SYS_HELLO of the added agent")
        answer = agent.ask(agent.sealed(AGENT_REMOVE, one.public))
        succeeds(answer, 0, "AGENT_REMOVE", flags=True)
        expect(added.ended(), "its session goes on after AGENT_REMOVE")
        is_status(probe.session(one.private).answer(), "6982", "the removed key")
        answer = agent.ask(agent.sealed(AGENT_REMOVE, one.public))
        is_status(answer, "6A80", "AGENT_REMOVE of a key that is not there")


@case("agents.remove-line", Level.PART_B, "7.9", "the caller's own key cannot be removed", *ALL)
def remove_line(probe: Probe) -> None:
    """6982 for a key of the file, 6A80 for one that is not below the caller."""
    agent = probe.session()
    answer = agent.ask(agent.sealed(AGENT_REMOVE, Delegate(probe.target.identity).public))
    expect(answer in (b"\x69\x82", b"\x6a\x80"), f"it is answered {answer.hex()}")
    expect(not agent.ended(), "the session is closed after it")


@case("agents.end", Level.PART_B, "7.8", "after its time an added agent is nobody", *ALL)
def end(probe: Probe) -> None:
    """Its session is closed then, without a request."""
    agent, one = probe.session(), Delegate()
    answer = agent.ask(agent.sealed(AGENT_ADD, addition(one.public, wire_map(SYS_HELLO), ttl=2)))
    try:
        succeeds(answer, 4, "AGENT_ADD with 2 s", flags=True)
        added = probe.session(one.private)
        started = time.monotonic()
        says_nothing(added.rest(4 + probe.timing.slack), "at the end of its time")
        expect(time.monotonic() - started < 3 + probe.timing.slack, "it ends late")
    finally:
        agent.ask(agent.sealed(AGENT_REMOVE, one.public))
