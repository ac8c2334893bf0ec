"""What cases expect of answers; each raises Failed with what came instead."""

from __future__ import annotations

from asys.conformance.verdicts import Failed
from asys.conformance.wire import Session


def expect(holds: object, otherwise: str) -> None:
    """Failed with `otherwise` unless it holds."""
    if not holds:
        raise Failed(otherwise)


def shown(data: bytes) -> str:
    """Bytes of an answer in a message: a long one is cut."""
    text = data.hex().upper()
    return text if len(text) <= 64 else f"{text[:64]}... ({len(data)} bytes)"


def is_status(answer: bytes, status: str, what: str) -> None:
    """The answer is a status word alone, and this one."""
    expect(answer == bytes.fromhex(status), f"{what} is answered {shown(answer)} and not {status}")


def succeeds(answer: bytes, size: int | None, what: str, *, flags: bool = False) -> bytes:
    """The payload of a success, which has `size` bytes. `flags`: 91xx is success too."""
    fine = answer[-2:] == b"\x90\x00" or (flags and answer[-2:-1] == b"\x91")
    expect(len(answer) >= 2 and fine, f"{what} is answered {shown(answer)} and not with success")
    payload = answer[:-2]
    expect(
        size is None or len(payload) == size,
        f"{what} is answered with {len(answer)} bytes and not {(size or 0) + 2}",
    )
    return payload


def refuses(agent: Session, request: bytes, status: str, what: str) -> None:
    """The request gets this status word, and the session goes on."""
    is_status(agent.ask(request), status, what)
    stays(agent, what)


def ends(agent: Session, request: bytes, status: str, what: str) -> None:
    """The request gets this status word, and then the node closes."""
    is_status(agent.ask(request), status, what)
    expect(agent.ended(), f"the session stays open after {what}")


def stays(agent: Session, what: str) -> None:
    """The session still answers."""
    expect(not agent.ended(), f"the node closes the session after {what}")


def says_nothing(data: bytes, what: str) -> None:
    """The node has sent no byte."""
    expect(not data, f"the node sends {shown(data)} {what}")
