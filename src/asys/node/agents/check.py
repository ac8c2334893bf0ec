"""Looks `authorized_agents` over for an admin: what grants nothing, what may grant too much, and
what grants more than it did before an upgrade.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from operator import attrgetter
from typing import Final

from asys.isa import REGISTRY, Risk
from asys.isa.capmap import SETS, bits
from asys.node.agents.book import Agent, last_day, parse_agents, read_words
from asys.node.agents.newly import Growing, growing, said
from asys.node.agents.ran import InstructionSet
from asys.node.agents.scope import UidOf, uid_here

SOON: Final = timedelta(days=14)
"""How long before its end a line is pointed out."""

_DELEGATION: Final = bits([0x60, 0x61, 0x62])
_CODE: Final = re.compile(r"[0-9A-Fa-f]{2}")


class Severity(StrEnum):
    """ERROR: the line grants nothing. WARNING: it holds, and may not do what is meant.

    NEW: it holds, and grants more than with the version that ran before.
    """

    ERROR = "error"
    WARNING = "warning"
    NEW = "new"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be said about a line, with what to do about it."""

    line: int
    severity: Severity
    message: str


def check_agents(
    written: str, now: int, uid_of: UidOf = uid_here, then: InstructionSet | None = None
) -> list[Finding]:
    """All findings about the text of `authorized_agents`, in order of line. `now`: Unix seconds.

    `then` is what ran before; None: nothing is new.
    """
    book = parse_agents(written, uid_of)
    findings = [Finding(number, Severity.ERROR, fault) for number, fault in book.faults]
    lines = written.split("\n")
    labelled: dict[str, int] = {}
    for agent in book.agents.values():
        listed = read_words(lines[agent.line - 1].removesuffix("\r")).options.get("caps", "")
        warnings = [
            *_label(agent, labelled),
            *_unscoped(agent),
            *_anywhere(agent),
            *_unknown(listed),
            *_vendors(agent),
            *_expiry(agent, now),
        ]
        findings += [Finding(agent.line, Severity.WARNING, message) for message in warnings]
    if then is not None:
        findings += [
            Finding(one.agent.line, Severity.NEW, _new(one, labelled, then))
            for one in growing(written, then, now, uid_of)
            if one.instructions
        ]
    return sorted(findings, key=attrgetter("line"))


def _new(one: Growing, labelled: dict[str, int], then: InstructionSet) -> str:
    agent = one.agent
    is_known_by_it = bool(agent.label) and labelled.get(agent.label) == agent.line
    who = agent.label if is_known_by_it else agent.key.hex()
    return (
        f"{said(one.words, one.instructions, then)}; to leave it as it was, and keep it so: "
        f"asyd agents pin {who}"
    )


def _label(agent: Agent, labelled: dict[str, int]) -> Iterator[str]:
    first = labelled.setdefault(agent.label, agent.line) if agent.label else agent.line
    if first != agent.line:
        yield (
            f"the label {agent.label} stands in line {first} already; give each agent a label of "
            "its own, or logs and commands cannot tell them apart"
        )


def _unscoped(agent: Agent) -> Iterator[str]:
    """Instructions that can do harm, to whatever they are pointed at."""
    scopes = {
        "PROC_THROTTLE": (agent.scope.users, "users", "every user's processes"),
        "NET_ISOLATE": (agent.scope.users, "users", "every user's processes"),
        "SVC_RESTART": (agent.scope.services, "services", "every service"),
    }
    for name, (scope, option, reach) in scopes.items():
        instruction = REGISTRY.named(name)
        if (
            instruction is not None
            and instruction.guide.risk in (Risk.MEDIUM, Risk.HIGH)
            and agent.caps >> instruction.code & 1
            and scope is None
        ):
            yield f"{name} is granted for {reach}; say with {option}= which are meant"


def _anywhere(agent: Agent) -> Iterator[str]:
    if agent.sources is not None:
        return
    rights = [
        *(["the right to add or remove agents (60-62)"] if agent.caps & _DELEGATION else []),
        *(["role=admin"] if agent.admin else []),
    ]
    if rights:
        yield (
            f"{' and '.join(rights)} can be used from anywhere; say with from= which addresses "
            "it may come from"
        )


def _unknown(listed: str) -> Iterator[str]:
    """Codes that the list names one by one; sets have codes to spare by design."""
    named = {int(word, 16) for word in listed.split(",") if _CODE.fullmatch(word)}
    unknown = sorted(
        code for code in named if REGISTRY.get(code) is None and not SETS["vendor"] >> code & 1
    )
    if unknown:
        codes = ", ".join(f"{code:02X}" for code in unknown)
        yield (
            f"this version knows no instruction {codes} of caps=; a later one might give it a "
            "meaning that you do not expect: take it out"
        )


def _vendors(agent: Agent) -> Iterator[str]:
    """Codes of vendors need a vendor, and vendors need codes."""
    granted = agent.caps & SETS["vendor"]
    if granted and not agent.scope.vendors:
        yield "codes of C0 to FF are granted, and no vendor: say with vendors= whose they are"
    if agent.scope.vendors and not granted:
        yield "vendors= grants no code by itself: add vendor to caps=, or some of C0 to FF"


def _expiry(agent: Agent, now: int) -> Iterator[str]:
    if not agent.expires:
        return
    day = last_day(agent.expires)
    if now >= agent.expires:
        yield f"expired with {day} and grants nothing; remove the line, or give it a later expires="
    elif agent.expires - now <= SOON.total_seconds():
        yield f"expires with {day}; give it a later expires= if the agent is to stay"
