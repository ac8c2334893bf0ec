"""Memory that runs out within a request costs that request, and nothing else."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from asys.isa import SYS_CAPS
from asys.node import connection, dispatch, sampler, session
from support.frames import CAPS, HELLO, OK, STATUS, pid_payload
from support.node_rig import Rig, RigAgent

NO_MEMORY = b"\x6f\x01"


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    await made.close()


def fails(*_: object, **__: object) -> Any:
    raise MemoryError


class Speechless(logging.Logger):
    """Has no memory for a line of the log."""

    makeRecord = fails


def speechless(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on nothing can be logged."""
    for module in (connection, dispatch, session, sampler):
        monkeypatch.setattr(module, "_log", Speechless("asyd", logging.INFO))


async def answers(rig: Rig, agent: RigAgent, count: int) -> list[bytes]:
    """So many responses, as they come."""
    found: list[bytes] = []

    def come() -> bool:
        found.extend(agent.responses())
        return len(found) == count

    await rig.until(come)
    return found


class FailsToParse:
    """SYS_CAPS, for whose request there is no memory."""

    def __getattr__(self, name: str) -> Any:
        return fails if name == "parse" else getattr(SYS_CAPS, name)


class FailsToSeal:
    """A session's channel, where there is no memory for an answer."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self.seal = fails

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)


def forgetful(agent: RigAgent) -> None:
    """There is no memory for the answers of a session."""
    one: Any = agent.session
    one._channel = FailsToSeal(one._channel)


@pytest.mark.parametrize("logged", [True, False])
@pytest.mark.parametrize("where", ["handler", "parse", "record"])
async def test_the_request_is_answered_and_the_session_goes_on(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, where: str, logged: bool
) -> None:
    agent = rig.session()
    table = agent.session.grant.table
    entry = table[0]
    if where == "handler":
        monkeypatch.setattr(rig.node, "caps_reply", fails)
    else:
        broken: Any = FailsToParse()
        table[0] = dispatch._gate(broken, dispatch._HANDLERS[0]) if where == "parse" else fails
    if not logged:
        speechless(monkeypatch)
    caps, hello = agent.ask(CAPS, HELLO)
    assert caps == NO_MEMORY
    assert hello[-2:] == OK
    table[0] = entry
    monkeypatch.undo()
    assert agent.ask(CAPS)[0][-2:] == OK


@pytest.mark.parametrize("logged", [True, False])
async def test_so_does_one_that_has_its_answer_later(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, logged: bool
) -> None:
    agent = rig.session()
    assert rig.node.trees is not None
    monkeypatch.setattr(rig.node.trees, "tree", fails)
    if not logged:
        speechless(monkeypatch)
    agent.send(agent.signed(0x42, pid_payload(os.getpid())), HELLO)
    tree, hello = await answers(rig, agent, 2)
    assert tree == NO_MEMORY
    assert hello[-2:] == OK


@pytest.mark.parametrize("logged", [True, False])
@pytest.mark.parametrize("later", [False, True])
async def test_an_answer_that_is_lost_ends_its_session_and_no_other(
    rig: Rig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    later: bool,
    logged: bool,
) -> None:
    """There was no memory to seal it: the answer to another request must not take its place."""
    agent, other = rig.session(), rig.session()
    forgetful(agent)
    if not logged:
        speechless(monkeypatch)
    agent.send(agent.signed(0x42, pid_payload(os.getpid())) if later else CAPS, HELLO)
    await rig.until(lambda: agent.transport.over)
    assert agent.responses() == []
    assert rig.node.session_count == 1
    monkeypatch.undo()
    assert other.ask(HELLO)[0][-2:] == OK
    assert ("MemoryError" in caplog.text) is logged


@pytest.mark.parametrize("logged", [True, False])
async def test_the_sampler_goes_on(rig: Rig, monkeypatch: pytest.MonkeyPatch, logged: bool) -> None:
    """Each of its parts is tried again, though it could not even be said that it failed."""
    agent = rig.session()
    agent.send(STATUS)
    await answers(rig, agent, 1)
    with monkeypatch.context() as patch:
        patch.setattr(rig.node.sampler._vitals, "read", fails)
        patch.setattr(rig.node.sampler._table, "scan", fails)
        if not logged:
            speechless(patch)
        rig.advance(3)
        agent.send(STATUS)
        assert await answers(rig, agent, 1) == [NO_MEMORY]
    rig.advance(3)
    agent.send(STATUS)
    [status] = await answers(rig, agent, 1)
    assert status[-2:] == OK
