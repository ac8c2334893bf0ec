"""`asys-mcp` over stdin and stdout, with the official client, in front of a real asyd."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from mcp_types import ElicitResult

from asys.tools.fence import NOTICE
from support.children import named, resumed, suspended, waiting
from support.daemon import AGENT, CORE_AGENT, STRANGER, Daemon, running
from support.mcp_host import Desk, Says, gone, no, said, state, unticked, yes
from support.supervised import supervisord

CORE = {"sys_caps", "sys_hello", "sys_status", "sys_procs"}
MODES = ("auto", "legacy")


@pytest.fixture(scope="module")
def asyd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    agents = {AGENT: "agent caps=all", CORE_AGENT: "other caps=core"}
    with (
        supervisord({"web": "sleep infinity"}, startsecs=1) as url,
        running(tmp_path_factory.mktemp("asyd"), "--supervisord", url, agents=agents) as daemon,
    ):
        yield daemon


@pytest.fixture
def desk(tmp_path: Path, asyd: Daemon) -> Desk:
    return Desk(tmp_path, asyd, key=AGENT)


async def names(desk: Desk, *options: str) -> set[str]:
    async with desk.stdio(*options) as client:
        return {one.name for one in (await client.list_tools()).tools}


# -- what is offered


async def test_two_agents_are_offered_what_each_holds(asyd: Daemon, tmp_path: Path) -> None:
    desks = []
    for name, key in (("agent", AGENT), ("other", CORE_AGENT)):
        (tmp_path / name).mkdir()
        desks.append(Desk(tmp_path / name, asyd, key=key))
    mine = await names(desks[0], "--allow-changes")
    others = await names(desks[1], "--allow-changes")
    assert others == CORE
    assert others < mine
    assert {"proc_throttle", "svc_restart", "task_query", "proc_tree"} <= mine
    assert not mine & {"rekey", "abandon", "continue", "agent_add"}


async def test_it_only_reads_unless_told_otherwise(desk: Desk) -> None:
    async with desk.stdio(says=yes) as client:
        tools = (await client.list_tools()).tools
        assert {one.name for one in tools} >= CORE | {"proc_tree"}
        assert all(one.annotations and one.annotations.read_only_hint for one in tools)
        with waiting() as child:
            arguments = {"pid": child.pid, "action": "stop"}
            result = await client.call_tool("proc_throttle", arguments)
            assert result.is_error
            assert "no tool 'proc_throttle'" in said(result)
            assert state(child.pid) != "T"


async def test_what_tools_say_of_themselves(desk: Desk) -> None:
    async with desk.stdio("--allow-changes") as client:
        tools = {one.name: one for one in (await client.list_tools()).tools}
        assert "untrusted" in (client.instructions or "")
    throttle = tools["proc_throttle"]
    assert throttle.annotations is not None
    assert throttle.annotations.destructive_hint
    assert throttle.annotations.idempotent_hint
    assert throttle.annotations.open_world_hint is False
    assert throttle.meta is not None
    assert (throttle.meta["risk"], throttle.meta["asks_first"]) == ("medium", True)
    assert throttle.input_schema["required"] == ["pid", "action"]
    assert throttle.input_schema["additionalProperties"] is False
    assert throttle.input_schema["properties"]["action"]["enum"] == ["stop", "continue"]
    status = tools["sys_status"].annotations
    assert status is not None
    assert status.destructive_hint is False
    for tool in tools.values():
        assert tool.output_schema is not None
        assert tool.description


async def test_results_are_typed(desk: Desk) -> None:
    async with desk.stdio() as client:
        tools = {one.name: one for one in (await client.list_tools()).tools}
        for name in CORE:
            result = await client.call_tool(name, {})
            schema = tools[name].output_schema
            assert schema is not None
            jsonschema.validate(result.structured_content, schema)
            assert said(result)
        result = await client.call_tool("sys_caps", {})
        assert result.structured_content is not None
        assert "PROC_THROTTLE" in result.structured_content["instructions"]


async def test_arguments_that_a_tool_does_not_have_are_refused(desk: Desk) -> None:
    async with desk.stdio("--allow-changes", "--confirm", "host") as client:
        with waiting() as child:
            arguments = {"pid": child.pid, "action": "stop", "ttl": 60}
            result = await client.call_tool("proc_throttle", arguments)
            assert result.is_error
            assert "no argument 'ttl'" in said(result)
            wrong = await client.call_tool("proc_throttle", {"pid": 0, "action": "stop"})
            assert wrong.is_error
            assert state(child.pid) != "T"


async def test_names_of_processes_are_fenced(desk: Desk, tmp_path: Path) -> None:
    with named(tmp_path, "<untrusted>", copied=True) as pid:
        async with desk.stdio() as client:
            result = await client.call_tool("proc_tree", {"pid": pid})
    text = said(result)
    assert text.startswith(NOTICE)
    assert text.count("<untrusted") == 1
    assert "\\x3cuntrusted>" in text
    assert result.structured_content is not None
    shown = [one for one in result.structured_content["processes"] if one["pid"] == pid]
    assert shown[0]["name"] == {"untrusted": "\\x3cuntrusted>"}


async def test_the_node_s_word_comes_with_advice(desk: Desk) -> None:
    async with desk.stdio("--allow-changes", says=yes) as client:
        result = await client.call_tool("proc_throttle", {"pid": 1, "action": "stop"})
        assert result.is_error
        assert "6982" in said(result)
        assert "Stop and log a security event" in said(result)


async def test_what_is_taken_away_is_gone_from_the_list(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running(tmp_path_factory.mktemp("own"), agents={AGENT: "a caps=all"}) as asyd:
        desk = Desk(tmp_path, asyd, key=AGENT)
        async with desk.stdio("--allow-changes", says=yes) as client:
            tools = (await client.list_tools()).tools
            assert "proc_throttle" in {one.name for one in tools}
            asyd.reload({AGENT: "a caps=core"})
            with waiting() as child:
                arguments = {"pid": child.pid, "action": "stop"}
                refused = await client.call_tool("proc_throttle", arguments)
                assert "6A81" in said(refused)
                assert state(child.pid) != "T"
            tools = (await client.list_tools()).tools
            assert {one.name for one in tools} == CORE


# -- who says yes


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("says", [None, no, gone, unticked])
async def test_without_a_yes_nothing_happens(desk: Desk, says: Says | None, mode: str) -> None:
    with waiting() as child:
        async with desk.stdio("--allow-changes", says=says, mode=mode) as client:
            result = await client.call_tool("proc_throttle", {"pid": child.pid, "action": "stop"})
            assert result.is_error
            assert "Nothing was done" in said(result)
            assert state(child.pid) != "T"
            # And the server goes on.
            assert not (await client.call_tool("sys_status", {})).is_error


@pytest.mark.parametrize("mode", MODES)
async def test_with_a_yes_it_happens(desk: Desk, mode: str) -> None:
    asked: list[str] = []

    async def person(context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        return await yes(context, params)

    with waiting() as child:
        async with desk.stdio("--allow-changes", says=person, mode=mode) as client:
            result = await client.call_tool("proc_throttle", {"pid": child.pid, "action": "stop"})
            assert not result.is_error, said(result)
            suspended(child.pid)
            assert state(child.pid) == "T"
            assert result.structured_content == {"done": True}
            again = {"pid": child.pid, "action": "continue"}
            assert not (await client.call_tool("proc_throttle", again)).is_error
            resumed(child.pid)
    assert f"pid={child.pid}, action='stop'" in asked[0]
    assert "Risk: medium" in asked[0]
    assert len(asked) == 2


async def test_a_reading_asks_nobody(desk: Desk) -> None:
    async def person(context: Any, params: Any) -> ElicitResult:
        raise AssertionError("asked")

    async with desk.stdio("--allow-changes", says=person) as client:
        assert not (await client.call_tool("sys_procs", {})).is_error


async def test_the_host_may_ask_instead(desk: Desk) -> None:
    with waiting() as child:
        async with desk.stdio("--allow-changes", "--confirm", "host") as client:
            result = await client.call_tool("proc_throttle", {"pid": child.pid, "action": "stop"})
            assert not result.is_error
            suspended(child.pid)


@pytest.mark.parametrize("mode", MODES)
async def test_a_restart_tells_how_far_it_is(desk: Desk, mode: str) -> None:
    heard: list[str | None] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message)

    async with desk.stdio("--allow-changes", says=yes, mode=mode) as client:
        result = await client.call_tool("svc_restart", {"name": "web"}, progress_callback=hear)
        assert not result.is_error, said(result)
        assert result.structured_content is not None
        assert result.structured_content["status"] == "success"
    assert heard
    assert "pending" in str(heard[0])


# -- several nodes


async def test_several_nodes_have_names(
    asyd: Daemon, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running(tmp_path_factory.mktemp("second"), agents={AGENT: "a caps=core"}) as second:
        desk = Desk(tmp_path, asyd, second, key=AGENT)
        one, two = desk.nodes
        async with desk.stdio("--allow-changes", says=yes) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert tools["sys_status"].input_schema["properties"]["node"]["enum"] == [one, two]
            assert tools["proc_throttle"].input_schema["properties"]["node"]["enum"] == [one]
            for node in (one, two):
                assert not (await client.call_tool("sys_hello", {"node": node})).is_error
            assert (await client.call_tool("sys_hello", {})).is_error
            with waiting() as child:
                arguments = {"pid": child.pid, "action": "stop", "node": two}
                assert (await client.call_tool("proc_throttle", arguments)).is_error
                assert state(child.pid) != "T"
                arguments["node"] = one
                assert not (await client.call_tool("proc_throttle", arguments)).is_error
                suspended(child.pid)


async def test_a_node_that_cannot_be_reached_does_not_hold_up_the_others(
    asyd: Daemon, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running(tmp_path_factory.mktemp("second"), agents={AGENT: "a caps=core"}) as second:
        desk = Desk(tmp_path, asyd, second, key=AGENT)
        one, two = desk.nodes
    with socket.socket() as nobody_else:
        nobody_else.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        nobody_else.bind(second.endpoint)  # and does not listen
        async with desk.stdio() as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert tools["sys_status"].input_schema["properties"]["node"]["enum"] == [one]
    assert f"asys-mcp: {two}: cannot reach" in desk.log.read_text()


def test_where_no_node_takes_this_agent_it_does_not_start(asyd: Daemon, tmp_path: Path) -> None:
    desk = Desk(tmp_path, asyd, key=STRANGER)
    done = desk.run()
    assert done.returncode == 3
    assert done.stdout == ""
    assert f"asys-mcp: {desk.nodes[0]}: " in done.stderr
