"""Status words: what a node says about a request (docs/protocol.md, section 5)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple


class SW(IntEnum):
    """The two bytes that end every response, as a big-endian u16."""

    SUCCESS = 0x9000
    BLOCKED = 0x6400
    WRONG_LENGTH = 0x6700
    DENIED = 0x6982
    ALREADY_RECEIVED = 0x6985
    INVALID_PAYLOAD = 0x6A80
    NO_SUCH_INSTRUCTION = 0x6A81
    NOT_SUPPORTED = 0x6D00
    CLASS_NOT_SUPPORTED = 0x6E00
    NODE_ERROR = 0x6F00
    NODE_OUT_OF_MEMORY = 0x6F01
    NODE_IO_ERROR = 0x6F02
    NODE_NO_SPACE = 0x6F03
    NODE_TIMED_OUT = 0x6F04
    NODE_BUSY = 0x6F05
    NODE_UNKNOWN_ERROR = 0x6FFF

    @property
    def wire(self) -> bytes:
        """The status word as its two bytes."""
        return self.to_bytes(2, "big")

    def __str__(self) -> str:
        return f"{self.value:04X}"


class Meaning(NamedTuple):
    """What a status word says, and what the agent should do next."""

    meaning: str
    advice: str


MEANINGS: Final[dict[int, Meaning]] = {
    SW.SUCCESS: Meaning("success", "use the payload"),
    SW.BLOCKED: Meaning("blocked for now", "back off exponentially, then retry"),
    SW.WRONG_LENGTH: Meaning("wrong length or malformed frame", "do not send it again as it is"),
    SW.DENIED: Meaning(
        "denied: the identity is fine, this target or security level is not",
        "stop and log a security event",
    ),
    SW.ALREADY_RECEIVED: Meaning(
        "this Seq was received before",
        "look for the outcome of the first delivery; this is neither success nor failure",
    ),
    SW.INVALID_PAYLOAD: Meaning(
        "the parameters are invalid or name nothing that exists",
        "stop retrying with these parameters",
    ),
    SW.NO_SUCH_INSTRUCTION: Meaning(
        "the instruction does not exist for this agent",
        "refresh the capability map and stop",
    ),
    SW.NOT_SUPPORTED: Meaning("granted, but this platform cannot do it", "fall back"),
    SW.CLASS_NOT_SUPPORTED: Meaning(
        "protocol version or class not supported", "retry with a lower version"
    ),
    SW.NODE_ERROR: Meaning("node error", "trip a circuit breaker and alert"),
    SW.NODE_OUT_OF_MEMORY: Meaning("node error: out of memory", "trip a circuit breaker and alert"),
    SW.NODE_IO_ERROR: Meaning("node error: input/output", "trip a circuit breaker and alert"),
    SW.NODE_NO_SPACE: Meaning(
        "node error: no space left on device", "trip a circuit breaker and alert"
    ),
    SW.NODE_TIMED_OUT: Meaning("node error: timed out", "trip a circuit breaker and alert"),
    SW.NODE_BUSY: Meaning("node error: resource busy", "trip a circuit breaker and alert"),
    SW.NODE_UNKNOWN_ERROR: Meaning("node error: unknown", "trip a circuit breaker and alert"),
}
"""Meaning and advice for each status word of this version."""


def explain(sw: int) -> Meaning:
    """Meaning of any status word, also of one that this version does not know.

    An unknown 6Fxx is a node error, an unknown 91xx a success with node flags; the rest is unknown.
    """
    known = MEANINGS.get(sw)
    if known is not None:
        return known
    if sw >> 8 == 0x6F:
        return Meaning(
            "node error of a kind unknown to this version", "trip a circuit breaker and alert"
        )
    if sw >> 8 == 0x91:
        return Meaning("success, and the node has more to tell", "use the payload")
    return Meaning("status word unknown to this version", "treat it as a failure and report it")
