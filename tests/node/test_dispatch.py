"""An agent's table: what is dark, the order of the gates, and the status word of every failure."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from asys.errors import LinkError
from asys.isa import (
    CONTINUE,
    LOG_DETAIL,
    LOG_SUMMARY,
    NET_ISOLATE,
    PROC_THROTTLE,
    REGISTRY,
    SVC_RESTART,
    SYS_CAPS,
    SYS_HELLO,
    TASK_CANCEL,
    TASK_QUERY,
    Empty,
    TaskHandle,
    TaskState,
    TaskStatus,
)
from asys.isa.capmap import ALL, CORE, EVERYTHING, bits
from asys.isa.core import CapabilitiesPage
from asys.isa.process import Throttle
from asys.node import dispatch
from asys.node.dispatch import (
    Answer,
    Dispatcher,
    Handler,
    NewKeys,
    dark,
    handles,
    unsupported,
)
from asys.node.platform import base
from asys.node.platform.base import NoSuchTarget, NotPermitted, SystemFailure, Unsupported
from asys.node.refusal import Refused
from asys.node.session import Session
from asys.protocol.apdu import Frame
from asys.protocol.codec import BadValue, WrongSize
from asys.protocol.status import SW
from support.node_rig import Rig, RigAgent

SEQ = b"\0\0\0\1"
SIGNED, ENC_SIGN, MORE = 0x04, 0x08, 0x10


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.node.sampler.close()


@pytest.fixture
def session(rig: Rig) -> Iterator[Session]:
    agent: RigAgent = rig.connect()
    yield agent.session
    agent.session.abort()
    rig.run()


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a handler in the place of an instruction's own."""

    def put(code: int, function: Handler, *, possible: bool = True) -> None:
        entry = dispatch._Handled(function, lambda node: possible)
        monkeypatch.setitem(dispatch._HANDLERS, code, entry)

    return put


def ask(session: Session, frame: Frame, caps: int = EVERYTHING) -> Answer:
    return Dispatcher(session.node).table(caps)[frame.ins](session, frame)


async def settled(answer: Answer) -> bytes:
    """The response, waited for where it has to be."""
    assert not isinstance(answer, NewKeys)
    return answer if isinstance(answer, bytes) else await answer


def throttle(data: bytes = SEQ + b"\0\0\0\7", *, cla: int = SIGNED, p1: int = 0) -> Frame:
    return Frame(cla, PROC_THROTTLE.code, p1, 0, data)


# -- the table


def test_dark_is_one_object_for_every_code_that_does_not_exist(rig: Rig) -> None:
    """So neither answer nor time tells why: not granted, not declared, or reserved."""
    dispatcher = Dispatcher(rig.node)
    declared = {instruction.code for instruction in REGISTRY}
    for caps in (0, CORE, ALL, EVERYTHING):
        table = dispatcher.table(caps)
        assert len(table) == 256
        for code, entry in enumerate(table):
            exists = caps >> code & 1 and (code in declared or code >= 0xC0)
            assert (entry is dark) == (not exists)


def test_dark_does_not_look_at_the_frame(session: Session) -> None:
    for frame in (Frame(0, 0, 0, 0), Frame(SIGNED | MORE, 0x20, 9, 9, b"x" * 500)):
        assert dark(session, frame) == SW.NO_SUCH_INSTRUCTION.wire


def test_one_table_serves_all_agents_with_the_same_map(rig: Rig) -> None:
    dispatcher = Dispatcher(rig.node)
    table = dispatcher.table(CORE)
    assert dispatcher.table(CORE) is table
    assert dispatcher.table(ALL) is not table
    dispatcher.forget_tables()
    assert dispatcher.table(CORE) is not table
    assert dispatcher.table(CORE) == table


def test_what_is_possible(rig: Rig, handler: Callable[..., None]) -> None:
    handler(PROC_THROTTLE.code, lambda session, request: None, possible=False)
    dispatcher = Dispatcher(rig.node)
    assert rig.node.services is None
    assert rig.node.logs is None
    assert rig.node.isolations is None
    lacking = (SVC_RESTART, TASK_CANCEL, NET_ISOLATE, LOG_SUMMARY, LOG_DETAIL)
    managed = {one.code for one in lacking}
    codes = {one.code for one in REGISTRY} - {PROC_THROTTLE.code} - managed
    assert dispatcher.possible == bits(codes)
    for code in (PROC_THROTTLE.code, *managed):
        assert dispatcher.table(EVERYTHING)[code] is unsupported
        assert dispatcher.table(CORE)[code] is dark


def test_a_declaration_without_a_handler_is_unsupported(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(dispatch._HANDLERS, TASK_QUERY.code)
    dispatcher = Dispatcher(rig.node)
    assert dispatcher.table(CORE)[TASK_QUERY.code] is unsupported
    assert not dispatcher.possible >> TASK_QUERY.code & 1


def test_every_instruction_has_one_handler() -> None:
    assert set(dispatch._HANDLERS) == {one.code for one in REGISTRY if not one.carrier}
    assert CONTINUE.code in dispatch._ENTRIES
    with pytest.raises(ValueError, match=r"<Instruction 01 SYS_HELLO> has a handler already"):
        handles(SYS_HELLO)(lambda session, request: None)


def test_handles_gives_the_function_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(dispatch._HANDLERS, TASK_QUERY.code)

    def function(session: Session, request: Any) -> None:
        return None

    assert handles(TASK_QUERY)(function) is function
    assert Dispatcher(rig.node).possible >> TASK_QUERY.code & 1


# -- the order of the gates: docs/protocol.md 5.2, checks 6 to 10

GATES = [
    ("not granted", SW.NO_SUCH_INSTRUCTION),
    ("impossible here", SW.NOT_SUPPORTED),
    ("plain", SW.DENIED),
    ("more fragments", SW.WRONG_LENGTH),
    ("wrong length", SW.WRONG_LENGTH),
    ("bad parameter", SW.INVALID_PAYLOAD),
    ("handler", SW.BLOCKED),
]


@pytest.mark.parametrize("first", range(len(GATES)), ids=[name for name, _ in GATES])
def test_the_first_gate_that_is_shut_answers(
    session: Session, handler: Callable[..., None], first: int
) -> None:
    """With the gate `first` and every later one shut."""
    shut = [name for name, _ in GATES[first:]]
    ran: list[object] = []

    def refuse(session: Session, request: object) -> None:
        ran.append(request)
        raise Refused(SW.BLOCKED, "for the test")

    handler(PROC_THROTTLE.code, refuse, possible="impossible here" not in shut)
    pid = bytes(3) + bytes(["bad parameter" not in shut])
    frame = throttle(
        SEQ + pid + b"\0" * ("wrong length" in shut),
        cla=SIGNED * ("plain" not in shut) | MORE * ("more fragments" in shut),
    )
    caps = CORE if "not granted" in shut else EVERYTHING
    assert ask(session, frame, caps) == GATES[first][1].wire
    assert bool(ran) == (shut == ["handler"])


@pytest.mark.parametrize("payload", [b"", b"\0\0\7", b"\0\0\0\0\7", bytes(5000)])
def test_lengths(session: Session, payload: bytes) -> None:
    assert ask(session, throttle(SEQ + payload)) == SW.WRONG_LENGTH.wire


@pytest.mark.parametrize(
    ("p1", "pid"), [(2, 7), (0xFF, 7), (0, 0), (1, 0)], ids=["P1 2", "P1 FF", "PID 0", "PID 0 too"]
)
def test_parameters_that_no_target_satisfies(session: Session, p1: int, pid: int) -> None:
    frame = throttle(SEQ + pid.to_bytes(4, "big"), p1=p1)
    assert ask(session, frame) == SW.INVALID_PAYLOAD.wire


@pytest.mark.parametrize("cla", [SIGNED, ENC_SIGN])
def test_the_handler_gets_the_request(
    session: Session, handler: Callable[..., None], cla: int
) -> None:
    """Parsed, without Seq; a level above the one that is asked for is good as well."""
    got: list[object] = []
    handler(PROC_THROTTLE.code, lambda session, request: got.append((session, request)))
    assert ask(session, throttle(cla=cla, p1=1)) == SW.SUCCESS.wire
    assert got == [(session, Throttle(7, "continue"))]


def test_a_plain_instruction_takes_signed_frames(
    session: Session, handler: Callable[..., None]
) -> None:
    """Seq is no part of the payload then."""
    got: list[Any] = []

    def query(session: Session, request: Any) -> TaskState:
        got.append(request.handle)
        return TaskState(TaskStatus.FAILED)

    handler(TASK_QUERY.code, query)
    for cla, data in ((0, b""), (SIGNED, SEQ), (SIGNED, SEQ), (0, b"")):
        frame = Frame(cla, TASK_QUERY.code, 0, 0, data + b"\0\0\0\5")
        assert ask(session, frame) == b"\2\x90\0"
    assert got == [5, 5, 5, 5]
    assert ask(session, Frame(SIGNED, TASK_QUERY.code, 0, 0, SEQ)) == SW.WRONG_LENGTH.wire


@pytest.mark.parametrize("data", [b"", b"x", b"x" * 5000])
@pytest.mark.parametrize("cla", [0, SIGNED])
def test_the_core_isa_ignores_data(
    session: Session, handler: Callable[..., None], data: bytes, cla: int
) -> None:
    got: list[object] = []
    for code, request in ((SYS_HELLO.code, Empty()), (SYS_CAPS.code, CapabilitiesPage(3))):
        handler(code, lambda session, request: got.append(request))
        assert ask(session, Frame(cla, code, 3, 4, data)) == SW.SUCCESS.wire
        assert got.pop() == request
        assert ask(session, Frame(cla | MORE, code, 0, 0, data)) == SW.WRONG_LENGTH.wire
        assert not got


# -- what a handler gives


@pytest.mark.parametrize(
    ("reply", "response"),
    [
        (None, b"\x90\0"),
        (Empty(), b"\x90\0"),
        (TaskHandle(0x01020304), b"\1\2\3\4\x90\0"),
        (b"as it is", b"as it is"),
    ],
    ids=["nothing", "empty", "layout", "bytes"],
)
async def test_replies(
    session: Session, handler: Callable[..., None], reply: Any, response: bytes
) -> None:
    handler(PROC_THROTTLE.code, lambda session, request: reply)
    assert ask(session, throttle()) == response

    async def later(session: Session, request: object) -> Any:
        return reply

    handler(PROC_THROTTLE.code, later)
    answer = ask(session, throttle())
    assert not isinstance(answer, bytes)
    assert await settled(answer) == response


FAILURES: list[tuple[Exception, SW, bool]] = [
    (Refused(SW.BLOCKED, "why"), SW.BLOCKED, True),
    (Refused(SW.DENIED, "why"), SW.DENIED, True),
    (NoSuchTarget("why"), SW.INVALID_PAYLOAD, True),
    (NotPermitted("why"), SW.DENIED, True),
    (Unsupported("why"), SW.NOT_SUPPORTED, True),
    (SystemFailure("why", SW.NODE_BUSY), SW.NODE_BUSY, True),
    (base.PlatformError("why"), SW.NODE_UNKNOWN_ERROR, True),
    (MemoryError(), SW.NODE_OUT_OF_MEMORY, False),
    (OSError(errno.ENOMEM, "why"), SW.NODE_OUT_OF_MEMORY, True),
    (OSError(errno.ENOSPC, "why"), SW.NODE_NO_SPACE, True),
    (OSError(errno.EBUSY, "why"), SW.NODE_BUSY, True),
    (OSError(errno.ETIMEDOUT, "why"), SW.NODE_TIMED_OUT, True),
    (OSError(errno.EIO, "why"), SW.NODE_IO_ERROR, True),
    (OSError(errno.EROFS, "why"), SW.NODE_IO_ERROR, True),
    (OSError(errno.EDQUOT, "why"), SW.NODE_NO_SPACE, True),
    (OSError(errno.ESRCH, "why"), SW.INVALID_PAYLOAD, True),
    (OSError(errno.EPERM, "why"), SW.DENIED, True),
    (OSError(errno.ENOSYS, "why"), SW.NOT_SUPPORTED, True),
    (OSError(errno.EMFILE, "why"), SW.NODE_UNKNOWN_ERROR, True),
    # Without an errno it is nothing that the operating system said.
    (TimeoutError(), SW.NODE_TIMED_OUT, False),
    (LinkError("why"), SW.NODE_UNKNOWN_ERROR, False),
    (ValueError("why"), SW.NODE_UNKNOWN_ERROR, False),
    (KeyError("why"), SW.NODE_UNKNOWN_ERROR, False),
    (RecursionError(), SW.NODE_UNKNOWN_ERROR, False),
    # Of a reply or of what the handler does, not of the request.
    (WrongSize("why"), SW.NODE_UNKNOWN_ERROR, False),
    (BadValue("why"), SW.NODE_UNKNOWN_ERROR, False),
]


@pytest.mark.parametrize("kind", ["at once", "later"])
@pytest.mark.parametrize(
    ("error", "sw", "foreseen"), FAILURES, ids=[f"{type(e).__name__}-{sw}" for e, sw, _ in FAILURES]
)
async def test_failures(
    session: Session,
    handler: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    kind: str,
    error: Exception,
    sw: SW,
    foreseen: bool,
) -> None:
    def fail(session: Session, request: object) -> None:
        raise error

    async def fail_later(session: Session, request: object) -> None:
        raise error

    handler(PROC_THROTTLE.code, fail if kind == "at once" else fail_later)
    with caplog.at_level(logging.INFO, "asyd.dispatch"):
        answer = ask(session, throttle())
        assert (await settled(answer)) == sw.wire
    [record] = [one for one in caplog.records if one.name == "asyd.dispatch"]
    assert f"{sw} PROC_THROTTLE for agent" in record.getMessage()
    if foreseen:
        assert record.levelno == logging.INFO
        assert record.getMessage().endswith(": why")
        assert record.exc_info is None
    else:
        assert record.levelno == logging.ERROR
        assert record.exc_info is not None
        assert record.exc_info[1] is error
        assert "in fail" in logging.Formatter().format(record)


@pytest.mark.parametrize("kind", ["at once", "later"])
async def test_a_reply_that_cannot_be_packed(
    session: Session, handler: Callable[..., None], caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """The agent's parameters are not to blame."""
    reply = TaskState(cast(Any, None))

    async def later(session: Session, request: object) -> Any:
        return reply

    handler(PROC_THROTTLE.code, later if kind == "later" else lambda session, request: reply)
    answer = ask(session, throttle())
    assert (await settled(answer)) == SW.NODE_UNKNOWN_ERROR.wire
    assert "Traceback" in caplog.text


def test_what_ends_the_daemon_is_not_swallowed(
    session: Session, handler: Callable[..., None]
) -> None:
    def interrupt(session: Session, request: object) -> None:
        raise KeyboardInterrupt

    handler(PROC_THROTTLE.code, interrupt)
    with pytest.raises(KeyboardInterrupt):
        ask(session, throttle())


async def test_a_failure_reaches_the_agent_and_the_session_goes_on(
    handler: Callable[..., None],
) -> None:
    """Through the whole node."""

    def fail(session: Session, request: object) -> None:
        raise RuntimeError(os.strerror(errno.EIO))

    async def fail_later(session: Session, request: object) -> None:
        raise NotPermitted("not yours")

    handler(PROC_THROTTLE.code, fail)
    handler(TASK_QUERY.code, fail_later)
    rig = Rig()
    agent = rig.connect()
    assert agent.ask(agent.throttle(7)) == [SW.NODE_UNKNOWN_ERROR.wire]
    agent.send(bytes.fromhex("001100000400000001" + "00"), bytes.fromhex("000100000000"))
    await rig.settle()
    denied, hello = agent.responses()
    assert denied == SW.DENIED.wire
    assert hello.startswith(b"ASYS")
    await rig.close()
