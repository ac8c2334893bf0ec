"""docs/guides/long-lived-agents.md: its code runs against a real asyd, its numbers are right."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import asys
from asys.client.steady import NODE_IDLE
from support.children import resumed, suspended, waiting
from support.daemon import running

GUIDE = (Path(__file__).parents[2] / "docs/guides/long-lived-agents.md").read_text("utf-8")


def functions() -> dict[str, Any]:
    """What the code blocks define."""
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL):
        exec(compile(block, "long-lived-agents.md", "exec"), names)  # noqa: S102 the guide is ours
    return names


CODE = functions()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """Where an asyd listens that the agent of this user trusts, and that knows it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    identity = asys.Identity.create()
    with running(tmp_path, agents={identity.key: "agent caps=all"}) as node:
        asys.KnownHosts().add(*node.endpoint, node.key)
        yield node.endpoint


async def test_look(place: tuple[str, int]) -> None:
    assert await CODE["look"](*place) > 0


async def test_stop(place: tuple[str, int]) -> None:
    with waiting() as child:
        assert await CODE["stop"](*place, child.pid) == "stopped"
        await asyncio.to_thread(suspended, child.pid)
        async with asys.connect(*place) as node:
            await node.proc_throttle(child.pid, "continue")
            tree = await node.proc_tree(child.pid)
        await asyncio.to_thread(resumed, child.pid)
        assert CODE["state"](tree) != "T"


async def test_in_two_seconds(place: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    deadline = asys.deadline
    monkeypatch.setattr(asys, "deadline", lambda seconds: deadline(30 * seconds))  # a busy machine
    _, processes = await CODE["in_two_seconds"](*place)
    assert processes > 0


async def test_watch(place: tuple[str, int]) -> None:
    assert len(await CODE["watch"](*place)) == 3


async def test_observed(place: tuple[str, int], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "asys.client")
    await CODE["observed"](*place)
    [record] = [one for one in caplog.records if one.name == "asys.client"]
    assert vars(record)["asys_instruction"] == "SYS_HELLO"
    named = set(re.findall(r"`(asys_\w+)`", GUIDE))
    assert named <= set(vars(record))


def test_its_numbers_are_those_of_the_code() -> None:
    policy = asys.Reconnect()
    assert f"silent for {policy.silence:g} s" in GUIDE
    assert f"doubles from {policy.first:g} s to {policy.most:g} s" in GUIDE
    assert f"nothing for {NODE_IDLE:g} s" in GUIDE
    assert f"within={policy.within:g}" in GUIDE
    assert f"blocked={asys.Retry().blocked}, busy={asys.Retry().busy}" in GUIDE
