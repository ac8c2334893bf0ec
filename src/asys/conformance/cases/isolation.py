"""Level 6: NET_ISOLATE, its parameters only (docs/protocol.md, section 7.15).

Nothing is ever isolated: all requests name processes that no system has, or are refused before.
"""

from __future__ import annotations

from asys.conformance.case import Level, case
from asys.conformance.expect import refuses
from asys.conformance.frames import NET_ISOLATE, u32
from asys.conformance.probe import PART_B, SESSION, SIGNED, Probe, granted

ALL = (SESSION, PART_B, SIGNED, granted(NET_ISOLATE, "NET_ISOLATE"))
NOBODY = u32(0x7FFFFFFE)


@case("isolate.length", Level.PART_B, "7.15", "other than 4 or 8 bytes: 6700", *ALL)
def length(probe: Probe) -> None:
    """A release has 4."""
    agent = probe.session()
    for size in (0, 3, 5, 7, 9):
        payload = (NOBODY + bytes(5))[:size]
        refuses(agent, agent.signed(NET_ISOLATE, payload), "6700", f"NET_ISOLATE with {size} bytes")
    release = agent.signed(NET_ISOLATE, NOBODY + u32(1), 1)
    refuses(agent, release, "6700", "a release with a TTL")


@case("isolate.pid-zero", Level.PART_B, "7.15", "PID 0: 6A80", *ALL)
def pid_zero(probe: Probe) -> None:
    """For both actions."""
    agent = probe.session()
    for action in (0, 1):
        request = agent.signed(NET_ISOLATE, u32(0), action)
        refuses(agent, request, "6A80", f"NET_ISOLATE of PID 0, P1 = {action:02X}")


@case("isolate.nobody", Level.PART_B, "7.15", "no such process, or not isolated: 6A80", *ALL)
def nobody(probe: Probe) -> None:
    """With and without a TTL and loopback."""
    agent = probe.session()
    for payload, p1, p2 in ((NOBODY, 0, 0), (NOBODY + u32(1), 0, 1), (NOBODY, 1, 0)):
        request = agent.signed(NET_ISOLATE, payload, p1, p2)
        refuses(agent, request, "6A80", f"NET_ISOLATE of nobody, P1 = {p1:02X}")
