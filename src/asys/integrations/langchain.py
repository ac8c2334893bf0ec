"""ASys in LangChain (docs/guides/langchain.md). Needs the extra `asys[langchain]`.

toolkit = AsysToolkit(node=node)
agent = create_agent(model, toolkit.get_tools(), checkpointer=InMemorySaver(),
                     middleware=[HumanInTheLoopMiddleware(toolkit.interrupt_on())])
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal, TypedDict

try:
    from langchain_core.messages import ToolMessage
    from langchain_core.runnables.config import run_in_executor
    from langchain_core.tools import BaseTool, BaseToolkit, ToolException
    from pydantic import ConfigDict, Field, PrivateAttr
except ModuleNotFoundError as error:
    from asys.integrations.extras import missing

    raise missing("langchain", error) from error

from asys.client import aio, blocking
from asys.integrations.asking import Question
from asys.integrations.offering import specs_of
from asys.isa import Risk
from asys.tools import ToolResult, ToolSpec, run, run_sync
from asys.tools.models import parameters_model
from asys.vendor.definition import Vendor

_MOST_ASKED: Final = 1000
"""Questions that a toolkit remembers; what a person has turned down is never taken out."""


Told = tuple[str | ToolMessage, dict[str, Any]]
"""Content and artifact."""


class Interrupt(TypedDict):
    """How HumanInTheLoopMiddleware asks about one tool."""

    allowed_decisions: list[Literal["approve", "edit", "reject", "respond"]]
    description: Callable[[Any, Any, Any], str]


class Asked:
    """The tool calls that a person has been asked about, until they run."""

    def __init__(self) -> None:
        self._calls: OrderedDict[str, tuple[str, Any]] = OrderedDict()

    def question(self, spec: ToolSpec, call: Any, _state: Any, _runtime: Any) -> str:
        """What a person reads; the middleware asks for it whenever it interrupts for a call."""
        arguments = copy.deepcopy(call["args"])
        if call["id"] is not None:
            self._calls[call["id"]] = (spec.name, arguments)
            while len(self._calls) > _MOST_ASKED:
                self._calls.popitem(last=False)
        return str(Question(spec, arguments))

    def take(self, spec: ToolSpec, call_id: str | None, arguments: Any) -> bool:
        """Whether somebody was asked about this call, with these arguments. It counts once."""
        return call_id is not None and self._calls.pop(call_id, None) == (spec.name, arguments)


class AsysTool(BaseTool):
    """One tool on one node. Its artifact is the result as data, as `spec.result_schema` says.

    A failure is a tool message with status `error`, whose text says what to do; its artifact has
    `error_kind` (see asys.tools.ErrorKind) and `sw`, the status word or None.
    """

    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: Any = True

    spec: ToolSpec = Field(exclude=True, repr=False)
    node: aio.Node | blocking.Node = Field(exclude=True, repr=False)
    asked: Asked | None = Field(default=None, exclude=True, repr=False)
    """Where a tool that may do harm looks whether a person was asked; None: it does not look."""

    def _to_args_and_kwargs(
        self, tool_input: str | dict[str, Any], tool_call_id: str | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        # As the model wrote them: `run` checks them all. The class above lets pass what a tool
        # without arguments does not have.
        if not isinstance(tool_input, dict):
            raise ToolException(f"{self.name}: the arguments must be an object. Nothing was sent.")
        return (dict(tool_input), tool_call_id), {}

    def _run(self, arguments: dict[str, Any], call_id: str | None) -> Told:
        if isinstance(self.node, aio.Node):
            raise NotImplementedError(
                "the node is one of asyncio, so await its tools (ainvoke, astream); for code "
                "without asyncio connect with asys.sync.connect"
            )
        self._insist(call_id, arguments)
        return self._told(run_sync(self.node, self.spec, arguments), call_id)

    async def _arun(self, arguments: dict[str, Any], call_id: str | None) -> Told:
        if isinstance(self.node, blocking.Node):
            return await run_in_executor(None, self._run, arguments, call_id)
        self._insist(call_id, arguments)
        return self._told(await run(self.node, self.spec, arguments), call_id)

    def _insist(self, call_id: str | None, arguments: dict[str, Any]) -> None:
        """Returns where a person was asked, or need not be."""
        if self.asked is None or not self.spec.asks_first:
            return
        if not self.asked.take(self.spec, call_id, arguments):
            raise ToolException(
                f"{self.name}: this needs a person's yes, and nobody was asked. Nothing was done. "
                "The agent needs HumanInTheLoopMiddleware(toolkit.interrupt_on())."
            )

    def _told(self, result: ToolResult, call_id: str | None) -> Told:
        if result.ok:
            return result.text, result.data
        if call_id is None:
            raise ToolException(result.text)
        kind = None if result.error_kind is None else result.error_kind.value
        fault = {"error_kind": kind, "sw": result.sw}
        message = ToolMessage(
            result.text, artifact=fault, tool_call_id=call_id, name=self.name, status="error"
        )
        return message, fault


class AsysToolkit(BaseToolkit):
    """The tools for what an agent holds on a node: `get_tools`.

    `node` comes of `asys.connect`, for tools that are awaited, or of `asys.sync.connect`, for both
    kinds. `risk`, `read_only`, `include` and `vendors` as `asys.tools.offered` has them. `prefix`
    is for an agent on several nodes: the tools are then called `<prefix>_sys_status` and so on.

    A tool that may do harm runs only when HumanInTheLoopMiddleware with this toolkit's
    `interrupt_on` has asked about that very call. `confirm="host"`: the host asks by other means,
    and the tools do not look.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    node: aio.Node | blocking.Node = Field(exclude=True, repr=False)
    prefix: str = ""
    risk: Risk = Risk.HIGH
    read_only: bool = False
    include: tuple[str, ...] = ()
    vendors: tuple[Vendor, ...] = ()
    confirm: Literal["interrupt", "host"] = "interrupt"

    _asked: Asked = PrivateAttr(default_factory=Asked)

    def get_tools(self) -> list[BaseTool]:
        """The tools for what exists for this agent on the node now.

        ValueError: `prefix` or `include` is wrong, and how.
        """
        return [self._tool(spec) for spec in self._specs()]

    def interrupt_on(self) -> dict[str, Any]:
        """What HumanInTheLoopMiddleware takes: the tools to ask about, approve or reject."""
        return {
            spec.name: Interrupt(
                allowed_decisions=["approve", "reject"],
                description=partial(self._asked.question, spec),
            )
            for spec in self._specs()
            if spec.asks_first
        }

    def _specs(self) -> tuple[ToolSpec, ...]:
        return specs_of(
            self.node,
            prefix=self.prefix,
            risk=self.risk,
            read_only=self.read_only,
            include=self.include,
            vendors=self.vendors,
        )

    def _tool(self, spec: ToolSpec) -> AsysTool:
        return AsysTool(
            name=spec.name,
            description=spec.description,
            args_schema=parameters_model(spec),
            tags=["asys", "read-only" if spec.read_only else "changes"],
            metadata={
                "risk": spec.risk.value,
                "read_only": spec.read_only,
                "reversible": spec.reversible,
                "asks_first": spec.asks_first,
            },
            spec=spec,
            node=self.node,
            asked=self._asked if self.confirm == "interrupt" else None,
        )
