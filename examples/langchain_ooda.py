"""LangChain: an agent finds a runaway process and suspends it, after a person's yes.

Everything is real but the model, which is a script, and the person, which is one too: so this runs
offline. Needs asys[daemon,langchain], langchain, and no root. Exit status 1 when a step did not
hold.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import count
from typing import Any
from uuid import uuid4

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from ooda_stage import Model, Stage, person, run

from asys.integrations.langchain import AsysToolkit


class Scripted(BaseChatModel):
    """In the place of a chat model: it answers as the script says."""

    script: Any
    numbers: Any

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Runnable[Any, AIMessage]:
        return self

    def _generate(self, *args: Any, **options: Any) -> ChatResult:
        raise NotImplementedError("this example awaits its agent")

    async def _agenerate(
        self, messages: list[BaseMessage], *args: Any, **options: Any
    ) -> ChatResult:
        last = messages[-1]
        wanted = await self.script.decide(last.text if isinstance(last, ToolMessage) else "")
        if wanted is None:
            answer = AIMessage("The node is well again.")
        else:
            name, arguments = wanted
            call = {"id": str(next(self.numbers)), "name": name, "args": arguments}
            answer = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=answer)])


async def ooda(stage: Stage) -> None:
    """Observe, orient, decide, act; a person is asked wherever the toolkit says so."""
    async with stage.connect() as node:
        toolkit = AsysToolkit(node=node)
        tools = toolkit.get_tools()
        print(f"    tools:  {', '.join(tool.name for tool in tools)}")
        agent: Any = create_agent(
            Scripted(script=Model(stage.hog), numbers=count(1)),
            tools,
            checkpointer=InMemorySaver(),
            middleware=[HumanInTheLoopMiddleware(toolkit.interrupt_on())],
        )
        config: RunnableConfig = {
            "configurable": {"thread_id": str(uuid4())},
            "recursion_limit": 1000,
        }
        asked: Any = {"messages": [{"role": "user", "content": "The node is slow. Help it."}]}
        while True:
            state = await agent.ainvoke(asked, config)
            if "__interrupt__" not in state:
                break
            decisions = [
                {"type": "approve" if person(stage.hog, request["args"]) else "reject"}
                for request in state["__interrupt__"][0].value["action_requests"]
            ]
            asked = Command(resume={"decisions": decisions})
        print(f"model:   {state['messages'][-1].text}")


if __name__ == "__main__":
    sys.exit(run("ASys in LangChain: a model finds a runaway process and suspends it", ooda))
