"""docs/guides/fleet.md: its inventory can be read, its commands exist, and its code runs."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import types
from pathlib import Path

import pytest

import asys
from asys import isa
from asys.cli.agent import parser
from asys.fleet import Inventory
from asys.fleet.fleet import DEADLINE
from asys.fleet.lanes import CONCURRENCY, HANDOVER
from support.fleet_nodes import FleetNodes

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "fleet.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return [str(one) for one in re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)]


def inventory() -> Inventory:
    [text] = blocks("toml")
    return Inventory.parse(text, Path("/etc/asys/fleet.toml"))


def test_the_inventory_is_one() -> None:
    db1, db2, web1 = inventory()

    assert (db1.deadline, db1.labels) == (3, {"env": "prod", "role": "db"})
    assert db2.known_hosts == Path("/etc/asys/known_hosts")
    assert web1.identity == Path("/etc/asys/web-agent")
    assert [one.name for one in inventory().select("role=db,env=prod")] == ["db1"]
    assert [one.name for one in inventory().select("name=db1")] == ["db1"]


def test_the_commands_can_be_read() -> None:
    [text] = blocks("sh")
    for line in text.splitlines():
        asys_, *words = shlex.split(line)
        assert asys_ == "asys"
        assert parser(words).parse_args(words).command == "fleet"


def test_its_numbers_are_those_of_the_code() -> None:
    assert f"(`deadline=`, {DEADLINE:g} s)" in GUIDE
    assert f"`concurrency=` ({CONCURRENCY})" in GUIDE
    assert f"after {HANDOVER:g} s" in GUIDE


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with a key of her own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    asys.Identity.create()
    return tmp_path


async def test_the_code_runs(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = inventory()
    async with FleetNodes(*(one.name for one in listed)) as nodes:
        lines = []
        for one in listed:
            node = nodes[one.name]
            lines += [f"[nodes.{one.name}]", f'host = "{node.host}"', f"port = {node.port}"]
            lines += [f'key = "{node.key.public.hex()}"']
            lines += [f'labels.{label} = "{value}"' for label, value in one.labels.items()]
        (home / ".asys" / "fleet.toml").write_text("\n".join(lines))
        for block in blocks("python"):
            code = compile(block, "fleet.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            running = types.FunctionType(code, {})()
            assert inspect.isawaitable(running)
            await running
        said = capsys.readouterr().out
        assert "db1 97 %" in said
        assert "this would touch: 4711@db1, 4711@db2" in said
        orders = [
            frame.p1
            for node in nodes.nodes.values()
            for peer in node.peers
            for frame in peer.frames
            if frame.ins == isa.PROC_THROTTLE.code
        ]
        assert orders == [isa.ThrottleAction.STOP] * 2
