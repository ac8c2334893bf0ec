"""Levels 1 and 2: when a node closes by itself (docs/protocol.md, section 1.6)."""

from __future__ import annotations

import time

from asys.conformance.case import Level, case
from asys.conformance.expect import expect, says_nothing, succeeds
from asys.conformance.frames import HELLO
from asys.conformance.handshake import MAGIC
from asys.conformance.probe import SESSION, SLOW, Probe
from asys.conformance.verdicts import Failed
from asys.conformance.wire import Silent, Wire

EARLY = 0.1
"""Seconds; two clocks do not run alike."""


def _closes(probe: Probe, wire: Wire, since: float, deadline: float) -> None:
    """The node closes `deadline` seconds after `since`, not before, and without a byte."""
    try:
        said = wire.rest(deadline + probe.timing.slack - (time.monotonic() - since))
    except Silent:
        late = f"{probe.timing.slack:g} s after its {deadline:g} s are over"
        raise Failed(f"the connection is still open {late}") from None
    took = time.monotonic() - since
    says_nothing(said, "when a deadline has passed")
    expect(took >= deadline - EARLY, f"the node closes after {took:.1f} s of {deadline:g} s")


@case("link.magic-deadline", Level.LINK, "1.6", "no magic within 1 s: close")
def magic_deadline(probe: Probe) -> None:
    """Half a magic is none."""
    since = time.monotonic()
    wire = probe.dial()
    wire.send(MAGIC[:3])
    _closes(probe, wire, since, probe.timing.magic)


@case("link.handshake-deadline", Level.LINK, "1.6", "no message 1 within 5 s: close")
def handshake_deadline(probe: Probe) -> None:
    """Counted from accept, not from the magic."""
    since = time.monotonic()
    wire, _ = probe.greeted()
    _closes(probe, wire, since, probe.timing.handshake)


@case("frame.deadline", Level.FRAMES, "1.6", "half a frame for 10 s: close", SESSION, SLOW)
def frame_deadline(probe: Probe) -> None:
    """Counted from its first byte."""
    agent = probe.session()
    succeeds(agent.ask(HELLO), None, "SYS_HELLO")
    since = time.monotonic()
    agent.say(HELLO[:3])
    _closes(probe, agent, since, probe.timing.frame)


@case("frame.idle-deadline", Level.FRAMES, "1.6", "no frame for 60 s: close", SESSION, SLOW)
def idle_deadline(probe: Probe) -> None:
    """Counted from the last one."""
    agent = probe.session()
    since = time.monotonic()
    succeeds(agent.ask(HELLO), None, "SYS_HELLO")
    _closes(probe, agent, since, probe.timing.idle)
