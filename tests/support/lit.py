"""What an agent has, as SYS_CAPS tells it and as its answers show it."""

from __future__ import annotations

from collections.abc import Set

from support.delegates import codes_of
from support.frames import NO_SUCH_INSTRUCTION, NOT_SUPPORTED, OK, frame
from support.raw_agent import RawAgent

REKEY = 0x13


def lit(agent: RawAgent) -> set[int]:
    """The codes on all four pages of SYS_CAPS."""
    found = b""
    for number in range(4):
        answer = agent.ask(frame(0x00, p1=number))
        assert (len(answer), answer[-2:], answer[33] & 3) == (36, OK, number)
        found += answer[:8]
    return codes_of(found)


def answers(agent: RawAgent) -> dict[int, bytes]:
    """Status words of all 256 codes, each asked for plainly and without a payload."""
    found = {}
    for code in range(256):
        found[code] = agent.ask(frame(code))[-2:]
        if code == REKEY and found[code] == OK:
            agent.link.rekey()
    return found


def told_truly(agent: RawAgent, granted: Set[int], possible: Set[int], known: Set[int]) -> None:
    """SYS_CAPS, and every answer, are what an agent with this map gets on this node.

    `known` are the instructions that the node's version has, `possible` those that it can do now.
    """
    assert lit(agent) == granted & possible
    for code, answer in answers(agent).items():
        if code not in granted & known:
            assert answer == NO_SUCH_INSTRUCTION, f"{code:02X}"
        elif code not in possible:
            assert answer == NOT_SUPPORTED, f"{code:02X}"
        else:
            assert answer not in (NO_SUCH_INSTRUCTION, NOT_SUPPORTED), f"{code:02X}"
