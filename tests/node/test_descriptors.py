"""How many connections the descriptors leave room for."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import AsyncIterator

import pytest

from asys.node import descriptors
from asys.node.descriptors import LEAST, RESERVE, Descriptors, opened
from support.node_rig import Rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.close()


def limit(monkeypatch: pytest.MonkeyPatch, soft: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, soft))


def test_what_is_open_is_counted() -> None:
    before = opened()
    handles = [os.dup(0) for _ in range(5)]
    assert opened() == before + 5
    for handle in handles:
        os.close(handle)


def test_where_the_system_does_not_tell_nothing_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> list[str]:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "listdir", fail)
    assert opened() == 0


def test_connections_have_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "opened", lambda: 50)
    room = Descriptors()
    room.count(10)
    limit(monkeypatch, 1000)
    assert room.connections == 1000 - 40 - RESERVE
    limit(monkeypatch, 50)  # changed from outside
    assert room.connections == LEAST
    limit(monkeypatch, resource.RLIM_INFINITY)
    assert room.connections == sys.maxsize


async def test_a_newcomer_takes_the_place_of_one_who_has_said_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, 0)
    sessions = [rig.session() for _ in range(LEAST - 2)]
    first, second = rig.dial(), rig.connect()
    third = rig.dial()
    rig.run()
    assert (first.transport.over, second.transport.over) == (True, False)
    fourth = rig.dial()
    rig.run()
    assert third.transport.over  # and not one that has shown more
    rig.dial()
    rig.run()
    assert fourth.transport.over
    assert all(not one.transport.over for one in sessions)


async def test_where_all_are_sessions_a_newcomer_is_refused(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, 0)
    sessions = [rig.session() for _ in range(LEAST)]
    late = rig.dial()
    rig.run()
    assert late.transport.over
    sessions[0].transport.lose()
    assert not rig.dial().transport.over
