"""Level 6: fragments, and TASK_CANCEL (docs/protocol.md, sections 2.5, 7.13 and 7.14).

No chain is ever finished, so nothing is carried out.
"""

from __future__ import annotations

from asys.conformance.case import Level, case
from asys.conformance.expect import expect, is_status, refuses, succeeds
from asys.conformance.frames import (
    CLA_MORE,
    CLA_SIGNED,
    CONTINUE,
    SVC_RESTART,
    SYS_HELLO,
    TASK_CANCEL,
    frame,
    u32,
)
from asys.conformance.probe import (
    CHAINABLE,
    PART_B,
    SEALED,
    SERVICE,
    SESSION,
    SIGNED,
    Chainable,
    Probe,
    granted,
)
from asys.conformance.wire import Session

CANCEL = granted(TASK_CANCEL, "TASK_CANCEL")
CARRIER = granted(CONTINUE, "CONTINUE")
SIGNED_MORE = CLA_SIGNED | CLA_MORE


@case(
    "chain.not-chainable",
    Level.PART_B,
    "2.5",
    "M = 1 where it is not for: 6700, stays open",
    SESSION,
    PART_B,
    SIGNED,
)
def not_chainable(probe: Probe) -> None:
    """Deployed nodes take a fragment for the whole."""
    agent = probe.session()
    refuses(agent, frame(SYS_HELLO, cla=CLA_MORE), "6700", "SYS_HELLO with M = 1")
    signed = agent.signed(SYS_HELLO, cla=SIGNED_MORE)
    refuses(agent, signed, "6700", "SYS_HELLO with M = 1, signed")


@case(
    "chain.unknown",
    Level.PART_B,
    "7.14",
    "CONTINUE of an unknown handle: 6A80",
    SESSION,
    PART_B,
    CARRIER,
)
def chain_unknown(probe: Probe) -> None:
    """Shorter than a handle: 6700."""
    agent = probe.session()
    handle = probe.random.randbytes(4)
    refuses(agent, frame(CONTINUE, handle + b"x"), "6A80", "CONTINUE of an unknown handle")
    refuses(agent, frame(CONTINUE, handle[:3]), "6700", "CONTINUE with 3 bytes")


def _begun(probe: Probe, agent: Session) -> bytes:
    """The handle of a chain."""
    one = probe.target.chainable or Chainable(0, 0)
    first = agent.signed(one.code, u32(one.vendor_id) + b"begin", cla=SIGNED_MORE)
    return succeeds(agent.ask(first), 4, "a first fragment", flags=True)


def _next(agent: Session, handle: bytes) -> bytes:
    return agent.ask(agent.signed(CONTINUE, handle + b"more", cla=SIGNED_MORE))


@case(
    "chain.grows",
    Level.PART_B,
    "7.14",
    "a first fragment gets a handle, the next ones success",
    SESSION,
    PART_B,
    SIGNED,
    CHAINABLE,
    CARRIER,
)
def chain_grows(probe: Probe) -> None:
    """It is left unfinished."""
    agent = probe.session()
    handle = _begun(probe, agent)
    expect(any(handle[:2]) and any(handle[2:]), f"the handle is {handle.hex()}")
    for _ in range(2):
        succeeds(_next(agent, handle), 0, "a further fragment", flags=True)


@case(
    "chain.one-sec",
    Level.PART_B,
    "7.14",
    "another Sec than the first: 6982, the chain ends",
    SESSION,
    PART_B,
    SEALED,
    CHAINABLE,
    CARRIER,
)
def chain_one_sec(probe: Probe) -> None:
    """What comes behind it is answered 6A80."""
    agent = probe.session()
    handle = _begun(probe, agent)
    sealed = agent.sealed(CONTINUE, handle + b"more", cla=0x08 | CLA_MORE)
    is_status(agent.ask(sealed), "6982", "an Enc+Sign fragment of a signed chain")
    is_status(_next(agent, handle), "6A80", "a fragment of a chain that has ended")


@case(
    "chain.own-session",
    Level.PART_B,
    "7.14",
    "another session's handle: 6A80",
    SESSION,
    PART_B,
    SIGNED,
    CHAINABLE,
    CARRIER,
)
def chain_own_session(probe: Probe) -> None:
    """And the chain goes on where it began."""
    agent, other = probe.session(), probe.session()
    handle = _begun(probe, agent)
    is_status(_next(other, handle), "6A80", "a fragment in another session")
    succeeds(_next(agent, handle), 0, "a fragment in its own session", flags=True)


@case(
    "chain.one-each",
    Level.PART_B,
    "7.14",
    "a new chain ends the one before it",
    SESSION,
    PART_B,
    SIGNED,
    CHAINABLE,
    CARRIER,
)
def chain_one_each(probe: Probe) -> None:
    """One chain a session."""
    agent = probe.session()
    first, second = _begun(probe, agent), _begun(probe, agent)
    is_status(_next(agent, first), "6A80", "a fragment of the chain before")
    succeeds(_next(agent, second), 0, "a fragment of the new chain", flags=True)


@case(
    "cancel.unknown",
    Level.PART_B,
    "7.13",
    "TASK_CANCEL of an unknown handle: FF",
    SESSION,
    PART_B,
    CANCEL,
)
def cancel_unknown(probe: Probe) -> None:
    """With success."""
    answer = probe.session().ask(frame(TASK_CANCEL, probe.random.randbytes(4)))
    status = succeeds(answer, 1, "TASK_CANCEL of an unknown handle", flags=True)
    expect(status == b"\xff", f"its status is {status.hex()}")


@case("cancel.length", Level.PART_B, "7.13", "other than 4 bytes: 6700", SESSION, PART_B, CANCEL)
def cancel_length(probe: Probe) -> None:
    """Also more: TASK_QUERY alone ignores them."""
    agent = probe.session()
    for size in (3, 5):
        refuses(agent, frame(TASK_CANCEL, bytes(size)), "6700", f"TASK_CANCEL with {size} bytes")


@case(
    "cancel.own-session",
    Level.PART_B,
    "7.13",
    "another session's task: FF, and it goes on",
    SESSION,
    PART_B,
    SIGNED,
    CANCEL,
    granted(SVC_RESTART, "SVC_RESTART"),
    SERVICE,
)
def cancel_own_session(probe: Probe) -> None:
    """Whoever learns a handle can do nothing with it."""
    agent, other = probe.session(), probe.session()
    request = agent.signed(SVC_RESTART, probe.spared_service())
    handle = succeeds(agent.ask(request), 4, "SVC_RESTART")
    answer = other.ask(frame(TASK_CANCEL, handle))
    status = succeeds(answer, 1, "TASK_CANCEL in another session", flags=True)
    expect(status == b"\xff", f"another session hears {status.hex()}")
