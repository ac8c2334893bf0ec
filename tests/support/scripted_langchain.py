"""A model of LangChain that says what its script says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from pydantic import Field

Script = Iterator[AIMessage | str]

_ids = count(1)


class Scripted(GenericFakeChatModel):
    """It says what its script says, and keeps the names of the tools that it was given."""

    offered: list[str] = Field(default_factory=list)

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Any:
        self.offered[:] = [one.name for one in tools]
        return self


def call(name: str, /, **arguments: Any) -> AIMessage:
    """A model's message that calls one tool."""
    return calls((name, arguments))


def calls(*wanted: tuple[str, dict[str, Any]]) -> AIMessage:
    """A model's message that calls several tools at once."""
    return AIMessage(
        "",
        tool_calls=[
            {"id": f"call-{next(_ids)}", "name": name, "args": arguments}
            for name, arguments in wanted
        ],
    )


def saying(*script: AIMessage | str) -> Script:
    """A script that is known from the beginning."""
    return iter(script)
