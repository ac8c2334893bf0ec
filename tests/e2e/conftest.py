"""A running asyd for tests that leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asys.node.tasks import SESSION_TASKS
from support.daemon import AGENT, CORE_AGENT, DEPLOYED_AGENT, DEPLOYED_CAPS, Daemon, running
from support.raw_agent import RawAgent
from support.supervised import FOR_EVER, supervisord


@pytest.fixture(scope="session")
def asyd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One that restarts services through a supervisord whose restarts stay pending."""
    programs = {f"service-{number}": "sleep infinity" for number in range(SESSION_TASKS + 1)}
    agents = {
        AGENT: "agent caps=all,vendor,B0",
        CORE_AGENT: "other",
        DEPLOYED_AGENT: f"deployed caps={DEPLOYED_CAPS}",
    }
    with (
        supervisord(programs, startsecs=FOR_EVER) as url,
        running(tmp_path_factory.mktemp("asyd"), "--supervisord", url, agents=agents) as daemon,
    ):
        yield daemon


@pytest.fixture(scope="session")
def portable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One that cannot hold processes."""
    agents = {AGENT: "agent caps=all", CORE_AGENT: "other"}
    with running(tmp_path_factory.mktemp("asyd"), "--portable", agents=agents) as daemon:
        yield daemon


@pytest.fixture
def agent(asyd: Daemon) -> Iterator[RawAgent]:
    """A session of an agent that is granted all there is."""
    with asyd.connect() as agent:
        yield agent


@pytest.fixture
def core_agent(asyd: Daemon) -> Iterator[RawAgent]:
    """A session of an agent that is granted nothing but `core`."""
    with asyd.connect(CORE_AGENT) as agent:
        yield agent
