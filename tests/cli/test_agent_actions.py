"""`asys throttle`, `resume`, `restart`: what was done, and what became of a task."""

from __future__ import annotations

from pathlib import Path

import pytest

from asys import isa
from asys.cli import instructions
from asys.isa import TaskStatus
from asys.protocol.apdu import Frame
from support.agent_cli import AgentCli, Run
from support.wire_node import OK, PAGES, Answer, Peer, Script, ThreadedWireNode, answer, serve


@pytest.fixture
def agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AgentCli:
    return AgentCli(tmp_path, capsys)


def tasks(*statuses: TaskStatus) -> Answer:
    """A node whose task goes through these; the last one is said for ever."""
    left = list(statuses)

    def answering(frame: Frame) -> bytes | None:
        if frame.ins != isa.TASK_QUERY.code:
            return answer(frame)
        status = left.pop(0) if len(left) > 1 else left[0]
        return isa.TaskState(status=status).pack() + OK

    return answering


def restart(agent: AgentCli, script: Script, *words: str) -> Run:
    with ThreadedWireNode(script) as node:
        return agent.ask("restart", node, "nginx", *words)


@pytest.mark.parametrize(
    ("command", "p1", "said"), [("throttle", 0, "is suspended"), ("resume", 1, "goes on")]
)
def test_throttle_and_resume_send_proc_throttle(
    agent: AgentCli, command: str, p1: int, said: str
) -> None:
    with ThreadedWireNode() as node:
        run = agent.ask(command, node, "1234")
        frame = node.peer.frames[-1]
    assert run.status == 0
    assert run.out.startswith(f"PID 1234 {said} on 127.0.0.1:{node.node.port} (9000 in ")
    assert (frame.ins, frame.p1, frame.data[4:]) == (0x20, p1, (1234).to_bytes(4, "big"))


def test_throttle_as_json_says_what_was_answered(agent: AgentCli) -> None:
    with ThreadedWireNode() as node:
        data = agent.ask("throttle", node, "0x4d2", "--json").data
    assert data["instruction"] == "PROC_THROTTLE"
    assert data["sw"] == "9000"
    assert data["result"] == {}


def test_a_degraded_audit_is_named(agent: AgentCli) -> None:
    script = serve(lambda frame: b"\x91\x01" if frame.ins == 0x20 else answer(frame))
    with ThreadedWireNode(script) as node:
        run = agent.ask("throttle", node, "1234")
    assert run.status == 0
    assert "; the node's audit is degraded (9101 in " in run.out


def test_restart_without_wait_tells_that_it_is_queued(agent: AgentCli) -> None:
    run = restart(agent, serve())
    assert run.status == 0
    assert run.out.startswith("the restart of nginx is queued on 127.0.0.1:")
    assert "--wait" in run.out


def test_restart_without_wait_as_json_has_the_handle(agent: AgentCli) -> None:
    data = restart(agent, serve(), "--json").data
    assert data["result"] == {"handle": 0x00057BB0, "status": None}


def test_restart_waits_for_the_end(agent: AgentCli) -> None:
    script = serve(tasks(TaskStatus.PENDING, TaskStatus.PENDING, TaskStatus.SUCCESS))
    with ThreadedWireNode(script) as node:
        run = agent.ask("restart", node, "nginx", "--wait")
        asked = [frame.ins for frame in node.peer.frames[PAGES:]]
    assert run.status == 0
    assert run.out.startswith("nginx is restarted on 127.0.0.1:")
    assert asked == [0x22, 0x11, 0x11, 0x11]


def test_restart_that_succeeded_as_json(agent: AgentCli) -> None:
    data = restart(agent, serve(), "--wait", "--json").data
    assert data["result"]["status"] == "success"


@pytest.mark.parametrize("status", [TaskStatus.FAILED, TaskStatus.CANCELLED])
def test_a_task_that_did_not_succeed_is_a_failure(agent: AgentCli, status: TaskStatus) -> None:
    run = restart(agent, serve(tasks(status)), "--wait", "--json")
    assert run.status == 1
    assert run.error["kind"] == "TaskFailed"
    assert run.error["message"].endswith(f"its task ended as {status.name.lower()}")


@pytest.mark.parametrize("status", [TaskStatus.TIMEOUT, TaskStatus.NOT_FOUND])
def test_a_task_that_the_node_lost_sight_of_is_an_unknown_outcome(
    agent: AgentCli, status: TaskStatus
) -> None:
    run = restart(agent, serve(tasks(status)), "--wait", "--json")
    assert run.status == 4
    assert run.error["kind"] == "OutcomeUnknown"
    assert run.error["instruction"] == "SVC_RESTART"
    assert run.error["seq"] == 1


def test_a_task_that_is_pending_at_the_end_is_an_unknown_outcome(
    agent: AgentCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instructions, "DEFAULT_WAIT", 0.01)
    run = restart(agent, serve(tasks(TaskStatus.PENDING)), "--wait")
    assert run.status == 4
    assert run.out == ""
    assert run.err.startswith("asys: SVC_RESTART is accepted, and how it ended is not known: ")


def test_timeout_holds_for_the_wait_too(agent: AgentCli, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def wait(self: object, timeout: float) -> TaskStatus:
        asked.append(timeout)
        return TaskStatus.SUCCESS

    monkeypatch.setattr("asys.client.blocking.Task.wait", wait)
    assert restart(agent, serve(), "--wait", "--timeout", "77").status == 0
    assert restart(agent, serve(), "--wait").status == 0
    assert asked == [77.0, 65.0]


def test_a_connection_lost_during_the_wait_is_an_unknown_outcome(agent: AgentCli) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        peer.reply(answer(await peer.request()) or b"")
        await peer.request()  # TASK_QUERY, which gets no answer

    run = restart(agent, script, "--wait", "--json")
    assert run.status == 4
    assert "closed the connection" in run.error["message"]


def test_a_refused_task_query_is_an_unknown_outcome(agent: AgentCli) -> None:
    script = serve(lambda frame: b"\x6a\x81" if frame.ins == 0x11 else answer(frame))
    run = restart(agent, script, "--wait")
    assert run.status == 4
    assert "6A81" in run.err
