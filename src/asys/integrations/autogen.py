"""ASys in AutoGen (docs/guides/autogen.md). Needs the extra `asys[autogen]`.

agent = AssistantAgent("operator", model_client=client, tools=asys_tools(node, approve=ask))
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

try:
    from autogen_core import CancellationToken
    from autogen_core.tools import BaseTool
    from pydantic import BaseModel, Field
except ModuleNotFoundError as error:
    from asys.integrations.extras import missing

    raise missing("autogen", error) from error

from asys.client.aio import Node
from asys.integrations.asking import Question
from asys.integrations.offering import specs_of
from asys.isa import Risk
from asys.tools import ToolResult, ToolSpec, run
from asys.tools.models import parameters_model
from asys.vendor.definition import Vendor

Approve = Callable[[Question], bool | Awaitable[bool]]
"""Asks a person; only True is a yes, and it counts for that one call."""


class ToolFailed(Exception):
    """A tool gave no result; its text is for the model, `result` says why."""

    def __init__(self, result: ToolResult) -> None:
        super().__init__(result.text)
        self.result = result


class Outcome(BaseModel):
    """What a tool gave: a text for the model, and the same as data."""

    text: str
    data: dict[str, Any] = Field(description="as the tool's `spec.result_schema` says")


class AsysTool(BaseTool[BaseModel, Outcome]):
    """One tool on one node. A failure is ToolFailed, and PermissionError without a person's yes."""

    def __init__(self, node: Node, spec: ToolSpec, approve: Approve | None) -> None:
        super().__init__(parameters_model(spec), Outcome, spec.name, spec.description)
        self.spec = spec
        self._node = node
        self._approve = approve

    async def run(self, args: BaseModel, cancellation_token: CancellationToken) -> Outcome:
        """Runs it, after a person's yes where the tool may do harm."""
        work = asyncio.ensure_future(self._checked(args.model_dump(exclude_unset=True)))
        cancellation_token.link_future(work)
        return await work

    def return_value_as_string(self, value: Any) -> str:
        """What the model reads."""
        return value.text if isinstance(value, Outcome) else str(value)

    async def _checked(self, arguments: dict[str, Any]) -> Outcome:
        if self.spec.asks_first:
            await self._insist(Question(self.spec, arguments))
        result = await run(self._node, self.spec, arguments)
        if not result.ok:
            raise ToolFailed(result)
        return Outcome(text=result.text, data=result.data)

    async def _insist(self, question: Question) -> None:
        """Returns after a yes. PermissionError: there is none."""
        if self._approve is None:
            raise PermissionError(
                f"{self.name}: this needs a person's yes, and there is nobody to ask. Nothing was "
                "done."
            )
        answer = self._approve(question)
        if inspect.isawaitable(answer):
            answer = await answer
        if answer is not True:
            raise PermissionError(
                f"{self.name}: a person was asked and did not say yes. Nothing was done; do not "
                "ask again unless they tell you to."
            )


def asys_tools(
    node: Node,
    *,
    approve: Approve | None = None,
    prefix: str = "",
    risk: Risk = Risk.HIGH,
    read_only: bool = False,
    include: Iterable[str] = (),
    vendors: Sequence[Vendor] = (),
) -> list[AsysTool]:
    """The tools for what exists for this agent on the node now.

    `approve` is asked before a tool runs that may do harm; without it such a tool never runs.
    `prefix` is for an agent on several nodes: the tools are then called `<prefix>_sys_status` and
    so on. The others as `asys.tools.offered` has them. ValueError: `prefix` or `include` is wrong.
    """
    specs = specs_of(
        node, prefix=prefix, risk=risk, read_only=read_only, include=include, vendors=vendors
    )
    return [AsysTool(node, spec, approve) for spec in specs]
