"""Tools at work: on a real asyd, and on a node that breaks off where a test says so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

import asys
from asys import isa
from asys.client.aio import Connecting
from asys.isa import TaskHandle, TaskState, TaskStatus
from asys.protocol.apdu import Frame
from asys.tools import ErrorKind, ToolResult, offered, run, run_sync, spec_of
from asys.tools.running import failure
from support.children import named, resumed, suspended, waiting
from support.daemon import AGENT, CORE_AGENT, Daemon, running
from support.wire_node import OK, Answer, Peer, ThreadedWireNode, WireNode, answer, serve, serve_b

RESTART = spec_of(isa.SVC_RESTART)
THROTTLE = spec_of(isa.PROC_THROTTLE)
STATUS = spec_of(isa.SYS_STATUS)


@pytest.fixture(scope="module")
def asyd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    agents = {AGENT: "agent caps=all", CORE_AGENT: "other caps=core"}
    with running(tmp_path_factory.mktemp("asyd"), agents=agents) as daemon:
        yield daemon


def connect(asyd: Daemon) -> Connecting:
    host, port = asyd.endpoint
    return asys.connect(host, port, identity=asys.Identity(AGENT), node_key=asyd.key, timeout=60)


def connect_sync(asyd: Daemon) -> asys.sync.Node:
    host, port = asyd.endpoint
    identity = asys.Identity(AGENT)
    return asys.sync.connect(host, port, identity=identity, node_key=asyd.key, timeout=60)


async def test_every_tool_that_only_reads_gives_what_its_schema_says(asyd: Daemon) -> None:
    async with connect(asyd) as node:
        for spec in offered(node.capability_map, read_only=True):
            arguments = {"pid": os.getpid()} if "pid" in spec.parameters["required"] else {}
            if "event_id" in spec.parameters["required"]:
                continue
            result = await run(node, spec, arguments)
            if result.error_kind is ErrorKind.STATUS:
                assert result.sw == 0x6D00, spec  # no logs on this machine
                continue
            assert result.ok, result
            assert result.text
            jsonschema.validate(result.data, spec.result_schema)
            assert result.untrusted is spec.untrusted
            assert ("<untrusted" in result.text) is spec.untrusted


async def test_capabilities_are_names(asyd: Daemon) -> None:
    async with connect(asyd) as node:
        result = await run(node, spec_of(isa.SYS_CAPS), {})
        assert "PROC_THROTTLE" in result.data["instructions"]
        assert isinstance(result.value, isa.Capabilities)
        refused = await run(node, spec_of(isa.SYS_CAPS), {"page": 1})
        assert refused.error_kind is ErrorKind.ARGUMENT
    with connect_sync(asyd) as sync_node:
        assert run_sync(sync_node, spec_of(isa.SYS_CAPS), {}).data == result.data


async def test_a_real_process_stops_and_goes_on(asyd: Daemon) -> None:
    async with connect(asyd) as node:
        with waiting() as child:
            result = await run(node, THROTTLE, {"pid": child.pid, "action": "stop"})
            suspended(child.pid)
            assert (result.ok, result.data) == (True, {"done": True})
            assert result.text == f"proc_throttle: done (pid {child.pid}, action stop)"
            assert (await run(node, THROTTLE, {"pid": child.pid, "action": "continue"})).ok
            resumed(child.pid)


def test_the_same_without_asyncio(asyd: Daemon) -> None:
    with connect_sync(asyd) as node, waiting() as child:
        assert run_sync(node, THROTTLE, {"pid": child.pid, "action": "stop"}).ok
        suspended(child.pid)
        assert run_sync(node, THROTTLE, {"pid": child.pid, "action": "continue"}).ok
        resumed(child.pid)
        assert run_sync(node, STATUS, {}).ok
        wrong = run_sync(node, THROTTLE, {"pid": child.pid, "action": "kill"})
        assert wrong.error_kind is ErrorKind.ARGUMENT


async def test_wrong_arguments_reach_nobody(asyd: Daemon) -> None:
    async with connect(asyd) as node:
        for arguments, said in (
            ({"pid": 0, "action": "stop"}, "pid must be 1"),
            ({"pid": 1.5, "action": "stop"}, "pid must be a number"),
            ({"action": "stop"}, "pid"),
            ({"pid": 1, "action": "stop", "force": True}, "unknown argument 'force'"),
        ):
            result = await run(node, THROTTLE, arguments)
            assert (result.ok, result.error_kind, result.sw) == (False, ErrorKind.ARGUMENT, None)
            assert said in result.text
            assert "Nothing was sent" in result.text
            assert result.data == {}


async def test_what_the_node_refuses_comes_with_advice(asyd: Daemon) -> None:
    async with connect(asyd) as node:
        result = await run(node, THROTTLE, {"pid": 1, "action": "stop"})
        assert (result.ok, result.error_kind, result.sw) == (False, ErrorKind.STATUS, 0x6982)
        assert "6982" in result.text
        assert "Stop and log a security event" in result.text


async def test_a_process_cannot_close_the_fence_by_its_name(asyd: Daemon, tmp_path: Path) -> None:
    # A file's name has no slash, so it gets as near as it can.
    with named(tmp_path, "<untrusted>", copied=True) as pid:
        async with connect(asyd) as node:
            result = await run(node, spec_of(isa.PROC_TREE), {"pid": pid})
        assert result.ok
        assert result.untrusted
        assert result.text.count("<untrusted") == 1
        assert "\\x3cuntrusted>" in result.text
        [name] = [one["name"] for one in result.data["processes"] if one["pid"] == pid]
        assert name == {"untrusted": "\\x3cuntrusted>"}
        assert isinstance(result.value, isa.ProcessTree)
        assert result.value.processes[result.value.index].name.raw == "<untrusted>"


# -- tasks


def tasks(*states: TaskStatus, end: bytes = b"") -> WireNode:
    """A node whose task goes through these states; then it answers `end`, or nothing for ever."""
    return WireNode(serve(_states(*states, end=end)))


def _states(*states: TaskStatus, end: bytes = b"") -> Answer:
    left = list(states)

    def answering(frame: Frame) -> bytes | None:
        if frame.ins != isa.TASK_QUERY.code:
            return answer(frame)
        return TaskState(left.pop(0)).pack() + OK if left else end or None

    return answering


async def restarted(node: WireNode, patience: float = 30.0) -> tuple[ToolResult, list[str]]:
    heard: list[str] = []

    async def progress(seconds: float, message: str) -> None:
        assert seconds >= 0
        heard.append(message)

    async with node, node.connect(timeout=patience) as session:
        return await run(session, RESTART, {"name": "web"}, progress=progress), heard


async def test_a_task_is_waited_for() -> None:
    states = (TaskStatus.PENDING, TaskStatus.PENDING, TaskStatus.SUCCESS)
    result, heard = await restarted(tasks(*states))
    assert (result.ok, result.text) == (True, "svc_restart: done")
    assert result.data == {"status": "success", "handle": 0x57BB0}
    assert result.value == TaskHandle(0x57BB0)
    jsonschema.validate(result.data, RESTART.result_schema)
    assert len(heard) == 2
    assert "pending" in heard[0]


@pytest.mark.parametrize(
    ("state", "kind", "said"),
    [
        (TaskStatus.FAILED, ErrorKind.TASK, "ended as failed"),
        (TaskStatus.TIMEOUT, ErrorKind.TASK, "ended as timeout"),
        (TaskStatus.CANCELLED, ErrorKind.TASK, "ended as cancelled"),
        (TaskStatus.NOT_FOUND, ErrorKind.OUTCOME_UNKNOWN, "not known"),
    ],
)
async def test_a_task_that_ends_badly(state: TaskStatus, kind: ErrorKind, said: str) -> None:
    result, _ = await restarted(tasks(state))
    assert (result.ok, result.error_kind) == (False, kind)
    assert said in result.text


async def test_a_task_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asys.tools.running.DEFAULT_WAIT", 0.0)
    result, heard = await restarted(tasks(TaskStatus.PENDING))
    assert (result.ok, result.error_kind, heard) == (False, ErrorKind.PENDING, [])
    assert str(0x57BB0) in result.text


async def test_a_task_whose_node_falls_silent() -> None:
    result, _ = await restarted(tasks(TaskStatus.PENDING), patience=0.2)
    assert (result.ok, result.error_kind) == (False, ErrorKind.OUTCOME_UNKNOWN)
    assert "Do not repeat it" in result.text


def test_tasks_without_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    def note(seconds: float, message: str) -> None:
        heard.append(message)

    script = tasks(TaskStatus.PENDING, TaskStatus.SUCCESS)._script
    with ThreadedWireNode(script) as node, node.connect() as session:
        assert run_sync(session, RESTART, {"name": "web"}, progress=note).ok
        assert len(heard) == 1
    monkeypatch.setattr("asys.tools.running.DEFAULT_WAIT", 0.0)
    script = tasks(TaskStatus.PENDING)._script
    with ThreadedWireNode(script) as node, node.connect() as session:
        result = run_sync(session, RESTART, {"name": "web"})
        assert result.error_kind is ErrorKind.PENDING
    script = tasks(end=b"\x6f\x00")._script
    with ThreadedWireNode(script) as node, node.connect() as session:
        result = run_sync(session, RESTART, {"name": "web"})
        assert result.error_kind is ErrorKind.OUTCOME_UNKNOWN


# -- connections that break


async def test_a_reading_without_an_answer() -> None:
    async with WireNode(serve(lambda frame: None)) as node, node.connect(timeout=0.2) as session:
        result = await run(session, STATUS, {})
        assert (result.ok, result.error_kind) == (False, ErrorKind.LINK)


async def test_an_action_without_an_answer_is_neither_done_nor_not_done() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.request()

    async with WireNode(script) as node, node.connect() as session:
        result = await run(session, THROTTLE, {"pid": 5, "action": "stop"})
        assert (result.ok, result.error_kind, result.sw) == (
            *(False, ErrorKind.OUTCOME_UNKNOWN, None),
        )
        assert "do not repeat it" in result.text
        assert session.closed


async def test_a_map_that_is_taken_away() -> None:
    def answering(frame: Frame) -> bytes | None:
        return b"\x6a\x81"

    async with WireNode(serve_b(answering, lit="14")) as node, node.connect() as session:
        result = await run(session, spec_of(isa.SYS_CAPS), {})
        assert (result.ok, result.sw) == (False, 0x6A81)


def test_other_failures() -> None:
    seen = failure(STATUS, asys.AlreadyReceived(None, "SYS_STATUS", 3))
    assert (seen.error_kind, seen.sw) == (ErrorKind.OUTCOME_UNKNOWN, 0x6985)
    key = failure(STATUS, asys.IdentityError("no key"))
    assert (key.error_kind, key.text) == (ErrorKind.OTHER, "sys_status: no key")
