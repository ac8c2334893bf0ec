"""Rows of round trips, as they come and pinned to one CPU, beside an echo of the same sizes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Final

from asys.isa import (
    PROC_THROTTLE,
    SVC_RESTART,
    SYS_CAPS,
    SYS_HELLO,
    SYS_PROCS,
    SYS_STATUS,
    TASK_QUERY,
    AnyInstruction,
    Processes,
    ThrottleAction,
)
from asys.protocol.apdu import encode_plain
from asys.protocol.limits import SW_SIZE
from benchmarks.bench import NOT_HERE, Bench, Unavailable, lines, side_by_side
from benchmarks.crowd import Crowd
from benchmarks.echo import EchoLine
from benchmarks.line import Line, Target
from benchmarks.loop import Turn, play
from benchmarks.machine import process_count
from benchmarks.nodes import ENDLESS
from benchmarks.plan import LEAST_POLLS
from benchmarks.stats import Ratio, quantile
from benchmarks.table import Bar, Row

CORE: Final = (SYS_CAPS, SYS_HELLO, SYS_STATUS, SYS_PROCS)
CORE_BAR: Final = Bar(3)
SIGNED_BAR: Final = Bar(4)
PROCS_BAR: Final = Bar(1.2)
POLL_BAR: Final = Bar(2)

POLLERS: Final = 20
POLL_NS: Final = 100_000_000
"""Each poller asks at 10 Hz."""

FEW: Final = 8
"""Restarts in a batch: a session may have 16 tasks."""

ABSENT: Final = b"no-such-service-asys-benchmark"


@dataclass(frozen=True, slots=True)
class Case:
    """An instruction in one way of using it. `frame` makes the request with a given number."""

    name: str
    instruction: AnyInstruction
    frame: Callable[[Line, int], bytes]
    bar: Bar | None = None
    few: bool = False
    before: bool = False
    """The first request is made before anything is timed, and not on the clock."""

    frees: bool = False
    """Each answer holds a task handle that has to be freed."""

    missing: str = ""
    """Why it cannot be had."""

    @property
    def size(self) -> int:
        """Bytes of the answer."""
        return self.instruction.reply.SIZE + SW_SIZE


def _plain(code: int, data: bytes, _line: Line, _number: int) -> bytes:
    return encode_plain(code, data=data)


def _signed(code: int, payload: bytes, line: Line, _number: int) -> bytes:
    return line.link.signer.sign(code, 0, 0, payload)


def _resume(pid: int, line: Line, _number: int) -> bytes:
    return _throttle(pid, line, ThrottleAction.CONTINUE)


def _by_turns(pid: int, line: Line, number: int) -> bytes:
    return _throttle(pid, line, ThrottleAction.CONTINUE if number % 2 else ThrottleAction.STOP)


def _throttle(pid: int, line: Line, action: ThrottleAction) -> bytes:
    return line.link.signer.sign(PROC_THROTTLE.code, action, 0, pid.to_bytes(4, "big"))


def _cases(bench: Bench, target: Target, sleeper: int, endless: str) -> list[Case]:
    cases = [Case(one.name, one, partial(_plain, one.code, b""), CORE_BAR) for one in CORE]
    cases.append(Case("TASK_QUERY", TASK_QUERY, partial(_plain, TASK_QUERY.code, bytes(4))))
    hello = partial(_signed, SYS_HELLO.code, b"")
    cases.append(Case("SYS_HELLO, signed", SYS_HELLO, hello, SIGNED_BAR))
    elsewhere = NOT_HERE if target.pid is None else ""
    for name, throttle in (("already running", _resume), ("by turns", _by_turns)):
        frame = partial(throttle, sleeper)
        name = f"PROC_THROTTLE, {name}"
        cases.append(Case(name, PROC_THROTTLE, frame, SIGNED_BAR, missing=elsewhere))
    services = bench.services_missing if target is bench.own else "a peer's services are its own"
    restart = partial(_signed, SVC_RESTART.code)
    pending = partial(restart, endless.encode())
    absent = partial(restart, ABSENT)
    cases.append(
        Case(
            "SVC_RESTART, restart is pending",
            SVC_RESTART,
            pending,
            SIGNED_BAR,
            before=True,
            missing=services,
        )
    )
    cases.append(
        Case(
            "SVC_RESTART, supervisord asked",
            SVC_RESTART,
            absent,
            few=True,
            frees=True,
            missing=services,
        )
    )
    return cases


def as_they_come(bench: Bench, target: Target) -> Iterator[Row]:
    """Round trips of each instruction, wherever the scheduler puts client and node."""
    yield from _round_trips(bench, target, "unpinned", ENDLESS[0])


def on_one_cpu(bench: Bench, target: Target) -> Iterator[Row]:
    """Round trips of each instruction, client and node on one CPU."""
    with bench.pinned(target):
        yield from _round_trips(bench, target, "pinned", ENDLESS[1])


def _round_trips(bench: Bench, target: Target, group: str, endless: str) -> Iterator[Row]:
    if target is bench.own:
        yield _control(bench, group)
    with Crowd(1) as sleeper:
        for case in _cases(bench, target, sleeper.pids[0], endless):
            row = Row(group, case.name, target.name)
            if case.missing:
                yield Row(group, case.name, target.name, skipped=case.missing)
                continue
            with Line(target) as line:
                if not line.caps.has(case.instruction.code):
                    row = Row(group, case.name, target.name, skipped="it does not offer this")
                else:
                    row = _round_trip(bench, line, row, case, judged=group == "pinned")
            yield row


def _control(bench: Bench, group: str) -> Row:
    """The echo beside itself: how much of a difference is noise."""
    with bench.echo.line(24, 36) as one:
        measured = bench.against_echo(lambda: [one.turn()] * bench.plan.batch, len)
    return Row(
        group,
        "echo beside itself",
        "-",
        measured.one / 1000,
        "us",
        "echo",
        measured.other / 1000,
        measured.ratio,
    )


def _round_trip(bench: Bench, line: Line, row: Row, case: Case, *, judged: bool) -> Row:
    batch = FEW if case.few else bench.plan.batch
    if case.before:
        line.ask(case.frame(line, 0))

    def turns() -> list[Turn]:
        return [line.turn([case.frame(line, number)], case.size) for number in range(batch)]

    def check(answers: Sequence[bytes]) -> None:
        payloads = line.check(answers, batch)
        if case.frees:
            for handle in payloads:
                line.ask(encode_plain(TASK_QUERY.code, data=handle))

    measured = bench.against_echo(turns, check)
    return Row(
        row.group,
        row.name,
        row.node,
        measured.one / 1000,
        "us",
        "echo",
        measured.other / 1000,
        measured.ratio,
        case.bar if judged else None,
    )


def procs(bench: Bench, target: Target) -> Iterator[Row]:
    """SYS_PROCS beside SYS_HELLO, whatever the number of processes."""
    if target.pid is None:
        raise Unavailable(NOT_HERE)
    for count in bench.plan.crowds:
        with (
            Crowd(max(count - process_count(), 0)),
            bench.pinned(target),
            Line(target) as line,
        ):
            yield _procs(bench, target, line)


def _procs(bench: Bench, target: Target, line: Line) -> Row:
    batch = bench.plan.batch
    seen = 0

    def ask(instruction: AnyInstruction) -> float:
        nonlocal seen
        frame = encode_plain(instruction.code)
        size = instruction.reply.SIZE + SW_SIZE
        played = play([line.turn([frame], size) for _ in range(batch)])
        payload = line.check(played.answers, batch)[-1]
        if instruction is SYS_PROCS:
            seen = Processes.unpack(payload).count
        return median(played.round_trips)

    measured = side_by_side(bench.plan.pairs, partial(ask, SYS_PROCS), partial(ask, SYS_HELLO))
    return Row(
        "procs",
        f"SYS_PROCS, {seen} processes",
        target.name,
        measured.one / 1000,
        "us",
        "SYS_HELLO",
        measured.other / 1000,
        measured.ratio,
        PROCS_BAR,
    )


def polled(bench: Bench, target: Target) -> Iterator[Row]:
    """SYS_STATUS at 10 Hz on 20 connections, and the echo likewise, by turns."""
    plan = bench.plan
    polls = max(plan.polls // POLLERS, 1) * POLLERS
    with lines(target, POLLERS) as asking, contextlib.ExitStack() as stack:
        sizes = _ask_status(asking[0])
        asking[0].check(play([sizes]).answers, 1)
        echoes = bench.echo.ring(len(sizes.data), sizes.size, POLLERS)
        for echo in echoes:
            stack.enter_context(echo)
        _poll(asking, echoes, POLLERS)  # warms up
        tails = [_poll(asking, echoes, polls) for _ in range(plan.poll_rounds)]
    yield Row(
        "polled",
        f"SYS_STATUS, {POLLERS} x 10 Hz, p99 of {polls:,}",
        target.name,
        median(node for node, _ in tails) / 1000,
        "us",
        "echo",
        median(echo for _, echo in tails) / 1000,
        Ratio.of([node / echo for node, echo in tails]),
        POLL_BAR if polls >= LEAST_POLLS else None,
    )


def _ask_status(line: Line) -> Turn:
    return line.turn([encode_plain(SYS_STATUS.code)], SYS_STATUS.reply.SIZE + SW_SIZE)


def _poll(asking: Sequence[Line], echoes: Sequence[EchoLine], polls: int) -> tuple[float, float]:
    """p99 of the node and of the echo over one round; ns. Which is first changes each time."""
    count = len(asking)
    turns: list[Turn] = []
    for poll in range(polls):
        pair = [_ask_status(asking[poll % count]), echoes[poll % count].turn()]
        turns += reversed(pair) if poll % 2 else pair
    played = play(turns, interval_ns=POLL_NS // (2 * count))
    # Of each two pairs, the node's are the first and the last.
    node = [at for at in range(len(turns)) if at % 4 in (0, 3)]
    echo = [at for at in range(len(turns)) if at % 4 in (1, 2)]
    answers = [played.answers[at] for at in node]
    for place, line in enumerate(asking):
        mine = answers[place::count]
        line.check(mine, len(mine))
    times = played.round_trips
    return (
        quantile([times[at] for at in node], 0.99),
        quantile([times[at] for at in echo], 0.99),
    )
