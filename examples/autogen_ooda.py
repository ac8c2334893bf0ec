"""AutoGen: an agent finds a runaway process and suspends it, after a person's yes.

Everything is real but the model, which is a script, and the person, which is one too: so this runs
offline. Needs asys[daemon,autogen], autogen-agentchat, autogen-ext, and no root. Exit status 1 when
a step did not hold.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import count
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.messages import TextMessage
from autogen_core import FunctionCall
from autogen_core.models import (
    CreateResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    ModelFamily,
    ModelInfo,
    RequestUsage,
)
from autogen_ext.models.replay import ReplayChatCompletionClient
from ooda_stage import Model, Stage, person, run

from asys.integrations.asking import Question
from asys.integrations.autogen import asys_tools

TOOLS = ModelInfo(
    vision=False,
    function_calling=True,
    json_output=False,
    family=ModelFamily.UNKNOWN,
    structured_output=False,
)


class Scripted(ReplayChatCompletionClient):
    """In the place of a model's client: it answers as the script says."""

    def __init__(self, script: Model) -> None:
        super().__init__([], model_info=TOOLS)
        self._script = script
        self._numbers = count(1)

    async def create(self, messages: Sequence[LLMMessage], **options: Any) -> CreateResult:
        last = messages[-1]
        heard = last.content[0].content if isinstance(last, FunctionExecutionResultMessage) else ""
        wanted = await self._script.decide(heard)
        usage = RequestUsage(prompt_tokens=0, completion_tokens=0)
        if wanted is None:
            said = "The node is well again."
            return CreateResult(finish_reason="stop", content=said, usage=usage, cached=False)
        name, arguments = wanted
        call = FunctionCall(id=str(next(self._numbers)), name=name, arguments=json.dumps(arguments))
        return CreateResult(
            finish_reason="function_calls", content=[call], usage=usage, cached=False
        )


async def ooda(stage: Stage) -> None:
    """Observe, orient, decide, act; a person is asked wherever a tool may do harm."""

    async def ask(question: Question) -> bool:
        return person(stage.hog, question.arguments)

    async with stage.connect() as node:
        tools = asys_tools(node, approve=ask)
        print(f"    tools:  {', '.join(tool.name for tool in tools)}")
        agent = AssistantAgent(
            "operator",
            model_client=Scripted(Model(stage.hog)),
            tools=list(tools),
            max_tool_iterations=1000,
        )
        result = await agent.run(task="The node is slow. Help it.")
        last = result.messages[-1]
        print(f"model:   {last.content if isinstance(last, TextMessage) else last}")


if __name__ == "__main__":
    sys.exit(run("ASys in AutoGen: a model finds a runaway process and suspends it", ooda))
