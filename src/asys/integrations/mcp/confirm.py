"""Asking a person before a tool does something that may do harm.

The question names the tool, the node and every argument, and an answer counts for that question
only. Whatever is no plain yes is a no.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Any, Final

from mcp.server.mcpserver import (
    AcceptedElicitation,
    Context,
    Elicit,
    ElicitationResult,
)
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from asys.tools import ToolSpec

CONTEXT: Final = "mcp_context"
CONFIRMED: Final = "mcp_confirmed"
"""Parameters of a tool's function that no instruction has."""


class Confirm(StrEnum):
    """Who asks before a risky tool runs."""

    ELICIT = "elicit"
    """The server, through the client, by MCP elicitation."""
    HOST = "host"
    """The host, by its own means; the server does not ask."""


class Confirmation(BaseModel):
    """What a person is asked."""

    confirm: bool = Field(description="Run it?")


class Unasked(ToolError):
    """Nobody could be asked."""


def question(spec: ToolSpec, node: str, arguments: Mapping[str, Any]) -> str:
    """What a person reads before the answer."""
    said = ", ".join(f"{name}={value!r}" for name, value in arguments.items()) or "no arguments"
    return (
        f"Run {spec.name} on {node} with {said}? Risk: {spec.risk}. "
        f"Side effects: {spec.instruction.guide.side_effects} Reversible: {spec.reversible}"
    )


def asking(
    spec: ToolSpec, names: list[str], node_of: Callable[[dict[str, Any]], str]
) -> Callable[..., Awaitable[Elicit[Confirmation]]]:
    """A resolver that asks; `names` are the tool's arguments, `node_of` takes the node's out."""

    async def ask(**given: Any) -> Elicit[Confirmation]:
        context: Context[Any, Any] = given.pop(CONTEXT)
        capabilities = context.client_capabilities
        elicitation = None if capabilities is None else capabilities.elicitation
        if elicitation is None or (elicitation.form is None and elicitation.url is not None):
            raise Unasked(
                "this needs a person's yes, and this MCP client cannot ask for it (it declares no "
                "elicitation). Nothing was done. Whoever runs asys-mcp can leave the question to "
                "the host with --confirm host."
            )
        node = node_of(given)
        return Elicit(question(spec, node, given), Confirmation)

    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(CONTEXT, kind, annotation=Context)]
    parameters += [inspect.Parameter(name, kind, annotation=Any) for name in names]
    ask.__dict__["__signature__"] = inspect.Signature(
        parameters, return_annotation=Elicit[Confirmation]
    )
    ask.__annotations__ = {one.name: one.annotation for one in parameters} | {
        "return": Elicit[Confirmation]
    }
    return ask


def insist(answer: ElicitationResult[Confirmation]) -> None:
    """Returns where a person has said yes. ToolError: anything else."""
    if isinstance(answer, AcceptedElicitation) and answer.data.confirm is True:
        return
    raise ToolError(
        "a person was asked and did not say yes. Nothing was done; do not ask again unless they "
        "tell you to."
    )
