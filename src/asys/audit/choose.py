"""Which of the actions somebody wants to see: by agent, instruction, status and time."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from asys.audit.reading import Action, State
from asys.isa import REGISTRY

_AGO: Final = re.compile(r"(\d{1,9})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_CODE: Final = re.compile(r"(0x)?[0-9A-Fa-f]{1,2}")
_SW: Final = re.compile(r"[0-9A-F]{1,4}X{0,3}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

STATUSES: Final[dict[str, Callable[[Action], bool]]] = {
    "ok": lambda action: action.succeeded,
    "failed": lambda action: action.state is not State.UNFINISHED and not action.succeeded,
    "queued": lambda action: action.state is State.QUEUED,
    "unfinished": lambda action: action.state is State.UNFINISHED,
}
"""Words for a status; beside them there are status words, such as 6982 or 6Fxx."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What is wanted; None, or an empty text, for no wish.

    `agent` is a label, a key or the start of one's hash in hex; `since` and `until` are Unix time
    in ns, `until` not included.
    """

    agent: str = ""
    ins: int | None = None
    status: str = ""
    since_ns: int | None = None
    until_ns: int | None = None

    def takes(self, action: Action) -> bool:
        """Whether an action is wanted."""
        return (
            self.in_time(action.time_ns)
            and (self.ins is None or action.ins == self.ins)
            and (not self.agent or self._is_by(action))
            and (not self.status or self._has_status(action))
        )

    def in_time(self, time_ns: int) -> bool:
        """Whether a moment is in the wanted time."""
        return (self.since_ns is None or time_ns >= self.since_ns) and (
            self.until_ns is None or time_ns < self.until_ns
        )

    @property
    def only_time(self) -> bool:
        """Whether nothing but the time was chosen."""
        return not self.agent and self.ins is None and not self.status

    def _is_by(self, action: Action) -> bool:
        who = action.who
        if who is not None and self.agent in (who.label, who.key.hex()):
            return True
        return self.agent.lower() == action.key_hash.hex()

    def _has_status(self, action: Action) -> bool:
        known = STATUSES.get(self.status)
        if known is not None:
            return known(action)
        if action.sw is None:
            return False
        written = f"{action.sw:04X}"
        return all(want in ("X", is_) for want, is_ in zip(self.status, written, strict=True))


def parse_instruction(text: str) -> int:
    """The code of an instruction, by name or in hex. ValueError."""
    known = REGISTRY.named(text) if text.isascii() else None
    if known is not None:
        return known.code
    if _CODE.fullmatch(text):
        return int(text, 16)
    raise ValueError(f"{text!r} is neither an instruction's name nor its code in hex")


def parse_status(text: str) -> str:
    """A word of STATUSES, or four digits of a status word, x for any. ValueError."""
    if text.lower() in STATUSES:
        return text.lower()
    upper = text.upper()
    if len(upper) == 4 and _SW.fullmatch(upper):
        return upper
    raise ValueError(
        f"{text!r} is no status: {', '.join(STATUSES)}, or a status word such as 6982 or 6Fxx"
    )


def parse_moment(text: str, now_ns: int) -> int:
    """Unix time in ns of a date, a date and time (UTC if it says no zone), or 90s, 5m, 2h, 7d ago.

    ValueError.
    """
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return now_ns - int(ago[1]) * _SECONDS[ago[2]] * 10**9
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no moment: 2026-11-21, 2026-11-21T10:00, or so long ago: 90s, 5m, 2h, 7d"
        ) from None
