"""A case: one thing that a node must do, and how it is seen from outside.

    @case("frame.version-bits", Level.FRAMES, "2.4", "another version in CLA: 6E00, close", SESSION)
    def version_bits(probe: Probe) -> None:
        agent = probe.session()
        refuses(agent, bytes.fromhex("200100000000"), "6E00")

The function returns when all is well, and raises Failed, KnownDeviation or NotRun otherwise. What
goes wrong on the wire (no answer, an end too early) is a failure without its help.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from asys.conformance.probe import Probe

Run: TypeAlias = "Callable[[Probe], None]"

_ID: Final = re.compile(r"[a-z]+(-[a-z]+)*\.[a-z0-9]+(-[a-z0-9]+)*")
_SECTION: Final = re.compile(r"\d+(\.\d+)?")


class Level(IntEnum):
    """What a case belongs to. Levels build on each other."""

    LINK = 1
    FRAMES = 2
    CORE = 3
    SECURITY = 4
    STANDARD = 5
    PART_B = 6

    @property
    def title(self) -> str:
        """The level in words."""
        return _TITLES[self]


_TITLES: Final = {
    Level.LINK: "link: magic, handshake, records, deadlines",
    Level.FRAMES: "frames and status words",
    Level.CORE: "Core ISA",
    Level.SECURITY: "signed instructions, existence before permission",
    Level.STANDARD: "Standard ISA as deployed",
    Level.PART_B: "part B: what SYS_CAPS page 1 announces",
}


@dataclass(frozen=True, slots=True)
class Need:
    """Something that a case cannot do without. `lacks` says what is missing, or ''."""

    title: str
    lacks: Callable[[Probe], str]


@dataclass(frozen=True, slots=True)
class Case:
    """One case. `section` is that of docs/protocol.md; `needs` in the order in which they count."""

    id: str
    level: Level
    section: str
    title: str
    needs: tuple[Need, ...]
    run: Run

    @property
    def needed(self) -> str:
        """What it needs, in words."""
        return ", ".join(need.title for need in self.needs)


_CASES: Final[dict[str, Case]] = {}


def case(id: str, level: Level, section: str, title: str, *needs: Need) -> Callable[[Run], Run]:
    """Makes a function a case. ValueError: the id or the section is none, or the id is taken."""

    def take(run: Run) -> Run:
        if id in _CASES or not _ID.fullmatch(id) or not _SECTION.fullmatch(section):
            raise ValueError(f"{id!r} in section {section!r} is no case, or there is one already")
        _CASES[id] = Case(id, level, section, title, needs, run)
        return run

    return take


def all_cases() -> tuple[Case, ...]:
    """Every case, by level, and within one in the order in which they are written down."""
    from asys.conformance import cases  # which fills the table

    cases.load()
    return tuple(sorted(_CASES.values(), key=lambda one: one.level))
