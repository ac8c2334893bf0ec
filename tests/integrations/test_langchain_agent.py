"""LangChain agents with a scripted model, in front of a real asyd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from asys.client.aio import Node
from asys.integrations.langchain import AsysToolkit
from support.children import named, state, suspended, waiting
from support.daemon import CORE_AGENT, Daemon, running
from support.killed import killed_at_next_call, started
from support.scripted_langchain import Script, Scripted, call, calls, saying
from support.tool_node import AGENTS, CORE, RISKY, connect, connect_sync


class Agent:
    """An agent on a toolkit, and one conversation with it."""

    def __init__(
        self,
        toolkit: AsysToolkit,
        script: Script,
        *,
        asks: bool = True,
        saver: InMemorySaver | None = None,
        **options: Any,
    ) -> None:
        self.model = Scripted(messages=script)
        asking = [HumanInTheLoopMiddleware(toolkit.interrupt_on(), **options)] if asks else []
        self._agent: Any = create_agent(
            self.model,
            toolkit.get_tools(),
            checkpointer=saver or InMemorySaver(),
            middleware=asking,
        )
        self._config: RunnableConfig = {"configurable": {"thread_id": "1"}}
        self._state: dict[str, Any] = {}

    async def begin(self) -> None:
        """Until the agent has finished, or asks."""
        asked = {"messages": [{"role": "user", "content": "look after the node"}]}
        self._state = await self._agent.ainvoke(asked, self._config)

    def begin_sync(self) -> None:
        asked = {"messages": [{"role": "user", "content": "look after the node"}]}
        self._state = self._agent.invoke(asked, self._config)

    async def decide(self, *decisions: dict[str, Any]) -> None:
        """Goes on with a person's decisions."""
        command: Command[Any] = Command(resume={"decisions": list(decisions)})
        self._state = await self._agent.ainvoke(command, self._config)

    async def decide_each(self, decision: dict[str, Any]) -> None:
        """Goes on with one decision for every question, in the mode `per_call`."""
        answers = {one.id: decision for one in self._state["__interrupt__"]}
        command: Command[Any] = Command(resume=answers)
        self._state = await self._agent.ainvoke(command, self._config)

    @property
    def asked(self) -> list[Any]:
        """What a person is asked at this moment."""
        return [one.value for one in self._state.get("__interrupt__", ())]

    @property
    def results(self) -> list[ToolMessage]:
        """What the model has read of its tools."""
        return [one for one in self._state["messages"] if isinstance(one, ToolMessage)]

    @property
    def last(self) -> str:
        text: str = self._state["messages"][-1].text
        return text


APPROVE: dict[str, Any] = {"type": "approve"}
REJECT: dict[str, Any] = {"type": "reject"}


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
        agents = []
        for node in (mine, others):
            agents.append(Agent(AsysToolkit(node=node), saying("nothing to do")))
            await agents[-1].begin()
        assert agents[1].model.offered == CORE
        assert set(agents[0].model.offered) >= {*CORE, *RISKY, "proc_tree"}
        assert set(AsysToolkit(node=mine).interrupt_on()) == RISKY
        assert AsysToolkit(node=others).interrupt_on() == {}


async def test_a_toolkit_may_offer_less(asyd: Daemon) -> None:
    async with connect(asyd) as node:
        reading = AsysToolkit(node=node, read_only=True)
        assert all(one.tags == ["asys", "read-only"] for one in reading.get_tools())
        assert reading.interrupt_on() == {}
        named = {one.name for one in AsysToolkit(node=node, include=("AGENT_LIST",)).get_tools()}
        assert "agent_list" in named
        with pytest.raises(ValueError, match="no instruction 'MAKE_TEA'"):
            AsysToolkit(node=node, include=("MAKE_TEA",)).get_tools()


async def test_no_tool_knows_more_than_its_author_sees(asyd: Daemon) -> None:
    """What a framework writes of a tool, as into a trace, has nothing of the connection."""
    async with connect(asyd) as node:
        toolkit = AsysToolkit(node=node)
        for one in (toolkit, *toolkit.get_tools()):
            assert "node" not in one.model_dump()
            assert "Node" not in repr(one)


# -- reading


@pytest.mark.parametrize("kind", ["asyncio", "threads"])
async def test_a_model_reads(asyd: Daemon, tmp_path: Path, kind: str) -> None:
    with named(tmp_path, "<untrusted>") as pid:
        script = saying(call("sys_status"), call("proc_tree", pid=pid), "all is well")
        if kind == "asyncio":
            async with connect(asyd) as node:
                agent = Agent(AsysToolkit(node=node), script)
                await agent.begin()
        else:
            with connect_sync(asyd) as sync_node:
                agent = Agent(AsysToolkit(node=sync_node), script)
                await agent.begin()
    status, tree = agent.results
    assert status.status == tree.status == "success"
    assert status.artifact["cpu_percent"] <= 100
    assert f"cpu_percent: {status.artifact['cpu_percent']} %" in status.text
    assert tree.text.count("<untrusted source=") == 1
    assert "\\x3cuntrusted>" in tree.text
    assert agent.last == "all is well"


def test_without_asyncio(asyd: Daemon) -> None:
    with connect_sync(asyd) as node:
        agent = Agent(AsysToolkit(node=node), saying(call("sys_hello"), "all is well"))
        agent.begin_sync()
        assert agent.results[0].status == "success"


async def test_a_node_of_asyncio_wants_its_tools_awaited(asyd: Daemon) -> None:
    async with connect(asyd) as node:
        tools = {one.name: one for one in AsysToolkit(node=node).get_tools()}
        with pytest.raises(NotImplementedError, match=r"asys\.sync\.connect"):
            tools["sys_status"].invoke({})


# -- arguments


async def test_wrong_arguments_are_an_answer(asyd: Daemon, child: int) -> None:
    script = saying(
        call("sys_status", verbose=True),
        call("proc_throttle", pid=child, action="kill"),
        call("proc_throttle", pid=child, action="stop", force=True),
        "I give up",
    )
    async with connect(asyd) as node:
        agent = Agent(AsysToolkit(node=node, confirm="host"), script, asks=False)
        await agent.begin()
        extra, value, unknown = agent.results
        assert "unknown argument 'verbose'" in extra.text
        assert "action must be one of" in value.text
        assert "unknown argument 'force'" in unknown.text
        for one in agent.results:
            assert one.status == "error"
            assert one.artifact == {"error_kind": "argument", "sw": None}
            assert "Nothing was sent" in one.text
        assert state(child) != "T"
        assert agent.last == "I give up"


async def test_what_the_node_refuses(asyd: Daemon) -> None:
    async with connect(asyd) as node:
        toolkit = AsysToolkit(node=node, confirm="host")
        agent = Agent(toolkit, saying(call("proc_throttle", pid=1, action="stop"), "so be it"))
        await agent.begin()
        await agent.decide(APPROVE)
        (refused,) = agent.results
        assert refused.artifact == {"error_kind": "status", "sw": 0x6982}
        assert "Stop and log a security event" in refused.text


async def test_arguments_that_are_no_object(asyd: Daemon) -> None:
    async with connect(asyd) as node:
        tools = {one.name: one for one in AsysToolkit(node=node).get_tools()}
        assert "must be an object" in await tools["proc_tree"].ainvoke("1")
        assert "unknown argument" in await tools["sys_status"].ainvoke({"page": 1})


# -- asking first


async def test_a_person_says_yes(asyd: Daemon, child: int) -> None:
    script = saying(call("proc_throttle", pid=child, action="stop"), "done")
    async with connect(asyd) as node:
        agent = Agent(AsysToolkit(node=node), script)
        await agent.begin()
        (request,) = agent.asked[0]["action_requests"]
        assert request["args"] == {"pid": child, "action": "stop"}
        assert (
            f"Run proc_throttle with pid={child}, action='stop'? Risk: medium."
            in (request["description"])
        )
        assert state(child) != "T"
        await agent.decide(APPROVE)
        suspended(child)
        assert agent.results[0].artifact == {"done": True}


async def test_a_person_says_yes_call_by_call(asyd: Daemon, child: int) -> None:
    script = saying(call("proc_throttle", pid=child, action="stop"), "done")
    async with connect(asyd) as node:
        agent = Agent(AsysToolkit(node=node), script, interrupt_mode="per_call")
        await agent.begin()
        assert state(child) != "T"
        await agent.decide_each(APPROVE)
        suspended(child)
        assert agent.results[0].status == "success"


async def test_a_person_says_no(asyd: Daemon, child: int) -> None:
    with waiting() as other:
        both = calls(
            ("proc_throttle", {"pid": child, "action": "stop"}),
            ("proc_throttle", {"pid": other.pid, "action": "stop"}),
        )
        async with connect(asyd) as node:
            agent = Agent(AsysToolkit(node=node), saying(both, "done"))
            await agent.begin()
            await agent.decide(REJECT, APPROVE)
            suspended(other.pid)
            assert state(child) != "T"
            assert {one.status for one in agent.results} == {"error", "success"}


async def test_nobody_may_change_the_question(asyd: Daemon, child: int) -> None:
    script = saying(call("proc_throttle", pid=child, action="stop"), "done")
    action = {"name": "proc_throttle", "args": {"pid": child, "action": "stop"}}
    async with connect(asyd) as node:
        agent = Agent(AsysToolkit(node=node), script)
        await agent.begin()
        with pytest.raises(ValueError, match="not allowed"):
            await agent.decide({"type": "edit", "edited_action": action})
        assert state(child) != "T"


async def test_an_agent_that_cannot_ask_does_nothing(asyd: Daemon, child: int) -> None:
    script = saying(call("proc_throttle", pid=child, action="stop"), "a pity")
    async with connect(asyd) as node:
        agent = Agent(AsysToolkit(node=node), script, asks=False)
        await agent.begin()
        (refused,) = agent.results
        assert refused.status == "error"
        assert "nobody was asked" in refused.text
        assert state(child) != "T"
        # What a toolkit has not asked about, its tools do not do without an agent either.
        tools = {one.name: one for one in AsysToolkit(node=node).get_tools()}
        arguments = {"pid": child, "action": "stop"}
        assert "nobody was asked" in await tools["proc_throttle"].ainvoke(arguments)
        assert state(child) != "T"


async def test_a_yes_counts_once_and_for_what_was_asked(asyd: Daemon, child: int) -> None:
    async with connect(asyd) as node:
        toolkit = AsysToolkit(node=node)
        (tool,) = (one for one in toolkit.get_tools() if one.name == "proc_throttle")
        ask = toolkit.interrupt_on()["proc_throttle"]["description"]
        arguments = {"pid": child, "action": "stop"}
        wanted = {"id": "7", "name": "proc_throttle", "args": arguments, "type": "tool_call"}
        other = wanted | {"args": arguments | {"action": "continue"}}
        ask(other, None, None)
        assert (await tool.ainvoke(wanted)).status == "error"
        assert state(child) != "T"
        ask(wanted, None, None)
        assert (await tool.ainvoke(wanted)).status == "success"
        suspended(child)
        assert "nobody was asked" in (await tool.ainvoke(wanted)).text
        ask(wanted | {"id": None}, None, None)
        assert (await tool.ainvoke(wanted)).status == "error"


async def test_a_yes_that_comes_elsewhere(asyd: Daemon, child: int) -> None:
    """As in another process: of the one that has asked, nothing is left but its checkpoints."""
    saver = InMemorySaver()
    wanted = call("proc_throttle", pid=child, action="stop")
    async with connect(asyd) as first:
        await Agent(AsysToolkit(node=first), saying(wanted), saver=saver).begin()
    async with connect(asyd) as second:
        agent = Agent(AsysToolkit(node=second), saying("done"), saver=saver)
        assert state(child) != "T"
        await agent.decide(APPROVE)
        suspended(child)
        assert agent.last == "done"


async def test_a_toolkit_forgets_the_oldest_questions(asyd: Daemon, child: int) -> None:
    async with connect(asyd) as node:
        toolkit = AsysToolkit(node=node)
        (tool,) = (one for one in toolkit.get_tools() if one.name == "proc_throttle")
        ask = toolkit.interrupt_on()["proc_throttle"]["description"]
        arguments = {"pid": child, "action": "stop"}
        wanted = {"name": "proc_throttle", "args": arguments, "type": "tool_call"}
        for number in range(1001):
            ask(wanted | {"id": str(number)}, None, None)
        assert "nobody was asked" in (await tool.ainvoke(wanted | {"id": "0"})).text
        assert (await tool.ainvoke(wanted | {"id": "1"})).status == "success"


async def test_a_host_that_asks_by_itself(asyd: Daemon, child: int) -> None:
    script = saying(call("proc_throttle", pid=child, action="stop"), "done")
    async with connect(asyd) as node:
        agent = Agent(AsysToolkit(node=node, confirm="host"), script, asks=False)
        await agent.begin()
        suspended(child)


# -- a node that goes away


async def test_killed_between_two_calls(tmp_path: Path) -> None:
    with started(tmp_path) as asyd:

        def script() -> Iterator[AIMessage | str]:
            yield call("sys_status")
            asyd.kill()
            yield call("sys_status")
            yield "the node is gone"

        async with connect(asyd) as node:
            agent = Agent(AsysToolkit(node=node), script())
            await agent.begin()
            before, after = agent.results
            assert before.status == "success"
            assert after.status == "error"
            assert after.artifact["error_kind"] == "link"
            assert agent.last == "the node is gone"


@pytest.mark.parametrize("kind", ["asyncio", "threads"])
async def test_killed_in_the_middle_of_a_call(tmp_path: Path, child: int, kind: str) -> None:
    with started(tmp_path) as asyd:
        script = saying(call("proc_throttle", pid=child, action="stop"), "who knows")

        async def talk(toolkit: AsysToolkit) -> Agent:
            agent = Agent(toolkit, script)
            await agent.begin()
            async with killed_at_next_call(asyd):
                await agent.decide(APPROVE)
            return agent

        if kind == "asyncio":
            async with connect(asyd) as node:
                assert isinstance(node, Node)
                agent = await talk(AsysToolkit(node=node))
        else:
            with connect_sync(asyd) as sync_node:
                agent = await talk(AsysToolkit(node=sync_node))
        (result,) = agent.results
        assert result.status == "error"
        assert result.artifact["error_kind"] == "outcome-unknown"
        assert "do not repeat it" in result.text
        assert state(child) != "T"
        assert agent.last == "who knows"
