"""A model of Microsoft Agent Framework that says what its script says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

from agent_framework import (
    BaseChatClient,
    ChatResponse,
    Content,
    FunctionInvocationLayer,
    Message,
)

_ids = count(1)


class Scripted(FunctionInvocationLayer[Any], BaseChatClient[Any]):
    """It says what its script says, and keeps the names of the tools that it was given."""

    def __init__(self, script: Iterable[Content | str]) -> None:
        super().__init__()
        self.offered: list[str] = []
        self._script = iter(script)

    def _inner_get_response(self, *, messages: Sequence[Message], options: Any, **_: Any) -> Any:
        self.offered = [one.name for one in options.get("tools") or ()]
        return self._answer()

    async def _answer(self) -> ChatResponse:
        return ChatResponse(messages=Message(role="assistant", contents=[next(self._script)]))


def call(name: str, /, **arguments: Any) -> Content:
    """What a model says to call one tool."""
    return Content.from_function_call(call_id=str(next(_ids)), name=name, arguments=arguments)
