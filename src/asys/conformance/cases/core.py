"""Level 3: the four instructions that are locked for ever (docs/protocol.md, section 6).

Whether a number is in the right byte order shows in what it would say: a clock far from ours, more
memory than there is, a PID that no kernel gives out.
"""

from __future__ import annotations

import time

from asys.conformance.case import Level, case
from asys.conformance.expect import expect, succeeds
from asys.conformance.frames import (
    CAPS,
    HELLO,
    PROCS,
    STATUS,
    SYS_CAPS,
    SYS_HELLO,
    SYS_PROCS,
    SYS_STATUS,
    frame,
    number,
)
from asys.conformance.handshake import MAGIC
from asys.conformance.probe import SESSION, Probe

SIZES = {SYS_CAPS: 34, SYS_HELLO: 16, SYS_STATUS: 21, SYS_PROCS: 42}
NAMES = {
    SYS_CAPS: "SYS_CAPS",
    SYS_HELLO: "SYS_HELLO",
    SYS_STATUS: "SYS_STATUS",
    SYS_PROCS: "SYS_PROCS",
}

MAX_MEMORY_MB = 1 << 26
"""64 TB; a smaller number that is read the wrong way round is mostly greater."""

MAX_PID = 1 << 22
"""What Linux gives out at most."""

DAY_NS = 86_400 * 10**9

INTERVAL_MS = 10_000
"""No sampling interval is so long, nor so short that I/O wait of all CPUs does not fit."""


def _caps(probe: Probe) -> bytes:
    return _payload(probe, CAPS)


def _payload(probe: Probe, request: bytes) -> bytes:
    """What an answer says, as far as it goes: its length is another case's subject."""
    return probe.session().ask(request)[:-2].ljust(42, b"\0")


def _length(probe: Probe, code: int) -> None:
    succeeds(probe.session().ask(frame(code)), SIZES[code], NAMES[code])


@case("caps.length", Level.CORE, "6.1", "SYS_CAPS is answered with 36 bytes", SESSION)
def caps_length(probe: Probe) -> None:
    """Status word included."""
    _length(probe, SYS_CAPS)


@case("hello.length", Level.CORE, "6.2", "SYS_HELLO is answered with 18 bytes", SESSION)
def hello_length(probe: Probe) -> None:
    """Status word included."""
    _length(probe, SYS_HELLO)


@case("status.length", Level.CORE, "6.3", "SYS_STATUS is answered with 23 bytes", SESSION)
def status_length(probe: Probe) -> None:
    """Status word included."""
    _length(probe, SYS_STATUS)


@case("procs.length", Level.CORE, "6.4", "SYS_PROCS is answered with 44 bytes", SESSION)
def procs_length(probe: Probe) -> None:
    """Status word included."""
    _length(probe, SYS_PROCS)


@case("core.data-ignored", Level.CORE, "6", "Data that is sent along is ignored", SESSION)
def data_ignored(probe: Probe) -> None:
    """Not refused, not echoed."""
    agent = probe.session()
    for code, name in NAMES.items():
        answer = agent.ask(frame(code, probe.random.randbytes(5)))
        expect(answer[-2:] == b"\x90\x00", f"{name} with data is answered {answer[-2:].hex()}")


@case(
    "core.parameters-ignored", Level.CORE, "9", "P1 and P2 without a meaning are ignored", SESSION
)
def parameters_ignored(probe: Probe) -> None:
    """P1 of SYS_CAPS has one."""
    agent = probe.session()
    for code in (SYS_HELLO, SYS_STATUS, SYS_PROCS):
        answer = agent.ask(frame(code, p1=7, p2=9))
        expect(
            answer[-2:] == b"\x90\x00",
            f"{NAMES[code]} with P1 = 07 is answered {answer[-2:].hex()}",
        )
    answer = agent.ask(frame(SYS_CAPS, p2=9))
    expect(answer[-2:] == b"\x90\x00", f"SYS_CAPS with P2 = 09 is answered {answer[-2:].hex()}")


@case(
    "caps.version", Level.CORE, "6.1", "bytes 8 and 9 are the version of the first frame", SESSION
)
def caps_version(probe: Probe) -> None:
    """Only here it is proven."""
    caps = _caps(probe)
    shown = probe.facts.version if probe.facts else 0
    expect(
        number(caps, 8, 2) == shown,
        f"SYS_CAPS says version {caps[8:10].hex()}, the pre-handshake frame {shown:04x}",
    )


@case(
    "caps.bitmap",
    Level.CORE,
    "6.1",
    "bit N of the first word is instruction N, big-endian",
    SESSION,
)
def caps_bitmap(probe: Probe) -> None:
    """Whoever reads this answer has bit 0."""
    caps = _caps(probe)
    expect(caps[3] & 1, f"bit 0, SYS_CAPS itself, is 0 in {caps[:4].hex()}")
    expect(
        not caps[3] & 0xF0 and not caps[2],
        f"codes that have no instruction are lit in {caps[:4].hex()}",
    )


@case(
    "caps.kernel",
    Level.CORE,
    "6.1",
    "kernel version and CPUs are big-endian and plausible",
    SESSION,
)
def caps_kernel(probe: Probe) -> None:
    """A patch level beyond 999, and more CPUs than memory can serve, are the wrong byte order."""
    caps = _caps(probe)
    patch, cpus, ram = number(caps, 12, 2), number(caps, 14, 2), number(caps, 18, 4)
    expect(caps[10], "the kernel's major version is 0")
    expect(patch < 1000 or patch & 0xFF, f"the kernel's patch level is {patch}")
    expect(1 <= cpus <= 8192, f"{cpus} CPUs")
    expect(cpus < 256 or ram // cpus >= 100, f"{cpus} CPUs share {ram} MB of memory")


@case(
    "caps.memory", Level.CORE, "6.1", "RAM, swap and root size are u32 in MB, big-endian", SESSION
)
def caps_memory(probe: Probe) -> None:
    """Between 1 MB and 64 TB; the root file system up to 64 PB."""
    caps = _caps(probe)
    ram, swap, root = (number(caps, at, 4) for at in (18, 22, 26))
    expect(0 < ram <= MAX_MEMORY_MB, f"{ram} MB of memory")
    expect(swap <= MAX_MEMORY_MB, f"{swap} MB of swap")
    expect(0 < root <= MAX_MEMORY_MB << 4, f"a root file system of {root} MB")


@case(
    "caps.codes", Level.CORE, "6.1", "architecture, file system and RPI have known codes", SESSION
)
def caps_codes(probe: Probe) -> None:
    """A node of this version sends no others."""
    caps = _caps(probe)
    expect(number(caps, 16, 2) in (1, 2, 3, 0xFFFF), f"architecture {caps[16:18].hex()}")
    expect(number(caps, 30, 2) in (*range(1, 9), 0xFFFF), f"file system {caps[30:32].hex()}")
    expect(caps[32] in (1, 2, 0xFF), f"the source of RPI is {caps[32]:02X}")


@case("caps.reserved", Level.CORE, "6.1", "reserved bits of byte 33 are zero", SESSION)
def caps_reserved(probe: Probe) -> None:
    """Bits 6-2; the page that was not asked for is 0."""
    caps = _caps(probe)
    expect(not caps[33] & 0x7C, f"byte 33 is {caps[33]:02X}")
    expect(not caps[33] & 0x03, f"P1 = 0 is answered with page {caps[33] & 3}")


@case("hello.magic", Level.CORE, "6.2", "SYS_HELLO begins with the magic", SESSION)
def hello_magic(probe: Probe) -> None:
    """41 53 59 53."""
    answer = _payload(probe, HELLO)
    expect(answer[:4] == MAGIC, f"it begins with {answer[:4].hex()}")


@case("hello.uid", Level.CORE, "6.2", "the node's UID stays the same", SESSION)
def hello_uid(probe: Probe) -> None:
    """In another session too."""
    first, second = (_payload(probe, HELLO)[4:8] for _ in range(2))
    expect(first == second, f"first {first.hex()}, then {second.hex()}")


@case("hello.time", Level.CORE, "6.2", "Unix time in ns, u64, big-endian, not a day off", SESSION)
def hello_time(probe: Probe) -> None:
    """It is the moment of the answer: it moves."""
    agent = probe.session()
    first = number(agent.ask(HELLO), 8, 8)
    ours = time.time_ns()
    second = number(agent.ask(HELLO), 8, 8)
    expect(
        abs(first - ours) < DAY_NS,
        f"the node's clock says {first} ns; this one says {ours} ns",
    )
    expect(first != second, "two answers have the same time")


@case(
    "status.ranges",
    Level.CORE,
    "6.3",
    "percentages are 0 to 100, or FF where RPI has none",
    SESSION,
)
def status_ranges(probe: Probe) -> None:
    """FF in SYS_STATUS and in SYS_CAPS go together."""
    status = _payload(probe, STATUS)
    none = _caps(probe)[32] == 0xFF
    expect(status[2] <= 100, f"CPU {status[2]} %")
    expect(status[7] <= 100, f"the root file system is used to {status[7]} %")
    expect(status[16] <= 100 or status[16] == 0xFF, f"RPI {status[16]}")
    expect(
        (status[16] == 0xFF) is none,
        f"RPI is {status[16]:02X}, and SYS_CAPS says that there is {'none' if none else 'one'}",
    )


@case(
    "status.memory", Level.CORE, "6.3", "available memory is big-endian, at most all of it", SESSION
)
def status_memory(probe: Probe) -> None:
    """The wrong way round it is more than the machine has."""
    available, ram = number(_payload(probe, STATUS), 3, 4), number(_caps(probe), 18, 4)
    expect(0 < available <= ram, f"{available} MB of {ram} MB are available")


@case("status.io-wait", Level.CORE, "6.3", "I/O wait is not longer than an interval", SESSION)
def status_io_wait(probe: Probe) -> None:
    """The wrong way round it is days."""
    waited = number(_payload(probe, STATUS), 8, 4)
    expect(waited <= INTERVAL_MS, f"{waited} ms of I/O wait")


@case("status.reserved", Level.CORE, "6.3", "reserved bytes of SYS_STATUS are zero", SESSION)
def status_reserved(probe: Probe) -> None:
    """18 to 20, and the node flags that have no meaning yet."""
    status = _payload(probe, STATUS)
    expect(not any(status[18:21]), f"bytes 18 to 20 are {status[18:21].hex()}")
    expect(not status[17] & 0xFE, f"the node flags are {status[17]:02X}")


def _slots(answer: bytes) -> list[bytes]:
    return [answer[at : at + 8] for at in range(2, 42, 8)]


@case("procs.pids", Level.CORE, "6.4", "PIDs are u32, big-endian, each once", SESSION)
def procs_pids(probe: Probe) -> None:
    """The wrong way round no kernel gives them out."""
    answer = _payload(probe, PROCS)
    pids = [number(slot, 0, 4) for slot in _slots(answer)]
    there = [pid for pid in pids if pid]
    expect(all(pid <= MAX_PID for pid in there), f"PIDs {there}")
    expect(len(set(there)) == len(there), f"a PID stands twice in {there}")
    expect(number(answer, 0, 2) >= len(there), f"{len(there)} of {number(answer, 0, 2)} processes")


@case("procs.slots", Level.CORE, "6.4", "empty slots are all zero, and stand at the end", SESSION)
def procs_slots(probe: Probe) -> None:
    """PID 0 is an empty slot."""
    slots = _slots(_payload(probe, PROCS))
    filled = [any(slot[:4]) for slot in slots]
    expect(filled == sorted(filled, reverse=True), "a slot behind an empty one is filled")
    expect(all(any(slot[:4]) or not any(slot) for slot in slots), "an empty slot has bytes in it")


@case("procs.order", Level.CORE, "6.4", "the most CPU first, u16 x 100, big-endian", SESSION)
def procs_order(probe: Probe) -> None:
    """The wrong way round the order is another."""
    shares = [number(slot, 4, 2) for slot in _slots(_payload(probe, PROCS))]
    expect(shares == sorted(shares, reverse=True), f"the slots have {shares} hundredths of a core")


@case("procs.fields", Level.CORE, "6.4", "memory is 0 to 100 %, flags are known ones", SESSION)
def procs_fields(probe: Probe) -> None:
    """1 zombie, 2 uninterruptible, 4 owned by uid 0."""
    for slot in _slots(_payload(probe, PROCS)):
        expect(slot[6] <= 100, f"PID {number(slot, 0, 4)} has {slot[6]} % of the memory")
        expect(not slot[7] & 0xF8, f"PID {number(slot, 0, 4)} has the flags {slot[7]:02X}")
