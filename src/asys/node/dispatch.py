"""From a frame to its answer, in the order of checks of docs/protocol.md section 5.

Framing, Auth_Tag and replay are the session's; here an agent's table begins: 256 entries, one a
code. What does not exist for the agent is `dark`, one function for every such code. What exists is
a gate around its handler: platform, security level, length, parameters, rate, then the handler
itself. A handler that looks for a target checks scope and rate by itself, as both come before it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

from asys.isa import REGISTRY, AnyInstruction, Empty
from asys.isa.capmap import CARRIER, EVERYTHING
from asys.node import chains
from asys.node.audit.shadow.strict import Unacknowledged
from asys.node.platform.base import PlatformError, translate
from asys.node.recorder import DARK, READS
from asys.node.refusal import Refused
from asys.protocol.apdu import CLA_MORE, CLA_SEC, SEC_PLAIN, Frame
from asys.protocol.codec import BadValue, Layout, WrongSize
from asys.protocol.limits import SEQ_SIZE
from asys.protocol.status import SW

if TYPE_CHECKING:
    from asys.node.agents.rates import Bucket
    from asys.node.server import Node
    from asys.node.session import Session

_log = logging.getLogger("asyd.dispatch")


class NewKeys:
    """What REKEY answers: 9000 under the old keys, and the new ones behind it."""


NEW_KEYS: Final = NewKeys()

Answer: TypeAlias = bytes | Coroutine[Any, Any, bytes] | NewKeys
"""A response, payload || SW; or the coroutine that will give it; or NEW_KEYS."""

Reply: TypeAlias = bytes | Layout | Coroutine[Any, Any, "bytes | Layout | None"] | NewKeys | None
"""What a handler gives: a layout, nothing, a coroutine of these, or a whole response as bytes."""

Handler: TypeAlias = Callable[["Session", Any], Reply]
Entry: TypeAlias = Callable[["Session", Frame], Answer]
Reading: TypeAlias = tuple[Handler, Layout, str]
"""What a bare request for something that only reads comes to, once every check has passed: the
handler, the request as it is parsed, and the instruction's name."""

_H = TypeVar("_H", bound=Handler)

_SUCCESS: Final = SW.SUCCESS.wire

DEPLOYED: Final = frozenset({0x00, 0x01, 0x02, 0x03, 0x11, 0x20, 0x22})
"""Instructions that keep 9000 whatever flags are up: agents are deployed that know nothing else."""
_BLOCKED: Final = SW.BLOCKED.wire
_EMPTY: Final = Empty()


@dataclass(frozen=True, slots=True)
class _Handled:
    handler: Handler
    possible: Callable[[Node], bool]
    finds_target: bool = False
    intends: bool = True


_HANDLERS: Final[dict[int, _Handled]] = {}
_ENTRIES: Final[dict[int, Entry]] = {}


def handles(
    instruction: AnyInstruction,
    *,
    possible: Callable[[Node], bool] = lambda node: True,
    finds_target: bool = False,
    intends: bool = True,
) -> Callable[[_H], _H]:
    """Makes a function the handler of an instruction.

    It gets the session and the parsed request. `possible` says at start whether this node can do
    it at all; where not, the answer is 6D00 and the bit in SYS_CAPS is down. `finds_target`: the
    handler checks the rate itself, in its place between scope and target, and takes from it when
    every check has passed. So it also puts its intent on record itself then, as does, where not
    `intends`, whoever makes the last check.
    """

    def take(handler: _H) -> _H:
        if instruction.code in _HANDLERS:
            raise ValueError(f"{instruction!r} has a handler already")
        _HANDLERS[instruction.code] = _Handled(handler, possible, finds_target, intends)
        return handler

    return take


def serves(codes: Iterable[int]) -> Callable[[Entry], Entry]:
    """Makes a function the whole entry of codes: it makes every check behind existence itself."""

    def take(entry: Entry) -> Entry:
        _ENTRIES.update(dict.fromkeys(codes, entry))
        return entry

    return take


def dark(_session: Session, _frame: Frame) -> bytes:
    """The answer to every instruction that does not exist for an agent, whatever the reason."""
    return DARK


def unsupported(_session: Session, _frame: Frame) -> bytes:
    """The answer to an instruction that exists and that this node cannot do."""
    return b"\x6d\x00"


class Dispatcher:
    """The gates of a node, made once at start; hands out a table for each capability map.

    `offered` is the map of what the node's mode offers at all; the rest answers 6D00 where granted.
    `possible` are the codes that this node can do, `chainable` those that it takes in fragments.
    """

    def __init__(self, node: Node, offered: int = EVERYTHING) -> None:
        self._gates: list[Entry] = [dark] * 256
        self.possible = self.chainable = 0
        self._tables: dict[int, list[Entry]] = {}
        self._read: list[Reading | None] = [None] * 256
        for instruction in REGISTRY:
            code = instruction.code
            handled = _HANDLERS.get(code)
            if handled is not None and offered >> code & 1 and handled.possible(node):
                self._gates[code] = _gate(instruction, handled)
                self._read[code] = _reading(instruction, handled)
                self.possible |= 1 << code
                self.chainable |= instruction.chainable << code
            else:
                self._gates[code] = unsupported
        for code, entry in _ENTRIES.items():
            self._gates[code] = entry if offered >> code & 1 else unsupported
            self._read[code] = None
        self.possible |= offered & CARRIER

    def table(self, caps: int, rates: Mapping[int, Bucket] | None = None) -> list[Entry]:
        """The entries for all 256 codes, for an agent with the capability map `caps`.

        `rates` are the buckets of the codes that have a rate for this agent.
        """
        table = self._tables.get(caps)
        if table is None:
            table = [gate if caps >> code & 1 else dark for code, gate in enumerate(self._gates)]
            self._tables[caps] = table
        if rates:
            table = table.copy()
            for code, bucket in rates.items():
                if (caps & self.possible) >> code & 1:
                    table[code] = self._rated(code, bucket)
        return table

    def readings(self, caps: int, rates: Container[int] = ()) -> tuple[Reading | None, ...]:
        """By code, what a bare request for it comes to where nothing is left to check: it only
        reads, is granted by `caps`, and has no rate. Everything else goes by `table`.
        """
        return tuple(
            reading if caps >> code & 1 and code not in rates else None
            for code, reading in enumerate(self._read)
        )

    def _rated(self, code: int, bucket: Bucket) -> Entry:
        instruction = REGISTRY.get(code)
        handled = _HANDLERS.get(code)
        if instruction is None or handled is None or handled.finds_target:
            return self._gates[code]
        return _gate(instruction, handled, bucket)

    def forget_tables(self) -> None:
        """Drops tables that nobody may use any more, when the agents have been read again."""
        self._tables.clear()


def _reading(instruction: AnyInstruction, handled: _Handled) -> Reading | None:
    """The checks of `_gate` for a bare request, made once: they come out the same every time."""
    if not READS[instruction.code] or handled.finds_target or instruction.level << 2 > SEC_PLAIN:
        return None
    try:
        return handled.handler, instruction.parse(0, 0, b""), instruction.name
    except (WrongSize, BadValue):
        return None


def _gate(instruction: AnyInstruction, handled: _Handled, bucket: Bucket | None = None) -> Entry:
    """The entry of one instruction: level, length, parameters, rate, intent, handler."""
    handler = handled.handler
    parse = instruction.parse
    code = instruction.code
    more_than_reading = not READS[code]
    intends = more_than_reading and handled.intends and not handled.finds_target
    has_flags = code not in DEPLOYED
    chainable = instruction.chainable
    level = instruction.level << 2  # as the Sec bits of CLA
    ignores_payload = instruction.request is Empty and instruction.ignores_extra

    def gate(session: Session, frame: Frame) -> Answer:
        sec = frame.cla & CLA_SEC
        if more_than_reading:
            session.recorder.begin(frame)
        if sec < level:
            return SW.DENIED.wire
        if frame.cla & CLA_MORE:
            return chains.first(session, frame) if chainable else SW.WRONG_LENGTH.wire
        try:
            if ignores_payload:
                request: Layout = _EMPTY
            else:
                payload = frame.data[SEQ_SIZE:] if sec else frame.data
                request = parse(frame.p1, frame.p2, payload)
        except WrongSize:
            return SW.WRONG_LENGTH.wire
        except BadValue:
            return SW.INVALID_PAYLOAD.wire
        try:
            if bucket is not None and not bucket.ready(session.node.clock.now()):
                return _BLOCKED
            if intends:
                session.recorder.intend()
            if bucket is not None:
                bucket.take(session.node.clock.now())
            reply = handler(session, request)
            if type(reply) is bytes:
                return reply
            if reply is NEW_KEYS:
                return NEW_KEYS
            if not iscoroutine(reply):
                return _pack(reply, session.node.success if has_flags else _SUCCESS)
        except Unacknowledged as wait:
            return again(session, wait)
        except Exception as error:
            return failure(session, instruction.name, error)
        return _later(session, instruction, reply, has_flags)

    return gate


def _pack(reply: Any, success: bytes) -> bytes:
    return success if reply is None else reply.pack() + success


async def _later(
    session: Session, instruction: AnyInstruction, reply: Coroutine[Any, Any, Any], has_flags: bool
) -> bytes:
    try:
        result = await reply
        if type(result) is bytes:
            return result
        return _pack(result, session.node.success if has_flags else _SUCCESS)
    except Unacknowledged as wait:
        return await again(session, wait)
    except Exception as error:
        return failure(session, instruction.name, error)


async def again(session: Session, wait: Unacknowledged) -> bytes:
    """The answer to an instruction that has to wait for the collector before it runs.

    It then goes the whole way once more, as its agent's table is by then: every check is made anew.
    """
    frame = wait.frame
    if not await wait.acknowledged():
        _log.info("6400 %02X for %s: no collector has its record", frame.ins, session.name)
        return _BLOCKED
    if session.closed:
        return _BLOCKED
    answer = session.grant.table[frame.ins](session, frame)
    if type(answer) is bytes:
        return answer
    return await cast("Coroutine[Any, Any, bytes]", answer)


def failure(session: Session, name: str, error: Exception) -> bytes:
    """The status word for what went wrong; what nobody foresaw is logged with its traceback.

    It is answered also when there is no memory left to log it.
    """
    if isinstance(error, OSError) and error.errno is not None:
        error = translate(error, name)
    if isinstance(error, (Refused, PlatformError)):
        with suppress(MemoryError):
            _log.info("%s %s for %s: %s", error.sw, name, session.name, error)
        return error.sw.wire
    sw = SW.NODE_UNKNOWN_ERROR
    if isinstance(error, MemoryError):
        sw = SW.NODE_OUT_OF_MEMORY
    elif isinstance(error, TimeoutError):
        sw = SW.NODE_TIMED_OUT
    with suppress(MemoryError):
        _log.error("%s %s for %s failed", sw, name, session.name, exc_info=error)
    return sw.wire
