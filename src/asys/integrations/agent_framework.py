"""ASys in Microsoft Agent Framework (docs/guides/agent-framework.md).

Needs the extra `asys[agent-framework]`.

agent = Agent(client=client, tools=asys_tools(node))
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

try:
    from agent_framework import Content, FunctionTool
    from pydantic import BaseModel, ConfigDict, create_model
except ModuleNotFoundError as error:
    from asys.integrations.extras import missing

    raise missing("agent-framework", error) from error

from asys.client.aio import Node
from asys.integrations.offering import specs_of
from asys.isa import Risk
from asys.tools import ToolResult, ToolSpec, run
from asys.vendor.definition import Vendor


def asys_tools(
    node: Node,
    *,
    prefix: str = "",
    risk: Risk = Risk.HIGH,
    read_only: bool = False,
    include: Iterable[str] = (),
    vendors: Sequence[Vendor] = (),
) -> list[FunctionTool]:
    """The tools for what exists for this agent on the node now.

    A tool that may do harm has `approval_mode="always_require"`: the framework stops before it and
    gives a request in `response.user_input_requests`. A result is one text; its
    `additional_properties` have `ok`, `data`, `sw` and `error_kind` of the ToolResult, and
    `invoke(skip_parsing=True)` gives that itself.

    `prefix` is for an agent on several nodes: the tools are then called `<prefix>_sys_status` and
    so on. The others as `asys.tools.offered` has them. ValueError: `prefix` or `include` is wrong.
    """
    specs = specs_of(
        node, prefix=prefix, risk=risk, read_only=read_only, include=include, vendors=vendors
    )
    return [_tool(node, spec) for spec in specs]


def _tool(node: Node, spec: ToolSpec) -> FunctionTool:
    async def call(**arguments: Any) -> ToolResult:
        return await run(node, spec, arguments)

    return FunctionTool(
        name=spec.name,
        description=spec.description,
        func=call,
        input_model=_as_written(spec),
        approval_mode="always_require" if spec.asks_first else "never_require",
        result_parser=_content,
        additional_properties={
            "risk": spec.risk.value,
            "read_only": spec.read_only,
            "reversible": spec.reversible,
        },
    )


def _as_written(spec: ToolSpec) -> type[BaseModel]:
    """A model with the tool's schema that takes any arguments.

    `run` checks them all, and its answer says what is wrong with them; of what a model refuses, the
    framework tells "Argument parsing failed" and no more.
    """

    def replace(schema: dict[str, Any]) -> None:
        schema.clear()
        schema.update(spec.parameters)

    config = ConfigDict(extra="allow", json_schema_extra=replace)
    return create_model(f"{spec.name}_input", __config__=config)


def _content(result: ToolResult) -> list[Content]:
    """What the framework keeps of a result.

    A failure is a result too: an exception's text would not reach the model, and it is what says
    whether to try again.
    """
    text = result.text if result.ok else f"Error: {result.text}"
    known = {
        "ok": result.ok,
        "data": result.data,
        "sw": result.sw,
        "error_kind": None if result.error_kind is None else result.error_kind.value,
    }
    return [Content.from_text(text, additional_properties=known)]
