"""What a long-lived agent's node decides, without I/O: what is tried again, and what never is.

Time is an argument, in seconds of any clock that only goes forward.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from asys.client.arguments import pack
from asys.client.backoff import check_seconds
from asys.client.caller import OF_THIS_SESSION, Caller
from asys.client.observe import Called, Observer, begin_all, end_all, kind, tell, word
from asys.client.pending import Pending
from asys.client.reconnect import SILENCE, Reconnect
from asys.client.retry import Retry, Retrying
from asys.errors import (
    AlreadyReceived,
    ArgumentError,
    AsysError,
    LinkError,
    OutcomeUnknown,
    SessionEnded,
    StatusError,
)
from asys.isa import (
    NET_ISOLATE,
    PROC_THROTTLE,
    TASK_CANCEL,
    TASK_QUERY,
    AnyInstruction,
    Group,
    IsolateAction,
    Level,
    Mode,
    Processes,
    ProcessTree,
    ThrottleAction,
)

NODE_IDLE: Final = 60.0
"""Seconds without a request after which a node ends a session (docs/protocol.md, 1)."""

MOST_SHOWN: Final = 8192
"""PIDs of which it is known in which session they were shown; the oldest go first."""

MOST_LOST: Final = 3
"""Times that one call is made again because its connection was lost."""

_OF_A_TASK: Final = (TASK_QUERY, TASK_CANCEL)

_TAKES_BACK: Final = {
    PROC_THROTTLE.code: ThrottleAction.CONTINUE,
    NET_ISOLATE.code: IsolateAction.RELEASE,
}
"""P1 of what undoes, and so is never refused because a PID is of an earlier session."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What `connect` was told for a long-lived connection."""

    reconnect: Reconnect | None
    retry: Retry | None
    keepalive: float | None
    observers: tuple[Observer, ...]

    @classmethod
    def of(
        cls,
        reconnect: Reconnect | bool | None,
        retry: Retry | bool | None,
        keepalive: float | None,
        observers: Sequence[Observer],
    ) -> Policy | None:
        """None: nothing that a plain connection does not do. ArgumentError says what is wrong."""
        if isinstance(reconnect, bool):
            reconnect = Reconnect() if reconnect else None
        if isinstance(retry, bool):
            retry = Retry() if retry else None
        for name, value, type_ in (("reconnect", reconnect, Reconnect), ("retry", retry, Retry)):
            if value is not None and not isinstance(value, type_):
                raise ArgumentError(
                    f"{name} must be a {type_.__name__}, True, False or None, not {value!r}"
                )
        if keepalive is not None:
            check_seconds("keepalive", keepalive)
            if keepalive >= NODE_IDLE:
                raise ArgumentError(
                    f"keepalive must be less than {NODE_IDLE:g} seconds, after which a node ends "
                    f"an idle session; not {keepalive}"
                )
        if reconnect is None and retry is None and keepalive is None and not observers:
            return None
        return cls(reconnect, retry, keepalive, tuple(observers))

    def begin(self, caller: Caller) -> None:
        """Tells the first connection how long its node may be silent."""
        if self.reconnect is not None:
            caller.silence.limit = self.reconnect.silence
        elif self.keepalive is not None:
            caller.silence.limit = SILENCE


class ShownPids:
    """In which session each PID was shown last, as far as this node object has seen it."""

    def __init__(self) -> None:
        self._session_of: dict[int, int] = {}

    def saw(self, reply: object, session: int) -> None:
        """A reply came in that session."""
        if isinstance(reply, Processes):
            pids = [one.pid for one in reply.top]
        elif isinstance(reply, ProcessTree):
            pids = [one.pid for one in reply.processes]
        else:
            return
        known = self._session_of
        for pid in pids:
            known.pop(pid, None)
            known[pid] = session
        while len(known) > MOST_SHOWN:
            del known[next(iter(known))]

    def check(
        self,
        instruction: AnyInstruction,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        session: int,
    ) -> None:
        """SessionEnded for an act on a PID that only an earlier session was shown."""
        if "pid" not in instruction.request.FIELDS or instruction.group is Group.DIAGNOSTICS:
            return
        p1, _, _ = pack(instruction, args, kwargs)  # ArgumentError, as the request itself
        if _TAKES_BACK.get(instruction.code) == p1:
            return
        pid = getattr(instruction.make_request(*args, **kwargs), "pid", 0)
        if self._session_of.get(pid, session) != session:
            raise SessionEnded(
                f"PID {pid} was shown in a session that has ended, and may be another process by "
                "now; look again, as with sys_procs() or proc_tree(), before you act on it"
            )


class Attempts:
    """One call, over all of its attempts."""

    def __init__(
        self, policy: Policy, shown: ShownPids, instruction: AnyInstruction, caller: Caller
    ) -> None:
        self.instruction: Final = instruction
        self.caller = caller
        """That of the last attempt."""
        self.count = 0
        self.unknown: OutcomeUnknown | None = None
        """An attempt that may have run; another one follows only where the policy says so."""
        self._policy = policy
        self._shown = shown
        self._retrying = Retrying(policy.retry, instruction)
        self._pending: Pending | None = None
        self._losses = 0
        self._endings = begin_all(policy.observers, instruction.name, str(caller.address))

    def request(
        self, caller: Caller, args: tuple[Any, ...], kwargs: Mapping[str, Any], now: float
    ) -> Pending:
        """The request of the next attempt. As Caller.request; SessionEnded."""
        self.caller = caller
        if caller.error is None:
            self._shown.check(self.instruction, args, kwargs, caller.session)
        self._pending = caller.request(self.instruction, args, kwargs, now)
        self.count += 1
        return self._pending

    def before(self) -> None:
        """Called while the connection is lost: SessionEnded where a new one would be no help."""
        if self.instruction in _OF_A_TASK:
            raise _task_ended(self.instruction)

    def after(self, error: AsysError) -> float | None:
        """Seconds until the next attempt; None: there is none, and `final` is what to raise."""
        if isinstance(error, OutcomeUnknown):
            return self._after_unknown(error)
        if isinstance(error, StatusError):
            delay = self._retrying.after(error)
            if delay is not None:
                self._tell(f"{self.instruction.name} {word(error.sw)}, again in {delay:.2f} s")
            return delay
        if not isinstance(error, LinkError) or isinstance(error, SessionEnded):
            return None
        # It was not sent, or has no Seq: a signed one that was sent would be OutcomeUnknown.
        instruction = self.instruction
        repeatable = instruction.idempotent or instruction.level > Level.PLAIN
        if instruction in OF_THIS_SESSION or not repeatable:
            return None
        return 0.0 if self._may_follow() else None

    def final(self, error: AsysError) -> AsysError:
        """What to raise for the error that ended the last attempt, or kept one from being made."""
        if isinstance(error, OutcomeUnknown):
            return error
        told: AsysError
        if self.unknown is not None:
            told = self.unknown
        elif self._over_with_tasks() and not isinstance(error, SessionEnded | StatusError):
            told = _task_ended(self.instruction)
        else:
            return error
        told.__cause__ = error
        return told

    def end(self, error: BaseException | None, reply: object, seconds: float) -> None:
        """The call is over."""
        session = self.caller.session
        if error is None:
            self._shown.saw(reply, session)
        if not self._endings:
            return
        pending = self._pending
        called = Called(
            instruction=self.instruction.name,
            node=str(self.caller.address),
            sw=pending.sw if pending is not None else None,
            seq=(pending.seq or None) if pending is not None else None,
            attempts=self.count,
            session=session,
            seconds=seconds,
            error=error,
        )
        end_all(self._endings, called)

    def _after_unknown(self, error: OutcomeUnknown) -> float | None:
        policy, instruction = self._policy.reconnect, self.instruction
        if policy is None or not policy.resend or isinstance(error, AlreadyReceived):
            return None
        if not instruction.idempotent or instruction.mode is Mode.ASYNC or not self._may_follow():
            return None
        self.unknown = error
        self._tell(f"{instruction.name} is sent again over a new connection")
        return 0.0

    def _may_follow(self) -> bool:
        """The connection of the last attempt has ended, and another one may take its place.

        Not for ever: a request that ends every connection it comes over must not do so.
        """
        if not self._is_lost() or self._losses == MOST_LOST:
            return False
        self._losses += 1
        return True

    def _over_with_tasks(self) -> bool:
        return self.instruction in _OF_A_TASK and self._is_lost()

    def _is_lost(self) -> bool:
        return self._policy.reconnect is not None and self.caller.error is not None

    def _tell(self, message: str) -> None:
        tell(
            logging.INFO,
            message,
            str(self.caller.address),
            event="retry",
            instruction=self.instruction.name,
            attempts=self.count,
        )


def _task_ended(instruction: AnyInstruction) -> SessionEnded:
    return SessionEnded(
        f"the session has ended before {instruction.name} was answered, and its task handles with "
        "it; the task goes on"
    )


def tell_of(
    caller: Caller, level: int, event: str, message: str, error: AsysError | None = None
) -> None:
    """A log record about a connection."""
    tell(
        level,
        message if error is None else f"{message} ({kind(error)})",
        str(caller.address),
        event=event,
        session=caller.session,
        error=kind(error),
    )


def again(error: AsysError) -> AsysError:
    """The same exception for another one who waits: each has its own traceback."""
    fresh = copy.copy(error)
    fresh.__cause__ = error.__cause__
    return fresh
