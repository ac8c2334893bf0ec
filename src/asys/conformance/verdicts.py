"""What became of a case, and how a case says so."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asys.conformance.case import Case


class Verdict(StrEnum):
    """How a case ended. NOT_RUN is never a pass: what it would have shown is not known."""

    PASSED = "passed"
    FAILED = "failed"
    KNOWN = "known deviation"
    """The node does what section 10 of docs/protocol.md says of deployed nodes."""
    NOT_RUN = "not run"


class Failed(Exception):
    """The node does not do what the specification says; the message says what it does."""


class KnownDeviation(Exception):
    """The node differs as deployed nodes do (docs/protocol.md, section 10)."""


class NotRun(Exception):
    """The case lacks what it needs; the message says what."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A case and its verdict. `detail` says why where it is not PASSED; `seconds` it took."""

    case: Case
    verdict: Verdict
    detail: str = ""
    seconds: float = 0.0
