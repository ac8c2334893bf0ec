"""How often an agent may use an instruction: `rate=` (docs/protocol.md, section 8).

What is over the rate is answered with 6400.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from asys.isa import REGISTRY, SYS_CAPS
from asys.node.agents.words import BadOption, cut, elements

MAX_COUNT: Final = 1_000_000
"""Uses per second, minute or hour that can be written."""

_UNITS: Final = {"s": 1, "m": 60, "h": 3600}
_LETTERS: Final = {seconds: letter for letter, seconds in _UNITS.items()}
_RATE: Final = re.compile(r"([^:/]+):([1-9][0-9]{0,6})/([smh])")
_CODE: Final = re.compile(r"[0-9A-Fa-f]{2}")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `count` uses of the instruction at once, and `count` more in every `seconds`.

    `seconds` are those of a second, a minute or an hour. ValueError for another number.
    """

    code: int
    count: int
    seconds: int

    def __post_init__(self) -> None:
        if self.seconds not in _LETTERS or not 1 <= self.count <= MAX_COUNT:
            raise ValueError(f"{self.count} uses in {self.seconds} seconds is no rate")

    def __str__(self) -> str:
        """As it is written in the file: SVC_RESTART:3/h."""
        instruction = REGISTRY.get(self.code)
        name = instruction.name if instruction else f"{self.code:02X}"
        return f"{name}:{self.count}/{_LETTERS[self.seconds]}"


class Bucket:
    """The token bucket of a limit. It starts full, and never holds more than the limit's count.

    `now` are seconds of a monotonic clock. All it keeps is when it is full again, in nanoseconds
    times the count: whole numbers, as a float's drift would give tokens away. A clock that goes
    back gives nothing, and takes nothing.
    """

    __slots__ = ("_count", "_full_at", "_now", "_slack", "_token")

    def __init__(self, limit: RateLimit) -> None:
        # Each nanosecond brings `count` parts of a token; a token has as many as its limit has ns.
        self._count = limit.count
        self._token = limit.seconds * 1_000_000_000
        self._slack = (limit.count - 1) * self._token
        self._full_at = self._now = 0

    def ready(self, now: float) -> bool:
        """Whether there is a token to take."""
        return self._full_at - self._at(now) <= self._slack

    def use(self, now: float) -> bool:
        """Takes a token if there is one, and says whether there was."""
        at = self._at(now)
        full_at = self._full_at
        if full_at - at > self._slack:
            return False
        self._full_at = (full_at if full_at > at else at) + self._token
        return True

    def take(self, now: float) -> None:
        """Takes a token. ValueError when there is none: ask `ready` before."""
        if not self.use(now):
            raise ValueError("a token is taken from an empty bucket")

    def _at(self, now: float) -> int:
        at = int(now * 1e9) * self._count
        if at > self._now:
            self._now = at
        return self._now


def parse_rates(written: str) -> tuple[RateLimit, ...]:
    """A comma list of NAME:N/s, NAME:N/m or NAME:N/h, an instruction at most once. BadOption."""
    limits: dict[int, RateLimit] = {}
    for word in elements(written):
        limit = _parse_rate(word)
        if limit.code in limits:
            raise BadOption(f"{cut(word)} is the second rate of one instruction; leave one")
        limits[limit.code] = limit
    return tuple(limits.values())


def _parse_rate(word: str) -> RateLimit:
    found = _RATE.fullmatch(word)
    if not found or int(found[2]) > MAX_COUNT:
        raise BadOption(
            f"{cut(word)} is no rate: write NAME:N/s, NAME:N/m or NAME:N/h, such as "
            f"SVC_RESTART:3/h, with N from 1 to {MAX_COUNT}"
        )
    name = found[1]
    # Upper case of some letters beyond ASCII is an ASCII letter.
    instruction = REGISTRY.named(name) if name.isascii() else None
    if instruction is None and not _CODE.fullmatch(name):
        known = ", ".join(one.name for one in REGISTRY)
        raise BadOption(f"{cut(name)} is no instruction or hex code; there are {known}")
    code = instruction.code if instruction else int(name, 16)
    if code == SYS_CAPS.code:
        # An agent takes 6400 in the place of its first answer, SYS_CAPS, for "too many sessions".
        raise BadOption("SYS_CAPS can have no rate: agents use it to open their sessions")
    return RateLimit(code, int(found[2]), _UNITS[found[3]])
