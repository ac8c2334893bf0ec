"""AutoGen agents with a scripted model, in front of a real asyd."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import TaskResult
from autogen_agentchat.messages import TextMessage, ToolCallExecutionEvent
from autogen_core import CancellationToken
from autogen_core.models import CreateResult, FunctionExecutionResult
from autogen_core.tools import StaticWorkbench

from asys.integrations.asking import Question
from asys.integrations.autogen import Approve, AsysTool, ToolFailed, asys_tools
from asys.isa import Risk
from asys.tools import ErrorKind
from support.children import named, state, suspended, waiting
from support.daemon import CORE_AGENT, Daemon, running
from support.killed import killed_at_next_call, started
from support.scripted_autogen import call, saying
from support.tool_node import AGENTS, CORE, RISKY, connect


async def converse(tools: list[AsysTool], *script: CreateResult | str) -> TaskResult:
    """A whole conversation of an agent that has these tools."""
    model = saying(*script)
    agent = AssistantAgent("operator", model_client=model, tools=list(tools), max_tool_iterations=9)
    result = await agent.run(task="look after the node")
    known = [one["name"] for one in model.create_calls[0]["tools"]]
    assert known == [one.name for one in tools]
    return result


def results(of: TaskResult) -> list[FunctionExecutionResult]:
    """What the model has read of its tools."""
    events = [one for one in of.messages if isinstance(one, ToolCallExecutionEvent)]
    return [one for event in events for one in event.content]


def last(of: TaskResult) -> str:
    message = of.messages[-1]
    assert isinstance(message, TextMessage)
    return message.content


def throttle(tools: list[AsysTool]) -> AsysTool:
    (found,) = (one for one in tools if one.name == "proc_throttle")
    return found


async def yes(_: Question) -> bool:
    return True


@pytest.fixture(scope="module")
def asyd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("asyd"), agents=AGENTS) as daemon:
        yield daemon


@pytest.fixture
def child() -> Iterator[int]:
    with waiting() as process:
        yield process.pid


# -- what is offered


async def test_two_agents_are_offered_what_each_holds(asyd: Daemon) -> None:
    async with connect(asyd) as mine, connect(asyd, CORE_AGENT) as others:
        assert [one.name for one in asys_tools(others)] == CORE
        tools = {one.name: one for one in asys_tools(mine)}
        assert set(tools) >= {*CORE, *RISKY, "proc_tree"}
        await converse(asys_tools(others), "nothing to do")
        assert {name for name, one in tools.items() if one.spec.asks_first} == RISKY
        low = {one.name for one in asys_tools(mine, risk=Risk.LOW)}
        assert low == {one.name for one in asys_tools(mine, read_only=True)} == set(tools) - RISKY
        assert "agent_list" in {one.name for one in asys_tools(mine, include=["AGENT_LIST"])}


async def test_what_a_model_is_told_of_a_tool(asyd: Daemon) -> None:
    async with connect(asyd) as node:
        schema = throttle(asys_tools(node)).schema
        assert schema.get("name") == "proc_throttle"
        assert "Risk: medium" in schema.get("description", "")
        parameters = schema["parameters"]
        assert parameters["properties"]["action"]["enum"] == ["stop", "continue"]
        assert parameters.get("required") == ["pid", "action"]
        assert parameters.get("additionalProperties") is False


# -- reading


async def test_a_model_reads(asyd: Daemon, tmp_path: Path) -> None:
    async with connect(asyd) as node:
        with named(tmp_path, "<untrusted>") as pid:
            script = call("sys_status"), call("proc_tree", pid=pid), "all is well"
            said = await converse(asys_tools(node), *script)
        status, tree = results(said)
        assert not status.is_error
        assert "cpu_percent: " in status.content
        assert tree.content.count("<untrusted source=") == 1
        assert "\\x3cuntrusted>" in tree.content
        assert last(said) == "all is well"


async def test_results_are_typed(asyd: Daemon) -> None:
    async with connect(asyd) as node:
        (status,) = (one for one in asys_tools(node) if one.name == "sys_status")
        outcome = await status.run_json({}, CancellationToken())
        assert outcome.data["cpu_percent"] <= 100
        assert status.return_value_as_string(outcome) == outcome.text
        assert status.return_value_as_string(7) == "7"


# -- arguments


async def test_wrong_arguments_are_an_answer(asyd: Daemon, child: int) -> None:
    async with connect(asyd) as node:
        said = await converse(
            asys_tools(node, approve=yes),
            call("sys_status", verbose=True),
            call("proc_throttle", pid=child, action="kill"),
            call("proc_throttle", pid=child, action="stop", force=True),
            call("proc_throttle", pid=0, action="stop"),
            "I give up",
        )
        extra, value, unknown, number = results(said)
        assert "verbose" in extra.content
        assert "'stop' or 'continue'" in value.content
        assert "force" in unknown.content
        assert "pid" in number.content
        assert all(one.is_error for one in results(said))
        assert state(child) != "T"
        assert last(said) == "I give up"


async def test_what_the_node_refuses(asyd: Daemon) -> None:
    async with connect(asyd) as node:
        tool = throttle(asys_tools(node, approve=yes))
        with pytest.raises(ToolFailed, match="Stop and log a security event") as refused:
            await tool.run_json({"pid": 1, "action": "stop"}, CancellationToken())
        assert refused.value.result.sw == 0x6982


# -- asking first


@pytest.mark.parametrize("kind", ["a function", "a coroutine"])
async def test_a_person_says_yes(asyd: Daemon, child: int, kind: str) -> None:
    asked: list[Question] = []

    def say(question: Question) -> bool:
        assert state(child) != "T"
        asked.append(question)
        return True

    async def say_later(question: Question) -> bool:
        return say(question)

    approve: Approve = say if kind == "a function" else say_later
    async with connect(asyd) as node:
        wanted = call("proc_throttle", pid=child, action="stop")
        said = await converse(asys_tools(node, approve=approve), wanted, "done")
        suspended(child)
        (result,) = results(said)
        assert not result.is_error
        (question,) = asked
        assert question.tool == "proc_throttle"
        assert question.arguments == {"pid": child, "action": "stop"}
        assert f"Run proc_throttle with pid={child}, action='stop'? Risk: medium." in str(question)


async def test_a_question_has_what_was_left_out(asyd: Daemon) -> None:
    async with connect(asyd) as node:
        (isolate,) = (one for one in asys_tools(node) if one.name == "net_isolate")
        said = str(Question(isolate.spec, {"pid": 7, "action": "isolate"}))
        assert "keep_loopback=False" in said
        assert "ttl_s=0" in said
        (status,) = (one for one in asys_tools(node) if one.name == "sys_status")
        assert str(Question(status.spec, {})).startswith("Run sys_status with no arguments?")


def no(_: Question) -> bool:
    return False


def maybe(_: Question) -> Any:
    return "yes, why not"


def gone(_: Question) -> bool:
    raise ConnectionError("the person has left")


@pytest.mark.parametrize(
    ("approve", "told"),
    [
        (None, "nobody to ask"),
        (no, "did not say yes"),
        (maybe, "did not say yes"),
        (gone, "the person has left"),
    ],
)
async def test_without_a_yes_nothing_happens(
    asyd: Daemon, child: int, approve: Approve | None, told: str
) -> None:
    async with connect(asyd) as node:
        wanted = call("proc_throttle", pid=child, action="stop")
        said = await converse(asys_tools(node, approve=approve), wanted, "a pity")
        (result,) = results(said)
        assert result.is_error
        assert told in result.content
        assert state(child) != "T"
        assert last(said) == "a pity"
        with pytest.raises((PermissionError, ConnectionError)):
            await throttle(asys_tools(node, approve=approve)).run_json(
                {"pid": child, "action": "stop"}, CancellationToken()
            )
        assert state(child) != "T"


async def test_a_question_can_be_taken_back(asyd: Daemon, child: int) -> None:
    asked = asyncio.Event()

    async def think(_: Question) -> bool:
        asked.set()
        await asyncio.Event().wait()
        return True

    async with connect(asyd) as node:
        token = CancellationToken()
        workbench = StaticWorkbench(list(asys_tools(node, approve=think)))
        arguments = {"pid": child, "action": "stop"}
        wanted = asyncio.create_task(workbench.call_tool("proc_throttle", arguments, token))
        await asked.wait()
        token.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wanted
        assert state(child) != "T"
        assert not (await workbench.call_tool("sys_status", {})).is_error


# -- a node that goes away


async def test_killed_between_two_calls(tmp_path: Path, child: int) -> None:
    with started(tmp_path) as asyd:

        def kill(_: Question) -> bool:
            asyd.kill()
            return True

        async with connect(asyd) as node:
            wanted = call("proc_throttle", pid=child, action="stop"), call("sys_status")
            said = await converse(asys_tools(node, approve=kill), *wanted, "the node is gone")
            assert [one.is_error for one in results(said)] == [True, True]
            assert "no answer from the node" in results(said)[1].content
            assert last(said) == "the node is gone"
            assert state(child) != "T"


async def test_killed_in_the_middle_of_a_call(tmp_path: Path, child: int) -> None:
    with started(tmp_path) as asyd:
        async with connect(asyd) as node:
            tool = throttle(asys_tools(node, approve=yes))
            async with killed_at_next_call(asyd):
                with pytest.raises(ToolFailed, match="do not repeat it") as failed:
                    await tool.run_json({"pid": child, "action": "stop"}, CancellationToken())
            assert failed.value.result.error_kind is ErrorKind.OUTCOME_UNKNOWN
            assert state(child) != "T"
