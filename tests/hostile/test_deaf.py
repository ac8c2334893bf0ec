"""Agents that ask and never read: what they cost the node is bounded, whatever they send."""

from __future__ import annotations

import select
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import AGENT, CORE_AGENT, LOOPS, PATIENCE, Daemon, running
from support.frames import CAPS, HELLO, OK, PROCS, STATUS, frame
from support.raw_agent import RawAgent
from support.witness import Witness

AGENTS = {AGENT: "agent caps=all", CORE_AGENT: "other"}

DEAF = 20

REQUESTS = 50_000
"""Of each of them: 1.2 MB; the answers would be 3.1 MB, and 62 MB in all."""

RECORD = 24
"""Bytes of each."""

BOUND_KB = 1024
"""What one of them may cost: what was read at once (250 KB), the same opened, 64 KB of answers."""

STUCK_SECONDS = 0.3
"""Without progress for so long, the kernel's buffers count as full. Not a deadline of the node."""


def stuff(agents: list[RawAgent], records: list[bytes]) -> list[int]:
    """Sends until nothing goes any more, or all has gone; how much each has sent."""
    sent = [0] * len(agents)
    by_file = {agent.socket.fileno(): number for number, agent in enumerate(agents)}
    poll = select.epoll()
    for agent in agents:
        agent.socket.setblocking(False)
        poll.register(agent.socket, select.EPOLLOUT)
    while ready := poll.poll(STUCK_SECONDS):
        for file, _ in ready:
            number = by_file[file]
            part = records[number][sent[number] : sent[number] + (1 << 16)]
            if part:
                sent[number] += agents[number].socket.send(part)
            else:
                poll.unregister(file)
    poll.close()
    return sent


@pytest.fixture(params=LOOPS)
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    """Listens on a Unix socket too: there the kernel keeps least of what nobody reads."""
    directory = Path(tempfile.mkdtemp(prefix="asys-"))
    listen = ("127.0.0.1", f"unix:{directory}/socket")
    with running(tmp_path, agents=AGENTS, listen=listen, prelude=LOOPS[request.param]) as daemon:
        yield daemon
    shutil.rmtree(directory)


def deaf_agent(daemon: Daemon) -> RawAgent:
    """At the other end of the Unix socket."""
    return daemon.connect(CORE_AGENT, daemon.addresses[1])


def test_megabytes_of_requests_without_a_reader(daemon: Daemon) -> None:
    with Witness(daemon):
        agents = [deaf_agent(daemon) for _ in range(DEAF)]
        assert all(agent.ask(PROCS).endswith(OK) for agent in agents)
        before = daemon.resident_kb()
        records = [agent.sealed(*[PROCS] * REQUESTS) for agent in agents]
        sent = stuff(agents, records)
        assert max(sent) < len(records[0])  # so each of them really waits for its reader
        grown = daemon.resident_kb() - before
        assert grown < DEAF * BOUND_KB, f"{grown} KB for {DEAF} agents that do not read"
        for agent in agents[1:]:
            agent.reset()
        first = agents[0]
        first.socket.settimeout(PATIENCE)
        assert all(first.answer().endswith(OK) for _ in range(sent[0] // RECORD))
        first.close()


def test_large_frames_that_never_end(daemon: Daemon) -> None:
    half = frame(0x01, bytes(65_000), cla=0x02)[:-1]
    with Witness(daemon):
        agents = [daemon.connect(CORE_AGENT) for _ in range(DEAF)]
        before = daemon.resident_kb()
        for agent in agents:
            agent.send(*[half[at : at + 1000] for at in range(0, len(half), 1000)])
        for agent in agents:
            agent.write(agent.sealed(bytes(0), bytes(0))[:-1])
        with daemon.connect() as other:
            assert other.alive()
        grown = daemon.resident_kb() - before
        assert grown < DEAF * BOUND_KB, f"{grown} KB for {DEAF} frames of 65 KB"
        for agent in agents:
            agent.close()


def test_who_reads_late_has_lost_nothing(daemon: Daemon) -> None:
    kinds = {HELLO: 18, CAPS: 36, frame(0x04): 2, PROCS: 44, STATUS: 23}
    with Witness(daemon), deaf_agent(daemon) as agent:
        records = agent.sealed(*list(kinds) * 6000)
        sent = stuff([agent], [records])[0]
        assert sent < len(records)
        agent.socket.settimeout(PATIENCE)
        rest = threading.Thread(target=agent.write, args=(records[sent:],))
        rest.start()
        sizes = [len(agent.answer()) for _ in range(6000 * len(kinds))]
        rest.join()
        assert sizes == list(kinds.values()) * 6000
