"""Microsoft Agent Framework: an agent finds a runaway process and suspends it, after a yes.

Everything is real but the model, which is a script, and the person, which is one too: so this runs
offline. Needs asys[daemon,agent-framework] and no root. Exit status 1 when a step did not hold.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import count
from typing import Any

from agent_framework import (
    Agent,
    BaseChatClient,
    ChatResponse,
    Content,
    FunctionInvocationLayer,
    Message,
)
from ooda_stage import Model, Stage, person, run

from asys.integrations.agent_framework import asys_tools


class Scripted(FunctionInvocationLayer[Any], BaseChatClient[Any]):
    """In the place of a model's client: it answers as the script says."""

    def __init__(self, script: Model) -> None:
        super().__init__()
        self.function_invocation_configuration["max_iterations"] = 1000
        self._script = script
        self._numbers = count(1)

    def _inner_get_response(self, *, messages: Sequence[Message], **options: Any) -> Any:
        return self._answer(messages[-1])

    async def _answer(self, last: Message) -> ChatResponse:
        results = [one.result for one in last.contents if one.type == "function_result"]
        wanted = await self._script.decide(str(results[-1]) if results else "")
        if wanted is None:
            content: Content | str = "The node is well again."
        else:
            name, arguments = wanted
            content = Content.from_function_call(
                call_id=str(next(self._numbers)), name=name, arguments=arguments
            )
        return ChatResponse(messages=Message(role="assistant", contents=[content]))


async def ooda(stage: Stage) -> None:
    """Observe, orient, decide, act; the framework stops where a tool requires approval."""
    async with stage.connect() as node:
        tools = asys_tools(node)
        print(f"    tools:  {', '.join(tool.name for tool in tools)}")
        agent = Agent(client=Scripted(Model(stage.hog)), tools=tools)
        session = agent.create_session()
        response = await agent.run("The node is slow. Help it.", session=session)
        while response.user_input_requests:
            answers = []
            for request in response.user_input_requests:
                call = request.function_call
                arguments = call.parse_arguments() if call is not None else None
                yes = person(stage.hog, arguments or {})
                answers.append(request.to_function_approval_response(yes))
            response = await agent.run(Message(role="user", contents=answers), session=session)
        print(f"model:   {response.text}")


if __name__ == "__main__":
    sys.exit(run("ASys in Agent Framework: a model finds a runaway process and suspends it", ooda))
