"""Which processes are meant: each with its node, and how it was found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from asys.errors import ArgumentError

if TYPE_CHECKING:
    from asys.fleet.rows import Row
    from asys.isa import Process, Processes


@dataclass(frozen=True, slots=True)
class Target:
    """One process of one node.

    `process` is how the node showed it; None where somebody named the PID. `shown_in` numbers the
    connection in which that was: a node knows what it has shown in a session, and refuses a PID
    that has another process since. So a target of an earlier connection is not acted upon.
    """

    node: str
    pid: int
    process: Process | None = field(default=None, compare=False)
    shown_in: int = field(default=0, repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.pid}@{self.node}"


Where: TypeAlias = "Callable[[str, Process], bool]"
"""Whether a process is meant, by the name of its node and how that shows it."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What a predicate has found, and which nodes could not be asked. Nothing has been touched."""

    found: tuple[Target, ...]
    failed: tuple[Row[Processes], ...]

    def __iter__(self) -> Iterator[Target]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def __str__(self) -> str:
        return ", ".join(map(str, self.found)) or "nothing"


def checked(targets: Iterable[Target | tuple[str, int]]) -> tuple[Target, ...]:
    """Targets as such. ArgumentError when one is none, or is named twice."""
    found: dict[Target, None] = {}
    for one in targets:
        target = one if isinstance(one, Target) else Target(*one)
        if target in found:
            raise ArgumentError(f"{target} is named twice")
        found[target] = None
    return tuple(found)
