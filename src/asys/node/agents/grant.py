"""What one agent holds on this node, compiled for its sessions (docs/protocol.md, section 8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from asys.node.refusal import Refused
from asys.protocol.status import SW

if TYPE_CHECKING:
    from asys.node.agents.directory import Holding
    from asys.node.agents.rates import Bucket
    from asys.node.agents.scope import Scope
    from asys.node.dispatch import Entry, Reading
    from asys.node.platform.base import MachineFacts
    from asys.node.vendor.pool import Pool


def _nothing() -> None:
    """Nothing is on record."""


class Charge:
    """One use of an instruction: its rate is looked at in its place; at the end, when every check
    has passed, it is put on record and the rate is taken from.
    """

    __slots__ = ("_code", "_grant", "_intend", "_now")

    def __init__(self, grant: Grant, code: int, now: float, intend: Callable[[], None]) -> None:
        self._grant = grant
        self._code = code
        self._now = now
        self._intend = intend

    def check(self) -> None:
        """As Grant.check_rate."""
        self._grant.check_rate(self._code, self._now)

    def take(self) -> None:
        """As Grant.take_rate. Refused where there is no room for the record."""
        self._intend()
        self._grant.take_rate(self._code, self._now)


@dataclass(slots=True)
class Grant:
    """An agent with its table of 256 entries.

    `lit` is the map that SYS_CAPS shows: granted, and possible on this node. `rates` has a bucket
    for each instruction that has a rate; the whole subtree of a root line shares them. The replies
    to SYS_CAPS, one a page, are kept with the facts that they were made from.
    """

    holding: Holding
    table: list[Entry]
    lit: int
    scope: Scope
    rates: Mapping[int, Bucket]
    ends_ns: int = 0
    """Unix time in ns at which it ends; 0: never."""

    readings: tuple[Reading | None, ...] = field(default=(None,) * 256, repr=False)
    """By code, what a bare request for it comes to where nothing is left to check."""

    vendors: Mapping[int, Pool] = field(default_factory=dict)
    """The vendors whose instructions it may use, by id."""

    caps_replies: list[bytes] = field(default_factory=list, repr=False)
    caps_facts: MachineFacts | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """What logs call the agent."""
        return self.holding.name

    def ended(self, time_ns: int) -> bool:
        """Whether its time is over by a clock that shows so much."""
        return 0 < self.ends_ns <= time_ns

    def check_rate(self, code: int, now: float) -> None:
        """Refused when the instruction has a rate and its bucket is empty; takes nothing."""
        if self.rates and (bucket := self.rates.get(code)) and not bucket.ready(now):
            raise Refused(SW.BLOCKED, "over its rate")

    def charge(self, code: int, now: float, intend: Callable[[], None] = _nothing) -> Charge:
        """The rate of an instruction, for whoever checks and takes at two places.

        `intend` puts it on record.
        """
        return Charge(self, code, now, intend)

    def take_rate(self, code: int, now: float) -> None:
        """Takes one from the bucket, when every other check has passed."""
        if self.rates and (bucket := self.rates.get(code)):
            bucket.take(now)
