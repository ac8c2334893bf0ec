"""Over a limit the node refuses at once, and serves those whom it has as before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from asys.node.server import Limits
from asys.protocol.limits import MAGIC
from support.daemon import AGENT, CORE_AGENT, LOOPS, Daemon, running
from support.frames import BLOCKED, HELLO
from support.raw_agent import Ended, RawAgent

AGENTS = {AGENT: "agent", CORE_AGENT: "other"}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What a test opens, closed at its end."""
    with ExitStack() as stack:
        yield stack


def refused(daemon: Daemon) -> bool:
    """Whether a connection is closed before the node has said a word."""
    with daemon.dial() as agent:
        try:
            agent.write(MAGIC)
            agent.read()
        except (Ended, ConnectionError):
            return True
        return False


def sessions(stack: ExitStack, daemon: Daemon, count: int) -> list[RawAgent]:
    """So many that are confirmed."""
    agents = [stack.enter_context(daemon.connect()) for _ in range(count)]
    assert all(agent.alive() for agent in agents)
    return agents


def blocked(agent: RawAgent) -> bool:
    """Whether the answer to the first message is that there is no room, and the last one."""
    agent.send(HELLO, HELLO)
    return agent.final() == [BLOCKED]


def test_max_sessions(tmp_path: Path, stack: ExitStack) -> None:
    with running(tmp_path, "--max-sessions", "3", agents=AGENTS) as daemon:
        mine = sessions(stack, daemon, 3)
        for _ in range(5):
            assert refused(daemon)
            assert all(agent.alive() for agent in mine)
        mine[0].finish()
        assert mine[0].ended()
        assert stack.enter_context(daemon.connect()).alive()
        assert refused(daemon)


def test_max_sessions_per_key(tmp_path: Path, stack: ExitStack) -> None:
    with running(tmp_path, "--max-sessions-per-key", "2", agents=AGENTS) as daemon:
        mine = sessions(stack, daemon, 2)
        for _ in range(3):
            with daemon.connect() as agent:
                assert blocked(agent)
            with daemon.connect(CORE_AGENT) as agent:
                assert agent.alive()
            assert all(agent.alive() for agent in mine)
        mine[0].reset()
        daemon.wait_for("closed agent")
        assert stack.enter_context(daemon.connect()).alive()


def test_a_key_has_64_sessions(tmp_path: Path, stack: ExitStack) -> None:
    with running(tmp_path, agents=AGENTS) as daemon:
        mine = sessions(stack, daemon, Limits().sessions_per_key)
        with daemon.connect() as agent:
            assert blocked(agent)
        assert all(agent.alive() for agent in mine)


def test_256_connections_may_be_nobody_yet(tmp_path: Path, stack: ExitStack) -> None:
    with running(tmp_path, agents=AGENTS) as daemon:
        [served] = sessions(stack, daemon, 1)
        nobody = [stack.enter_context(daemon.dial()) for _ in range(2 * Limits().unconfirmed)]
        assert served.alive()
        with daemon.connect() as late:  # behind all of them
            assert late.alive()
        closed = sum(agent.rest() == b"" for agent in nobody)  # at once, or after their second
        assert closed == len(nobody)
        assert daemon.said("had not shown who it is when another came") >= 1
        assert stack.enter_context(daemon.connect()).alive()


def test_by_default_the_handshakes_of_one_address_are_counted(
    tmp_path: Path, stack: ExitStack
) -> None:
    """Over 100 of them at once it waits; another address, and who is in already, do not."""
    with running(tmp_path, agents=AGENTS, count_handshakes=True) as daemon:
        [served] = sessions(stack, daemon, 1)
        for _ in range(10_000):  # far faster than 20 a second
            if refused(daemon):
                break
        else:
            raise AssertionError("nobody was refused")
        daemon.wait_for("too many handshakes from one address")
        assert served.alive()
        with RawAgent(daemon.endpoint, source="127.0.0.2") as other:
            other.handshake(CORE_AGENT)
            assert other.alive()


def test_more_sessions_than_a_process_may_open_files_at_first(
    tmp_path: Path, stack: ExitStack
) -> None:
    few = (
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (40, r.getrlimit(r.RLIMIT_NOFILE)[1]));"
    )
    options = ("--max-sessions", "100", "--max-sessions-per-key", "100")
    with running(tmp_path, *options, agents=AGENTS, prelude=few) as daemon:
        mine = sessions(stack, daemon, 100)
        assert all(agent.alive() for agent in mine)
        assert refused(daemon)


@pytest.mark.parametrize("loop", LOOPS)
def test_fewer_files_than_sessions(tmp_path: Path, stack: ExitStack, loop: str) -> None:
    """Newcomers make room for each other then; who has a session is served as before."""
    few = LOOPS[loop] + "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (96, 96));"
    with running(tmp_path, agents=AGENTS, prelude=few) as daemon:
        mine = sessions(stack, daemon, 15)
        late = [stack.enter_context(daemon.dial()) for _ in range(64)]
        assert all(agent.alive() for agent in mine)
        assert all(agent.rest() == b"" for agent in late)
        assert all(agent.alive() for agent in mine)
        assert stack.enter_context(daemon.connect()).alive()
        assert daemon.said("the system allows 96 open files") == 1
        assert daemon.said("Traceback") == 0
