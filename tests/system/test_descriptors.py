"""File descriptors run out: agents take all that asyd gives, or somebody lowers its limit."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from asys.node.descriptors import LEAST, RESERVE
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import MAGIC
from support.asyd_cli import asyd_command, sessions, told
from support.audit import make_removable
from support.children import resumed, suspended, waiting
from support.daemon import AGENT, LOOPS, PATIENCE, Daemon
from support.frames import NO_SUCH_INSTRUCTION, OK, PROCS, STATUS
from support.isolating import isolation_missing
from support.own_daemon import config, faulty, sdk
from support.raw_agent import Ended, RawAgent

pytestmark = pytest.mark.root

LIMIT = 160
MANY = ("--max-sessions-per-key", "1024", "--handshake-rate", "0")
LINES = {AGENT: "agent caps=all,security"}


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield config(tmp_path, LINES)
    make_removable(tmp_path / "asyd" / "state" / "audit")


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return LOOPS[request.param]


def limited(soft: int) -> str:
    """Python that gives its process so many descriptors."""
    return f"import resource as r; r.setrlimit(r.RLIMIT_NOFILE, ({soft}, {soft}));"


def descriptors(asyd: Daemon) -> int:
    """How many it has."""
    return len(list(Path(f"/proc/{asyd.pid}/fd").iterdir()))


def lowest_free(asyd: Daemon) -> int:
    """The lowest number that none of them has for good; some are there for a moment only."""
    taken = set(range(LIMIT))
    for _ in range(50):
        taken &= {int(one.name) for one in Path(f"/proc/{asyd.pid}/fd").iterdir()}
    return next(number for number in range(LIMIT) if number not in taken)


def let_in(asyd: Daemon) -> RawAgent | None:
    """One more session; None where the node has no room."""
    agent = asyd.dial()
    try:
        agent.handshake(AGENT)
        if agent.alive():
            return agent
    except (Ended, ConnectionError):
        pass
    agent.close()
    return None


def fill(asyd: Daemon, stack: ExitStack) -> list[RawAgent]:
    """Sessions until there is no room."""
    agents: list[RawAgent] = []
    while (agent := let_in(asyd)) is not None:
        agents.append(stack.enter_context(agent))
        assert len(agents) < LIMIT
    return agents


def acts(agent: RawAgent, child: int) -> None:
    """Reads, stops a process and lets it go on."""
    assert len(agent.ask(STATUS)) == 23
    assert len(agent.ask(PROCS)) == 44
    assert agent.ask(agent.throttle(child)) == OK
    suspended(child)
    assert agent.ask(agent.throttle(child, 1)) == OK
    resumed(child)


def spins(asyd: Daemon) -> bool:
    """Whether it takes much CPU while nobody asks for anything."""
    before, begun = asyd.cpu_ticks(), time.monotonic()
    time.sleep(1)
    return (asyd.cpu_ticks() - before) / 100 > 0.15 * (time.monotonic() - begun)


def test_agents_never_take_the_last_ones(directory: Path, loop: str) -> None:
    with ExitStack() as stack:
        child = stack.enter_context(waiting()).pid
        prelude = loop + limited(LIMIT)
        asyd = stack.enter_context(faulty(directory, "--audit", "on", *MANY, prelude=prelude))
        mine = fill(asyd, stack)
        assert len(mine) > LEAST
        assert RESERVE - 4 <= LIMIT - descriptors(asyd) <= RESERVE + 4

        acts(mine[0], child)
        assert len(sessions(directory)) == len(mine)
        asyd.reload(LINES)
        told(directory, "dark")
        told(directory, "light")

        begun = time.monotonic()
        for _ in range(100):
            with asyd.dial() as late:
                late.write(MAGIC)
                assert late.rest() == b""
        took = time.monotonic() - begun
        assert asyd.said("no room for another connection") <= took + 2
        assert all(agent.alive() for agent in mine)
        assert not spins(asyd)

        mine[0].finish()
        assert mine[0].ended()
        end = time.monotonic() + PATIENCE
        while (again := let_in(asyd)) is None:
            assert time.monotonic() < end
        acts(stack.enter_context(again), child)


@pytest.mark.skipif(bool(isolation_missing()), reason=isolation_missing())
def test_what_needs_most_of_them_is_done_as_well(directory: Path) -> None:
    """Processes are started for it, and sockets of others taken."""
    with ExitStack() as stack:
        child = stack.enter_context(waiting()).pid
        asyd = stack.enter_context(faulty(directory, *MANY, prelude=limited(LIMIT)))
        agent = stack.enter_context(sdk(asyd))
        fill(asyd, stack)
        agent.log_summary(window_s=60)
        agent.agent_add(PrivateKey.generate().public, "core")
        agent.net_isolate(child, "isolate")
        try:
            assert str(child) in told(directory, "isolations", "list")
        finally:
            agent.net_isolate(child, "release")


def test_those_who_say_nothing_make_room_for_one_another(directory: Path, loop: str) -> None:
    with ExitStack() as stack:
        child = stack.enter_context(waiting()).pid
        asyd = stack.enter_context(faulty(directory, *MANY, prelude=loop + limited(LIMIT)))
        agent = stack.enter_context(asyd.connect())
        assert agent.alive()
        for _ in range(5):
            for _ in range(LIMIT):
                stack.enter_context(asyd.dial())
            acts(agent, child)
        assert stack.enter_context(asyd.connect()).alive()


def test_a_limit_that_is_lowered_under_what_it_has(directory: Path, loop: str) -> None:
    """Then there is none left for its own work either: that is answered, and goes by."""
    with ExitStack() as stack:
        child = stack.enter_context(waiting()).pid
        asyd = stack.enter_context(faulty(directory, "--audit", "on", *MANY, prelude=loop))
        agent = stack.enter_context(asyd.connect())
        acts(agent, child)
        before = resource.prlimit(asyd.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(asyd.pid, resource.RLIMIT_NOFILE, (lowest_free(asyd), before[1]))
        begun = time.monotonic()

        assert agent.ask(agent.throttle(child))[:1] == b"\x6f"
        assert agent.alive()
        assert len(agent.ask(STATUS)) == 23  # what it reads all the time is open
        late = [stack.enter_context(asyd.dial()) for _ in range(5)]
        assert not spins(asyd)
        assert len(sessions(directory)) == 1  # the admin has one to spare
        asyd_command(directory, "dark")  # it holds, whether the disk has it or not
        assert agent.ask(agent.throttle(child)) == NO_SUCH_INSTRUCTION
        asyd_command(directory, "light")
        assert asyd.said("no connection can be accepted") <= 2 + time.monotonic() - begun

        resource.prlimit(asyd.pid, resource.RLIMIT_NOFILE, before)
        end = time.monotonic() + PATIENCE
        while (again := let_in(asyd)) is None:
            assert time.monotonic() < end
        acts(stack.enter_context(again), child)
        acts(agent, child)
        assert late
