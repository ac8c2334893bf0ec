"""What is told about calls: observers, log records with fields, OpenTelemetry spans."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import asys
from asys.client.observe import Ending
from asys.protocol.status import SW
from client.losing import HELLO_, SOON, THROTTLE, handing_over, refuse, until
from support.wire_node import HELLO, OK, ThreadedWireNode, WireNode, answer, serve


class Notes:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.called: list[asys.Called] = []

    def begin(self, instruction: str, node: str) -> Ending:
        self.begun.append(instruction)
        return self.called.append


async def test_an_observer_is_told_of_each_call_once() -> None:
    answers = [SW.BLOCKED.wire, OK, SW.INVALID_PAYLOAD.wire]
    notes = Notes()
    wrong: Any = "pause"
    script = serve(lambda frame: answers.pop(0) if frame.ins == THROTTLE else answer(frame))
    async with WireNode(script) as node:
        options = node.options(retry=asys.Retry(first=0.001), observers=[notes])
        async with asys.connect(node.host, node.port, **options) as session:
            await session.sys_hello()
            await session.proc_throttle(7, "stop")
            with pytest.raises(asys.InvalidPayload):
                await session.proc_throttle(7, "stop")
            with pytest.raises(asys.ArgumentError):
                await session.proc_throttle(7, wrong)
        seen = [(one.instruction, one.sw, one.seq, one.attempts) for one in notes.called]
        assert seen == [
            ("SYS_HELLO", 0x9000, None, 1),
            ("PROC_THROTTLE", 0x9000, 2, 2),
            ("PROC_THROTTLE", 0x6A80, 3, 1),
            ("PROC_THROTTLE", None, None, 0),
        ]
        assert notes.begun == [one.instruction for one in notes.called]
        assert {one.node for one in notes.called} == {f"{node.host}:{node.port}"}
        assert all(one.seconds >= 0 and one.session == 1 for one in notes.called)


async def test_an_observer_is_told_how_a_call_came_out() -> None:
    notes = Notes()
    script = handing_over(until(THROTTLE), until(HELLO_, answered=True), refuse)
    async with WireNode(script) as node, node.connect(reconnect=SOON, observers=[notes]) as session:
        with pytest.raises(asys.OutcomeUnknown):
            await session.proc_throttle(7, "stop")
        await session.sys_hello()
        await session._wire.closed
        with pytest.raises(asys.AgentRejected):
            await session.sys_hello()
    assert [one.outcome for one in notes.called] == ["unknown", "success", "unanswered"]
    assert [one.session for one in notes.called] == [1, 2, 2]


async def test_an_observer_is_told_of_a_cancelled_call() -> None:
    notes = Notes()
    came = asyncio.Event()

    def silent(frame: Any) -> bytes | None:
        if frame.ins == HELLO_:
            came.set()
            return None
        return answer(frame)

    async with WireNode(serve(silent)) as node, node.connect(observers=[notes]) as session:
        call = asyncio.ensure_future(session.sys_hello())
        await came.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert [one.outcome for one in notes.called] == ["cancelled"]


class Broken:
    """An observer that fails, at once or at the end."""

    def __init__(self, *, at_once: bool) -> None:
        self._at_once = at_once

    def begin(self, instruction: str, node: str) -> Ending:
        def end(called: asys.Called) -> None:
            raise RuntimeError("broken")

        if self._at_once:
            raise RuntimeError("broken")
        return end


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_broken_observer_harms_no_call(
    at_once: bool, caplog: pytest.LogCaptureFixture
) -> None:
    notes = Notes()
    broken = Broken(at_once=at_once)
    async with WireNode() as node, node.connect(observers=[broken, notes]) as session:
        assert await session.sys_hello() == HELLO
    assert [one.outcome for one in notes.called] == ["success"]
    assert "an observer failed" in caplog.text


# Log records


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What it has beside its text."""
    return {
        name.removeprefix("asys_"): value
        for name, value in vars(record).items()
        if name.startswith("asys_")
    }


def test_calls_become_log_records_with_fields(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "asys.client")
    answers = [OK, SW.DENIED.wire, SW.INVALID_PAYLOAD.wire]
    script = serve(lambda frame: answers.pop(0) if frame.ins == THROTTLE else answer(frame))
    with ThreadedWireNode(script) as node:
        with node.connect(observers=[asys.LogCalls()]) as session:
            session.proc_throttle(4711, "stop")
            with pytest.raises(asys.Denied):
                session.proc_throttle(4711, "stop")
            with pytest.raises(asys.InvalidPayload):
                session.proc_throttle(4711, "stop")
        records = [one for one in caplog.records if one.name == "asys.client"]
        assert [one.levelname for one in records] == ["DEBUG", "WARNING", "INFO"]
        told = fields(records[1])
        assert told.pop("seconds") >= 0
        assert told == {
            "node": f"{node.node.host}:{node.node.port}",
            "event": "call",
            "instruction": "PROC_THROTTLE",
            "sw": "6982",
            "seq": 2,
            "attempts": 1,
            "session": 1,
            "outcome": "refused",
            "error": "Denied",
        }
        assert "4711" not in "".join(f"{one.getMessage()} {fields(one)}" for one in records)


async def test_a_lost_connection_is_logged_with_fields(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "asys.client")
    script = handing_over(until(HELLO_), until(HELLO_, answered=True), refuse)
    async with WireNode(script) as node, node.connect(reconnect=SOON) as session:
        await session.sys_hello()
        await session._wire.closed
        with pytest.raises(asys.AgentRejected):
            await session.sys_hello()
    told = [fields(one) for one in caplog.records if one.name == "asys.client"]
    assert [(one["event"], one["session"], one["error"]) for one in told] == [
        ("lost", 1, "ConnectionLost"),
        ("reconnected", 2, None),
        ("lost", 2, "ConnectionLost"),
        ("gave-up", 2, "AgentRejected"),
    ]


def test_an_attempt_made_again_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "asys.client")
    answers = [SW.BLOCKED.wire, HELLO.pack() + OK]
    script = serve(lambda frame: answers.pop(0) if frame.ins == HELLO_ else answer(frame))
    soon = asys.Retry(first=0.001)
    with ThreadedWireNode(script) as node, node.connect(retry=soon) as session:
        session.sys_hello()
    [record] = [one for one in caplog.records if one.name == "asys.client"]
    assert fields(record)["event"] == "retry"
    assert "SYS_HELLO 6400" in record.getMessage()


# Spans


class Spans:
    """A tracer whose spans are kept in memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.observer = asys.Telemetry(self.provider)

    def take(self) -> list[Any]:
        return list(self._exporter.get_finished_spans())


async def test_one_span_a_call() -> None:
    answers = [SW.BLOCKED.wire, OK, SW.DENIED.wire]
    script = serve(lambda frame: answers.pop(0) if frame.ins == THROTTLE else answer(frame))
    spans = Spans()
    tracer = spans.provider.get_tracer("test")
    async with WireNode(script) as node:
        options = node.options(retry=asys.Retry(first=0.001), observers=[spans.observer])
        async with asys.connect(node.host, node.port, **options) as session:
            with tracer.start_as_current_span("task"):
                await asyncio.gather(session.sys_hello(), session.proc_throttle(4711, "stop"))
                with pytest.raises(asys.Denied):
                    await session.proc_throttle(4711, "stop")
        hello, throttle, denied, task = spans.take()
        assert dict(hello.attributes) == {
            "asys.instruction": "SYS_HELLO",
            "server.address": f"{node.host}:{node.port}",
            "asys.sw": "9000",
            "asys.attempts": 1,
            "asys.session": 1,
            "asys.outcome": "success",
        }
    assert (throttle.name, throttle.kind) == ("PROC_THROTTLE", SpanKind.CLIENT)
    assert throttle.attributes["asys.seq"] == 2
    assert throttle.attributes["asys.attempts"] == 2
    assert throttle.status.status_code is StatusCode.UNSET
    assert denied.attributes["asys.sw"] == "6982"
    assert denied.attributes["error.type"] == "Denied"
    assert denied.status.status_code is StatusCode.ERROR
    assert {one.parent.span_id for one in (hello, throttle, denied)} == {task.context.span_id}


async def test_an_unknown_outcome_is_no_error_in_its_span() -> None:
    spans = Spans()
    told = [spans.observer]
    async with WireNode(until(THROTTLE)) as node, node.connect(observers=told) as session:
        with pytest.raises(asys.OutcomeUnknown):
            await session.proc_throttle(7, "stop")
        with pytest.raises(asys.ConnectionLost):
            await session.sys_hello()
    unknown, lost = spans.take()
    assert unknown.attributes["asys.outcome"] == "unknown"
    assert unknown.attributes["asys.seq"] == 1
    assert "asys.sw" not in unknown.attributes
    assert unknown.status.status_code is StatusCode.UNSET
    assert lost.status.status_code is StatusCode.ERROR


def test_without_opentelemetry_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(asys.ArgumentError, match=r"pip install 'asys\[otel\]'"):
        asys.Telemetry()
