"""What is told about calls, to whoever watches: observers, and log records with fields.

No argument, payload or key is ever told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from asys.errors import AsysError, Denied, OutcomeUnknown, StatusError

log: Final = logging.getLogger("asys.client")
"""Lost and new connections, attempts made again, and what LogCalls tells."""


@dataclass(frozen=True, slots=True)
class Called:
    """A call, when it is over.

    `instruction` is its name, `node` where it went (`host:port`). `sw` is the last status word,
    None when there was no answer; `seq` the last Seq of a signed instruction. `attempts` counts
    requests that were made, 0 when none was; `session` counts the node's connections, 1 the first.
    `error` is what the call raises, `seconds` how long it took with all attempts.
    """

    instruction: str
    node: str
    sw: int | None
    seq: int | None
    attempts: int
    session: int
    seconds: float
    error: BaseException | None

    @property
    def outcome(self) -> str:
        """`success`, `refused` (a status word), `unknown` (OutcomeUnknown), `cancelled`, or
        `unanswered`.
        """
        if self.error is None:
            return "success"
        if isinstance(self.error, OutcomeUnknown):
            return "unknown"
        if isinstance(self.error, StatusError):
            return "refused"
        return "unanswered" if isinstance(self.error, AsysError) else "cancelled"


Ending = Callable[[Called], None]
"""Told when the call is over."""


class Observer(Protocol):
    """Told of each call. What it raises is logged, and harms no call."""

    def begin(self, instruction: str, node: str) -> Ending:
        """A call begins, in the context (contextvars) of whoever makes it."""


class LogCalls:
    """An Observer that makes a log record of each call: `connect(..., observers=[LogCalls()])`.

    Logger `asys.client`; the fields of Called are attributes of the record, with `asys_` in front,
    for formatters that write JSON. 6982 and unknown outcomes are warnings.
    """

    def __init__(self, level: int = logging.DEBUG) -> None:
        """`level` of calls that succeed; those that do not have INFO at the least."""
        self._level = level

    def begin(self, instruction: str, node: str) -> Ending:
        """As Observer.begin."""
        return self._end

    def _end(self, called: Called) -> None:
        level = self._level
        if isinstance(called.error, Denied | OutcomeUnknown):
            level = max(level, logging.WARNING)
        elif called.error is not None:
            level = max(level, logging.INFO)
        if log.isEnabledFor(level):
            tell(
                level,
                f"{called.instruction} {word(called.sw) or type(called.error).__name__}",
                called.node,
                event="call",
                instruction=called.instruction,
                sw=word(called.sw),
                seq=called.seq,
                attempts=called.attempts,
                session=called.session,
                seconds=called.seconds,
                outcome=called.outcome,
                error=kind(called.error),
            )


def tell(level: int, message: str, node: str, *, event: str, **fields: object) -> None:
    """A log record with fields: `asys_node`, `asys_event` and so on."""
    named = {"node": node, "event": event, **fields}
    log.log(
        level, "%s: %s", node, message, extra={f"asys_{name}": it for name, it in named.items()}
    )


def word(sw: int | None) -> str | None:
    """A status word as four hex digits."""
    return None if sw is None else f"{sw:04X}"


def kind(error: BaseException | None) -> str | None:
    """The name of an exception's type."""
    return None if error is None else type(error).__name__


def begin_all(observers: tuple[Observer, ...], instruction: str, node: str) -> list[Ending]:
    """Tells all observers that a call begins."""
    endings = []
    for observer in observers:
        try:
            endings.append(observer.begin(instruction, node))
        except Exception:
            log.exception("an observer failed at the beginning of %s", instruction)
    return endings


def end_all(endings: list[Ending], called: Called) -> None:
    """Tells all observers that a call is over."""
    for ending in endings:
        try:
            ending(called)
        except Exception:
            log.exception("an observer failed at the end of %s", called.instruction)
