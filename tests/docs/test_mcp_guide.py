"""docs/guides/mcp.md: its options exist, and its examples are such."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

from asys.integrations.mcp.command import parser
from asys.integrations.mcp.http import PATH

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "mcp.md").read_text("utf-8")
OF_OTHERS = {"--label", "--caps", "--users", "--rate"}


def block(language: str) -> str:
    [found] = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    return str(found)


def test_every_option_exists_and_is_told() -> None:
    options = {name for action in parser()._actions for name in action.option_strings}
    told = set(re.findall(r"--[a-z][a-z-]+", GUIDE)) - OF_OTHERS
    assert told <= options
    assert options - told == {"-h", "--help", "--timeout"}


def test_the_desktop_host_s_file() -> None:
    [server] = json.loads(block("json"))["mcpServers"].values()
    given = parser().parse_args(server["args"])
    assert Path(server["command"]).name == "asys-mcp"
    assert given.allow_changes
    assert len(given.host) == 2


def test_python() -> None:
    compile(block("python"), "mcp.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert f"8765{PATH}`" in GUIDE
