"""docs/guides of the agent frameworks: their code runs against a real asyd."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import asys
from asys.integrations.agent_framework import asys_tools
from asys.integrations.asking import Question
from asys.integrations.autogen import asys_tools as autogen_tools
from asys.integrations.langchain import AsysToolkit
from support import scripted_agent_framework, scripted_autogen, scripted_langchain
from support.children import state, suspended, waiting
from support.daemon import running

GUIDES = Path(__file__).parents[2] / "docs/guides"
EXAMPLES = Path(__file__).parents[2] / "examples"

Place = tuple[str, int]


def operate_of(name: str) -> Any:
    """The function that a guide shows."""
    [block] = re.findall(r"```python\n(.*?)```", (GUIDES / name).read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, name, "exec"), names)  # noqa: S102 the guide is ours
    return names["operate"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Where an asyd listens that the agent of this user trusts, and that knows it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    identity = asys.Identity.create()
    with running(tmp_path, agents={identity.key: "agent caps=all"}) as node:
        asys.KnownHosts().add(*node.endpoint, node.key)
        yield node.endpoint


@pytest.fixture
def child() -> Iterator[int]:
    with waiting() as process:
        yield process.pid


async def test_langchain(place: Place, child: int) -> None:
    asked: list[str] = []

    def ask(question: str) -> bool:
        asked.append(question)
        return len(asked) == 2

    call = scripted_langchain.call
    stop = {"pid": child, "action": "stop"}
    script = call("proc_throttle", **stop), call("proc_throttle", **stop), "well again"
    model = scripted_langchain.Scripted(messages=scripted_langchain.saying(*script))
    said = await operate_of("langchain.md")(model, *place, "help it", ask)
    assert said == "well again"
    assert len(asked) == 2
    suspended(child)


async def test_autogen(place: Place, child: int) -> None:
    asked: list[Question] = []

    async def ask(question: Question) -> bool:
        assert state(child) != "T"
        asked.append(question)
        return len(asked) == 2

    call = scripted_autogen.call
    stop = {"pid": child, "action": "stop"}
    script = call("proc_throttle", **stop), call("proc_throttle", **stop), "well again"
    model = scripted_autogen.saying(*script)
    said = await operate_of("autogen.md")(model, *place, "help it", ask)
    assert said == "well again"
    assert len(asked) == 2
    suspended(child)


async def test_agent_framework(place: Place, child: int) -> None:
    asked: list[str] = []

    def ask(tool: str, arguments: dict[str, Any]) -> bool:
        assert state(child) != "T"
        assert arguments == {"pid": child, "action": "stop"}
        asked.append(tool)
        return len(asked) == 2

    call = scripted_agent_framework.call
    stop = {"pid": child, "action": "stop"}
    script = call("proc_throttle", **stop), call("proc_throttle", **stop), "well again"
    model = scripted_agent_framework.Scripted(script)
    said = await operate_of("agent-framework.md")(model, *place, "help it", ask)
    assert said == "well again"
    assert asked == ["proc_throttle"] * 2
    suspended(child)


@pytest.mark.parametrize("name", ["langchain", "autogen", "agent-framework"])
def test_what_a_guide_names_exists(name: str) -> None:
    guide = (GUIDES / f"{name}.md").read_text("utf-8")
    [example] = re.findall(r"`examples/(\w+\.py)`", guide)
    assert (EXAMPLES / example).exists()
    parameters: dict[str, set[str]] = {
        "langchain": set(AsysToolkit.model_fields),
        "autogen": set(inspect.signature(autogen_tools).parameters),
        "agent-framework": set(inspect.signature(asys_tools).parameters),
    }
    told = set(re.findall(r"`(\w+)=", guide))
    assert told - {"approval_mode"} <= parameters[name]
    assert {"read_only", "risk", "include", "prefix"} <= told
