"""Level 6: a node with a next key (docs/protocol.md, sections 7.20 and 8.4)."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from asys.conformance.case import Level, case
from asys.conformance.expect import expect, refuses, succeeds
from asys.conformance.frames import HELLO, KEY_STATEMENT, frame
from asys.conformance.probe import PART_B, SESSION, Probe, granted
from asys.conformance.verdicts import Failed
from asys.conformance.wire import Session, WireError

NEXT_KEY = granted(KEY_STATEMENT, "KEY_STATEMENT")

_P: Final = 2**255 - 19


def _statement(probe: Probe) -> tuple[Session, bytes]:
    agent = probe.session()
    return agent, succeeds(agent.ask(frame(KEY_STATEMENT)), 136, "KEY_STATEMENT", flags=True)


def _signed(key: bytes, message: bytes, signature: bytes) -> bool:
    u = int.from_bytes(key, "little")
    y = (u - 1) * pow(u + 1, _P - 2, _P) % _P
    try:
        Ed25519PublicKey.from_public_bytes(y.to_bytes(32, "little")).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@case(
    "next-key.statement",
    Level.PART_B,
    "8.4",
    "the key that is shown states the next one, and has signed it",
    SESSION,
    PART_B,
    NEXT_KEY,
)
def statement(probe: Probe) -> None:
    """Another agent is told the same."""
    agent, said = _statement(probe)
    old, new, signature = said[:32], said[32:64], said[72:]
    expect(old == agent.shown[6:], "the key that states is not the one that is shown")
    expect(new != old, "the next key is the old one")
    message = b"asys-key-statement-v1" + said[:72]
    expect(_signed(old, message, signature), "the signature is not that of the key that is shown")


@case("next-key.payload", Level.PART_B, "7.20", "a payload: 6700", SESSION, PART_B, NEXT_KEY)
def payload(probe: Probe) -> None:
    """KEY_STATEMENT takes none."""
    refuses(probe.session(), frame(KEY_STATEMENT, b"\0"), "6700", "KEY_STATEMENT with a payload")


@case(
    "next-key.session",
    Level.PART_B,
    "8.4",
    "message 1 is taken for the next key as well",
    SESSION,
    PART_B,
    NEXT_KEY,
)
def session(probe: Probe) -> None:
    """The node shows the old key, and proves the next one."""
    _, said = _statement(probe)
    try:
        agent = probe.session(node_key=said[32:64])
        succeeds(agent.ask(HELLO), None, "SYS_HELLO")
    except WireError as error:
        raise Failed(f"a handshake for the next key: {error}") from None
    expect(agent.shown[6:] == said[:32], "the node shows another key than the old one")
