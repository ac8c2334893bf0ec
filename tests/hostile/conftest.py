"""A node under attack, and somebody who would notice if others had to suffer from it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.daemon import AGENT, CORE_AGENT, LOOPS, Daemon, running
from support.witness import Witness

AGENTS = {AGENT: "agent caps=all", CORE_AGENT: "other"}


@pytest.fixture(scope="session", params=LOOPS)
def asyd(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """One that is attacked again and again; at the end it must not have logged a fault."""
    directory = tmp_path_factory.mktemp("asyd")
    with running(directory, agents=AGENTS, prelude=LOOPS[request.param]) as daemon:
        yield daemon


@pytest.fixture
def node(asyd: Daemon) -> Iterator[Daemon]:
    """That one, while a well-behaved session asks it one thing after the other."""
    with Witness(asyd):
        yield asyd
