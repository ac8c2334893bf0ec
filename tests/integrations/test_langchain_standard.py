"""The standard suites of langchain-tests, for tools on a real asyd."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from langchain_core.tools import BaseTool
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests

from asys.integrations.langchain import AsysToolkit
from support.children import waiting
from support.daemon import running
from support.tool_node import AGENTS, connect_sync

Tools = dict[str, BaseTool]


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tools]:
    with (
        running(tmp_path_factory.mktemp("asyd"), agents=AGENTS) as daemon,
        connect_sync(daemon) as node,
    ):
        # These suites call tools without an agent, so there is nobody whom it could ask.
        toolkit = AsysToolkit(node=node, confirm="host")
        yield {one.name: one for one in toolkit.get_tools()}


@pytest.fixture(scope="module")
def child() -> Iterator[int]:
    with waiting() as process:
        yield process.pid


class OneTool:
    """What the suites want to know of a tool."""

    name: ClassVar[str]
    tools: Tools
    child: int

    @pytest.fixture(autouse=True)
    def _with(self, tools: Tools, child: int) -> None:
        self.tools = tools
        self.child = child

    @property
    def tool_constructor(self) -> BaseTool:
        return self.tools[self.name]


class Status(OneTool):
    """It takes nothing, and reads."""

    name = "sys_status"


class Throttle(OneTool):
    """It takes arguments, and may do harm."""

    name = "proc_throttle"

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"pid": self.child, "action": "stop"}


class Tree(OneTool):
    """Its result may hold text of anyone."""

    name = "proc_tree"

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"pid": self.child}


class TestStatusUnit(Status, ToolsUnitTests):
    pass


class TestStatusIntegration(Status, ToolsIntegrationTests):
    pass


class TestThrottleUnit(Throttle, ToolsUnitTests):
    pass


class TestThrottleIntegration(Throttle, ToolsIntegrationTests):
    pass


class TestTreeUnit(Tree, ToolsUnitTests):
    pass


class TestTreeIntegration(Tree, ToolsIntegrationTests):
    pass
