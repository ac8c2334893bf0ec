"""What a run has found out of each peer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.peers.jobs import Job
from benchmarks.peers.registry import Entry
from benchmarks.stats import Ratio


@dataclass(frozen=True, slots=True)
class JobResult:
    """Of one job, for each time that it is done. CPU is None where it cannot be counted."""

    asks: int
    """How many of them were timed."""

    p50_ms: float
    p95_ms: float
    ratio: Ratio
    """Of the medians of each round, to those of the reference."""

    to_node: float
    """Bytes in TCP streams."""

    from_node: float
    tokens: float
    paced_node_ms: float | None
    """CPU of the node, asked once a second."""

    node_ms: float | None
    """CPU of the node, asked without a pause."""

    client_ms: float | None


@dataclass(slots=True)
class PeerResult:
    """Of one peer. Where `missing` says what to install, or what went wrong, there is no more."""

    entry: Entry
    missing: str = ""
    broken: bool = False
    """It is installed, and did not work."""

    first_ms: float = 0.0
    """From nothing to the first answer: connecting, proving who one is, asking for the vitals."""

    first_to_node: int = 0
    first_from_node: int = 0
    jobs: dict[Job, JobResult] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        """Whether there are figures."""
        return not self.missing

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        head = {"name": self.entry.name, "label": self.entry.label, "how": self.entry.how}
        if self.missing:
            return {**head, "missing": self.missing, "broken": self.broken}
        return {
            **head,
            "first": {
                "ms": self.first_ms,
                "to_node": self.first_to_node,
                "from_node": self.first_from_node,
            },
            "jobs": {str(job): asdict(result) for job, result in self.jobs.items()},
        }
