"""What is remembered of a node for the view: vitals over time, processes, what was done."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from asys.client.exchange import Exchange
from asys.isa import Process, ProcessFlags, Status, UntrustedText

KEPT: Final = 120
"""Readings of the vitals that are kept; a wide terminal shows as many."""

DEEDS: Final = 100
"""Actions that are kept."""


class Held(StrEnum):
    """Whether a process was suspended from here, as far as it is known."""

    NO = ""
    YES = "suspended"
    PERHAPS = "suspended?"
    """It was asked for, and whether it was done is not known."""


@dataclass(frozen=True, slots=True)
class Row:
    """One process. `name` is None where it is not known; nobody vouches for it."""

    pid: int
    cpu_percent: float
    memory_percent: int
    flags: ProcessFlags
    name: UntrustedText | None = None
    state: str = ""
    """A letter such as S or T, as last looked up; empty where it is not known."""
    held: Held = Held.NO

    @classmethod
    def of(cls, one: Process, looked: Looked | None, held: Held) -> Row:
        """From SYS_PROCS, and what PROC_TREE said of it."""
        name, state = (looked.name, looked.state) if looked is not None else (None, "")
        return cls(one.pid, one.cpu_percent, one.memory_percent, one.flags, name, state, held)

    @property
    def called(self) -> str:
        """Its name for a terminal."""
        return self.name.shown if self.name else "(name not known)"


@dataclass(frozen=True, slots=True)
class Looked:
    """What PROC_TREE said of one process; `name` None: it was not granted for this one."""

    name: UntrustedText | None
    state: str = ""


@dataclass(frozen=True, slots=True)
class Deed:
    """One action: when (Unix time, ns), whose, what, and how it went. Text for a terminal."""

    time_ns: int
    agent: str
    what: str
    outcome: str
    good: bool


@dataclass(frozen=True, slots=True)
class Counted:
    """Equal exchanges of this agent: how many, and what the last one took."""

    instruction: str
    sw: int
    times: int
    round_trip_ns: int


class Vitals:
    """The last KEPT readings of SYS_STATUS; None stands for one that is missing."""

    def __init__(self) -> None:
        self.readings: deque[Status | None] = deque(maxlen=KEPT)

    @property
    def last(self) -> Status | None:
        """The newest reading; None where that one is missing."""
        return self.readings[-1] if self.readings else None

    def add(self, status: Status | None) -> None:
        """Takes the newest reading in."""
        self.readings.append(status)


class Exchanges:
    """This agent's own requests, equal ones counted."""

    def __init__(self) -> None:
        self._counted: dict[tuple[str, int], Counted] = {}

    def add(self, exchange: Exchange) -> None:
        """Counts one."""
        key = (exchange.instruction, exchange.sw)
        before = self._counted.get(key)
        times = 1 if before is None else before.times + 1
        self._counted[key] = Counted(*key, times, exchange.round_trip_ns)

    def __iter__(self) -> Iterator[Counted]:
        """In the order in which they first came."""
        return iter(tuple(self._counted.values()))
