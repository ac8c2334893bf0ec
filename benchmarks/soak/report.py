"""What a soak has shown, on paper and as JSON, and which promises it has broken."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.soak.memory import Growth
from benchmarks.soak.plan import Plan


@dataclass(frozen=True, slots=True)
class Used:
    """CPU time of both sides, in seconds; and the time, by a clock."""

    at: float
    node: float
    client: float

    @classmethod
    def of(cls, node: float, client: float) -> Used:
        """As of now."""
        return cls(time.monotonic(), node, client)

    def since(self, before: Used) -> Used:
        """What has come to it since then; `at` is how long that took."""
        return Used(self.at - before.at, self.node - before.node, self.client - before.client)


@dataclass(frozen=True, slots=True)
class Report:
    """`counts` is the ledger of the load when all was over."""

    plan: Plan
    counts: dict[str, Any]
    there: int
    """Sessions at the end of the run, before they left; those that were being replaced not."""

    opening: float
    """Seconds that it took until all sessions were open."""

    each_kb: float
    """PSS of asyd that each session has added, in KB."""

    growth: dict[str, Growth]
    used: Used
    files_left: int

    @property
    def broken(self) -> list[str]:
        """Promises that do not hold, in words."""
        return list(self._broken())

    def _broken(self) -> Iterator[str]:
        counts = self.counts
        for name, what in (
            ("lost", "requests were never answered"),
            ("wrong", "requests got what was no answer to them"),
            ("unasked", "answers came to nothing"),
            ("cut", "sessions were ended by the node"),
            ("refused", "sessions were not taken in"),
        ):
            if counts[name]:
                yield f"{counts[name]} {what}"
        fates = sum(counts[name] for name in ("answered", "abandoned", "lost", "wrong"))
        if fates != counts["asked"]:
            yield f"{counts['asked']} requests, of {fates} of which it is known what became"
        if counts["complaints"]:
            yield "; ".join(counts["complaints"])
        for who, growth in self.growth.items():
            if growth.found:
                yield f"{who} kept memory: {growth}"
        if self.files_left > 0:
            yield f"{self.files_left} descriptors were left open"

    def lines(self) -> list[str]:
        """For people."""
        counts, used, seconds = self.counts, self.used, self.used.at
        went = ", ".join(f"{count} {way}" for way, count in sorted(counts["ways"].items()))
        times = ", ".join(f"{name} {ms:g}" for name, ms in counts["ms"].items())
        found = {
            "sessions": f"{self.there} at the end, {counts['sessions']} all together",
            "opened": f"in {self.opening:.1f} s, {self.each_kb:.1f} KB of asyd's memory each",
            "requests": f"{counts['asked']:,} asked, {counts['answered']:,} answered, "
            f"{counts['abandoned']:,} abandoned by the load, {counts['lost']} lost, "
            f"{counts['wrong']} wrong, {counts['unasked']} unasked",
            "polls": f"{counts['polls']:,}, {counts['polls'] / seconds:,.0f}/s; "
            f"{counts['late']:,} left out, as an answer or the load was late",
            "ms to answer": times,
            "went": went,
            "slow starts": f"{counts['slow_starts']} connections ended before their handshake",
            "CPU": f"asyd {100 * used.node / seconds:.0f} %, "
            f"load {100 * used.client / seconds:.0f} % of one, over {seconds:.0f} s",
            **{f"memory of {who}": str(growth) for who, growth in self.growth.items()},
            "descriptors": f"{self.files_left} more than before, when all had gone",
        }
        return [f"{name:<22} {text}" for name, text in found.items()]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "broken": self.broken}
