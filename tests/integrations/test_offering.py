"""Tools of several nodes in one agent: each under the name that the model knows its node by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from asys_postgres.definition import VENDOR
from autogen_core import CancellationToken

from asys.integrations import agent_framework, autogen
from asys.integrations.langchain import AsysToolkit
from asys.integrations.offering import specs_of
from asys.isa import AnyInstruction, CapabilityMap, Instruction, Risk
from support.children import state, suspended, waiting
from support.daemon import Daemon, running
from support.tool_node import AGENTS, connect

DEFAULTS: dict[str, Any] = {"risk": Risk.HIGH, "read_only": False, "include": (), "vendors": ()}


@pytest.fixture(scope="module")
def asyd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("asyd"), agents=AGENTS) as daemon:
        yield daemon


async def test_a_prefix_is_part_of_every_name(asyd: Daemon) -> None:
    async with connect(asyd) as node:
        plain = [one.name for one in specs_of(node, prefix="", **DEFAULTS)]
        for names in (
            [one.name for one in specs_of(node, prefix="web1", **DEFAULTS)],
            [one.name for one in AsysToolkit(node=node, prefix="web1").get_tools()],
            [one.name for one in autogen.asys_tools(node, prefix="web1")],
            [one.name for one in agent_framework.asys_tools(node, prefix="web1")],
        ):
            assert names == [f"web1_{name}" for name in plain]
        for one in specs_of(node, prefix="web1", **DEFAULTS):
            assert one.description.startswith("On the node web1. ")


async def test_a_tool_asks_and_tells_by_its_own_name(asyd: Daemon) -> None:
    def yes(question: object) -> bool:
        assert str(question).startswith("Run web1_proc_throttle with ")
        return True

    async with connect(asyd) as node:
        toolkit = AsysToolkit(node=node, prefix="web1")
        assert "web1_proc_throttle" in toolkit.interrupt_on()
        tools = {one.name: one for one in autogen.asys_tools(node, prefix="web1", approve=yes)}
        with waiting() as child:
            assert state(child.pid) != "T"
            arguments = {"pid": child.pid, "action": "stop"}
            outcome = await tools["web1_proc_throttle"].run_json(arguments, CancellationToken())
            suspended(child.pid)
            assert outcome.text.startswith("web1_proc_throttle: done")


@pytest.mark.parametrize("prefix", ["1web", "web.example", "web 1", "_web", "a" * 25, "web1\n"])
async def test_a_prefix_that_is_no_name(asyd: Daemon, prefix: str) -> None:
    async with connect(asyd) as node:
        with pytest.raises(ValueError, match="must be a letter"):
            specs_of(node, prefix=prefix, **DEFAULTS)


def test_a_name_that_would_be_too_long() -> None:
    def node(*instructions: str) -> Any:
        return SimpleNamespace(capability_map=CapabilityMap.of(list(instructions)))

    one = VENDOR.instructions[0]
    long: AnyInstruction = Instruction(
        one.code,
        "PG_" + "X" * 45,
        request=one.request,
        reply=one.reply,
        guide=one.guide,
        level=one.level,
    )
    vendor = replace(VENDOR, instructions=(long,))
    options = DEFAULTS | {"vendors": (vendor,)}
    assert len(specs_of(node(f"{long.code:02X}"), prefix="a" * 15, **options)[0].name) == 64
    with pytest.raises(ValueError, match="take a shorter prefix"):
        specs_of(node(f"{long.code:02X}"), prefix="a" * 16, **options)
    assert specs_of(node("SYS_HELLO"), prefix="a" * 24, **options)


async def test_a_vendor_s_instructions_are_offered_where_they_are_lit(asyd: Daemon) -> None:
    lit: Any = SimpleNamespace(capability_map=CapabilityMap.of("core,vendor"))
    options = DEFAULTS | {"vendors": [VENDOR]}
    assert "pg_activity" in {one.name for one in specs_of(lit, prefix="", **options)}
    async with connect(asyd) as node:
        toolkit = AsysToolkit(node=node, vendors=(VENDOR,))
        assert toolkit.vendors[0] is VENDOR
        for names in (
            {one.name for one in toolkit.get_tools()},
            {one.name for one in autogen.asys_tools(node, vendors=[VENDOR])},
            {one.name for one in agent_framework.asys_tools(node, vendors=[VENDOR])},
        ):
            assert "sys_status" in names
            assert "pg_activity" not in names
