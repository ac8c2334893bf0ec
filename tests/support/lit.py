"""What an agent has, as SYS_CAPS tells it and as its answers show it."""

from __future__ import annotations

import tempfile
from collections.abc import Set
from pathlib import Path
from typing import Final

from asys.isa import REGISTRY
from asys.isa.capmap import UNGRANTED
from asys.node.agents.trial import lacks
from asys.node.platform import choose_platform
from support.clock import ManualClock
from support.delegates import codes_of
from support.frames import DENIED, NO_SUCH_INSTRUCTION, NOT_SUPPORTED, OK, frame
from support.raw_agent import RawAgent

REKEY = 0x13
VENDORS = frozenset(range(0xC0, 0x100))

KNOWN: Final = frozenset(one.code for one in REGISTRY if not UNGRANTED >> one.code & 1)
"""Every instruction that a line can grant. CONTINUE follows from others, which nobody here has;
KEY_STATEMENT is there while a node has a next key.
"""

MANAGED: Final = frozenset({0x12, 0x22})
"""Those that need a service manager."""

OF_LINUX: Final = frozenset({0x20, 0x21, 0x40, 0x41, 0x42})
"""Those that the portable platform cannot do."""


def possible_here() -> frozenset[int]:
    """What a node can do here, with the rights of whoever runs the tests, and a service manager."""
    with tempfile.TemporaryDirectory() as state:
        found = lacks(choose_platform(), None, ManualClock(), Path(state))
    return KNOWN - (found.keys() - MANAGED)


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
    No vendor is enabled: what is granted of their codes is denied.
    """
    assert lit(agent) == granted & possible
    for code, answer in answers(agent).items():
        if code in granted & VENDORS:
            assert answer == DENIED, f"{code:02X}"
        elif code not in granted & known:
            assert answer == NO_SUCH_INSTRUCTION, f"{code:02X}"
        elif code not in possible:
            assert answer == NOT_SUPPORTED, f"{code:02X}"
        else:
            assert answer not in (NO_SUCH_INSTRUCTION, NOT_SUPPORTED), f"{code:02X}"
