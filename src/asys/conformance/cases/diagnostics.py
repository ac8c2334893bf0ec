"""Level 6: LOG_SUMMARY, LOG_DETAIL and PROC_TREE (docs/protocol.md, sections 7.16 to 7.18)."""

from __future__ import annotations

from asys.conformance.case import Level, case
from asys.conformance.expect import expect, refuses, shown, succeeds
from asys.conformance.frames import LOG_DETAIL, LOG_SUMMARY, PROC_TREE, number, u32
from asys.conformance.probe import PART_B, SESSION, SIGNED, Probe, granted
from asys.conformance.verdicts import Failed, NotRun
from asys.conformance.wire import Session

BASE = (SESSION, PART_B, SIGNED)
SUMMARY = granted(LOG_SUMMARY, "LOG_SUMMARY")
DETAIL = granted(LOG_DETAIL, "LOG_DETAIL")
TREE = granted(PROC_TREE, "PROC_TREE")

EVENT, PROCESS = 60, 36
NOBODY = 0x7FFFFFFE
MAX_PID = 1 << 22


def _padded(text: bytes, what: str) -> None:
    """UTF-8, and behind it nothing but zero bytes."""
    written = text.rstrip(b"\0")
    expect(b"\0" not in written, f"{what} has a zero byte inside: {shown(text)}")
    _utf8(written, what)


def _utf8(text: bytes, what: str) -> None:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        raise Failed(f"{what} is not UTF-8: {shown(text)}") from None


def _events(agent: Session, *, priority: int = 7, wanted: int = 0) -> tuple[bytes, list[bytes]]:
    """The head of a summary since the last boot, and its events."""
    answer = agent.ask(agent.signed(LOG_SUMMARY, u32(0), priority, wanted))
    payload = succeeds(answer, None, "LOG_SUMMARY", flags=True)
    expect(len(payload) >= 8, f"LOG_SUMMARY has {len(payload)} bytes")
    count = payload[4]
    expect(
        len(payload) == 8 + EVENT * count,
        f"{count} events in {len(payload)} bytes, not {EVENT} each",
    )
    return payload[:8], [payload[at : at + EVENT] for at in range(8, len(payload), EVENT)]


@case(
    "logs.length", Level.PART_B, "7.16", "LOG_SUMMARY of other than 4 bytes: 6700", *BASE, SUMMARY
)
def logs_length(probe: Probe) -> None:
    """Lc is 8 with Seq."""
    agent = probe.session()
    for size in (3, 5):
        request = agent.signed(LOG_SUMMARY, bytes(size), 3)
        refuses(agent, request, "6700", f"LOG_SUMMARY with {size} bytes")


@case("logs.range", Level.PART_B, "7.16", "P1 over 7, P2 over 32: 6A80", *BASE, SUMMARY)
def logs_range(probe: Probe) -> None:
    """Priorities are 0 to 7."""
    agent = probe.session()
    for p1, p2 in ((8, 0), (3, 33)):
        request = agent.signed(LOG_SUMMARY, u32(60), p1, p2)
        refuses(agent, request, "6A80", f"LOG_SUMMARY with P1 = {p1:02X}, P2 = {p2:02X}")


@case(
    "logs.layout", Level.PART_B, "7.16", "an event has 60 bytes; as many as P2 says", *BASE, SUMMARY
)
def logs_layout(probe: Probe) -> None:
    """The unit is UTF-8, reserved bytes are zero, the source is a known one."""
    agent = probe.session()
    head, events = _events(agent, wanted=3)
    expect(len(events) <= 3, f"{len(events)} events, and 3 were wanted")
    expect(head[5] in (1, 2), f"the source is {head[5]:02X}")
    expect(not number(head, 6, 2) & 0xFFFE, f"the flags are {head[6:8].hex()}")
    repeats = [number(one, 16, 4) for one in events]
    expect(sum(repeats) <= number(head, 0, 4), f"{number(head, 0, 4)} entries match, and {repeats}")
    for one in events:
        expect(number(one, 20, 4) <= MAX_PID, f"an event of PID {number(one, 20, 4)}")
        expect(one[24] <= 7, f"an event of priority {one[24]}")
        expect(not any(one[25:28]), "reserved bytes of an event are not zero")
        _padded(one[28:], "the unit of an event")


@case("logs.order", Level.PART_B, "7.16", "worst first, then newest; none below P1", *BASE, SUMMARY)
def logs_order(probe: Probe) -> None:
    """Priority 0 is the worst."""
    agent = probe.session()
    _, events = _events(agent, priority=6, wanted=32)
    keys = [(one[24], -number(one, 8, 8)) for one in events]
    expect(keys == sorted(keys), "the events are not in their order")
    expect(all(one[24] <= 6 for one in events), "an event is less severe than P1 says")


@case(
    "log-detail.unknown",
    Level.PART_B,
    "7.17",
    "an Event_ID that was not shown: 6A80",
    *BASE,
    DETAIL,
)
def detail_unknown(probe: Probe) -> None:
    """Nobody reads a log by guessing."""
    agent = probe.session()
    request = agent.signed(LOG_DETAIL, probe.random.randbytes(8))
    refuses(agent, request, "6A80", "LOG_DETAIL of an event that was not shown")


@case("log-detail.length", Level.PART_B, "7.17", "other than 8 bytes: 6700", *BASE, DETAIL)
def detail_length(probe: Probe) -> None:
    """Lc is 12 with Seq."""
    agent = probe.session()
    for size in (7, 9):
        request = agent.signed(LOG_DETAIL, probe.random.randbytes(size))
        refuses(agent, request, "6700", f"LOG_DETAIL with {size} bytes")


@case(
    "log-detail.layout",
    Level.PART_B,
    "7.17",
    "the event, and entries around it",
    *BASE,
    SUMMARY,
    DETAIL,
)
def detail_layout(probe: Probe) -> None:
    """Each entry says how long its message is."""
    agent = probe.session()
    _, events = _events(agent, wanted=1)
    if not events:
        raise NotRun("the node's log has no entries")
    answer = agent.ask(agent.signed(LOG_DETAIL, events[0][:8], 1, 1))
    payload = succeeds(answer, None, "LOG_DETAIL", flags=True)
    expect(len(payload) >= 4, f"LOG_DETAIL is answered with {len(payload)} bytes and a status word")
    count, index = payload[0], payload[1]
    expect(count <= 3, f"{count} entries, and one before and one behind were wanted")
    expect(index < count, f"the event is number {index} of {count}")
    expect(not any(payload[2:4]), "reserved bytes are not zero")
    at, entries = 4, []
    while at < len(payload):
        size = 16 + number(payload, at + 14, 2)
        entries.append(payload[at : at + size])
        expect(size <= 16 + 1024, f"a message of {size - 16} bytes")
        at += size
    expect(at == len(payload) and len(entries) == count, f"{count} entries do not fill the answer")
    shown_event = entries[index]
    expect(shown_event[:8] == events[0][8:16], "the entry at the index has another time")
    for one in entries:
        expect(
            one[12] <= 7 and not one[13] & 0xFE,
            "an entry has a priority or flags without a meaning",
        )
        _utf8(one[16:], "a message")


@case(
    "tree.parameters",
    Level.PART_B,
    "7.18",
    "other than 4 bytes: 6700; PID 0, nobody: 6A80",
    *BASE,
    TREE,
)
def tree_parameters(probe: Probe) -> None:
    """A process that is not there has no tree."""
    agent = probe.session()
    for size in (3, 5):
        request = agent.signed(PROC_TREE, bytes(size))
        refuses(agent, request, "6700", f"PROC_TREE with {size} bytes")
    for pid in (0, NOBODY):
        refuses(agent, agent.signed(PROC_TREE, u32(pid)), "6A80", f"PROC_TREE of PID {pid}")


@case(
    "tree.layout",
    Level.PART_B,
    "7.18",
    "ancestors, the process, what is below it in pre-order",
    *BASE,
    TREE,
)
def tree_layout(probe: Probe) -> None:
    """Of PID 1, which every node that has trees has; of --pid too where it is given."""
    agent = probe.session()
    for pid in [1, *([probe.target.pid] if probe.target.pid else [])]:
        answer = agent.ask(agent.signed(PROC_TREE, u32(pid), 2))
        payload = succeeds(answer, None, f"PROC_TREE of PID {pid}", flags=True)
        total, count, index = (number(payload, at, 2) for at in (0, 2, 4))
        expect(
            len(payload) == 8 + PROCESS * count and not any(payload[6:8]),
            f"{count} processes in {len(payload)} bytes, not {PROCESS} each behind 8",
        )
        expect(1 <= count <= min(total, 512), f"{count} processes of {total}")
        rows = [payload[at : at + PROCESS] for at in range(8, len(payload), PROCESS)]
        expect(index < count and number(rows[index], 0, 4) == pid, f"slot {index} is not PID {pid}")
        _rows(rows, index)


def _rows(rows: list[bytes], index: int) -> None:
    """Each process stands behind its parent, one level deeper."""
    depths: dict[int, int] = {}
    for at, row in enumerate(rows):
        pid, parent, depth = number(row, 0, 4), number(row, 4, 4), row[16]
        expect(pid <= MAX_PID, f"a process has PID {pid}")
        expect(
            row[17:18] in (b"R", b"S", b"D", b"T", b"t", b"Z", b"X", b"I"), f"state {row[17]:02X}"
        )
        expect(not row[18] & 0xF8, f"the flags of PID {pid} are {row[18]:02X}")
        expect(row[19] <= 100, f"PID {pid} has {row[19]} % of the memory")
        _padded(row[20:], f"the name of PID {pid}")
        if at == 0:
            expect(depth == 0, f"the first process has depth {depth}")
        else:
            expect(
                depths.get(parent) == depth - 1,
                f"PID {pid} has depth {depth}, and its parent {parent} {depths.get(parent)}",
            )
        expect(at > index or depth == at, f"ancestor {at} has depth {depth}")
        depths[pid] = depth
