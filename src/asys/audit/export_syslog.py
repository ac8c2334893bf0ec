"""Messages of RFC 5424, one a line, as log collectors take them (docs/audit.md, section 8)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Final

from asys.audit.entries import CleanEnd, Gap, NodeKey, Refused
from asys.audit.reading import Action, Notice, State
from asys.protocol.status import SW

FACILITY: Final = 13
"""Log audit."""

APP_NAME: Final = "asyd"

SD_ID: Final = "asys@32473"
"""The structured data's name; 32473 is the enterprise number that RFC 5612 gives for examples."""

NIL: Final = "-"
"""A field of the header that is not known."""

MAX_HOSTNAME: Final = 255
MAX_MSGID: Final = 32

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_QUOTED: Final = str.maketrans({"\\": r"\\", '"': r"\"", "]": r"\]"})


class Severity(IntEnum):
    """Severities of RFC 5424 that are in use here."""

    CRITICAL = 2
    """Records were lost."""
    ERROR = 3
    """The node failed, a task did not succeed, or an intent has no outcome."""
    WARNING = 4
    """Refused: an instruction or a handshake."""
    NOTICE = 5
    """Neither good nor bad, and worth a look."""
    INFORMATIONAL = 6
    """Done, or on its way."""


def severity(item: Action | Notice) -> Severity:
    """How grave an item is."""
    if isinstance(item, Action):
        return _severity_of_action(item)
    if isinstance(item.entry, Gap):
        return Severity.CRITICAL
    if isinstance(item.entry, Refused):
        return Severity.WARNING
    notable = isinstance(item.entry, CleanEnd | NodeKey)
    return Severity.NOTICE if notable else Severity.INFORMATIONAL


def _severity_of_action(action: Action) -> Severity:
    if action.state is State.UNFINISHED:
        return Severity.ERROR
    if action.succeeded:
        return Severity.INFORMATIONAL
    if action.task is not None or action.sw is None or action.sw >> 8 == SW.NODE_ERROR >> 8:
        return Severity.ERROR
    return Severity.NOTICE if action.sw == SW.ALREADY_RECEIVED else Severity.WARNING


def message(
    level: Severity,
    time_ns: int,
    kind: str,
    params: Mapping[str, str],
    text: str,
    *,
    hostname: str = NIL,
) -> bytes:
    """One message with the newline that ends it; there is no other in it.

    `kind` becomes the MSGID. Parameters are UTF-8; what is not printable in them stands as Python
    would escape it. `text` is reduced to ASCII, so that it needs no byte order mark.
    """
    head = (
        f"<{FACILITY * 8 + level}>1 {_timestamp(time_ns)} {hostname} {APP_NAME} {NIL} "
        f"{kind[:MAX_MSGID]}"
    )
    data = "".join(
        f' {name}="{_visible(value).translate(_QUOTED)}"' for name, value in params.items()
    )
    words = _visible(text).encode("ascii", "backslashreplace").decode()
    return f"{head} [{SD_ID}{data}] {words}\n".encode()


def parse_hostname(text: str) -> str:
    """A HOSTNAME as the header may have it. ValueError."""
    if not 1 <= len(text) <= MAX_HOSTNAME or not all("!" <= one <= "~" for one in text):
        raise ValueError(f"{text!r} is no host name: 1 to {MAX_HOSTNAME} visible ASCII characters")
    return text


def _timestamp(time_ns: int) -> str:
    """To the us, which is the most that RFC 5424 has; the rest is cut off."""
    second, rest = divmod(time_ns, 10**9)
    return f"{_EPOCH + timedelta(seconds=second):%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"


def _visible(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
