"""A node dies and comes back, over and over, while agents of the SDK go on asking."""

from __future__ import annotations

import asyncio
import math
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.crowd import Crowd

from asys.audit.reading import Action, State
from asys.audit.records import digest
from asys.isa import PROC_THROTTLE, ThrottleAction
from support.audit import make_removable
from support.children import state
from support.comeback import DIES_WHEN_TOLD, Comeback
from support.frames import pid_payload
from support.recording import Recording, actions
from support.steadfast import FIRST, Steadfast, all_read

RESTARTS = 8
AGENTS = 16
THREADS = 4
"""Agents of these that are blocking code, each in a thread."""

PIDS = RESTARTS + 2
"""Processes of each agent: at each restart it may have to leave one alone."""


WAYS: tuple[Callable[[Comeback], None], ...] = (
    Comeback.die,
    lambda node: node.daemon.stop(),
    Comeback.die_once_done,
    lambda node: node.daemon.stop(),
)
"""How the node goes, by turns: SIGKILL at any time, SIGTERM, and SIGKILL before an answer."""


async def test_agents_come_back_to_a_node_that_dies_and_nothing_is_done_twice(
    tmp_path: Path,
) -> None:
    audit = tmp_path / "audit"
    try:
        with Crowd(AGENTS * PIDS) as crowd:
            agents = [
                Steadfast(crowd.pids[at : at + PIDS]) for at in range(0, len(crowd.pids), PIDS)
            ]
            lines = {
                one.key: f"agent-{number} caps=core,PROC_THROTTLE"
                for number, one in enumerate(agents)
            }
            node = Comeback(
                tmp_path,
                agents=lines,
                options=("--audit-dir", str(audit), "--handshake-rate", "20"),
            )
            with node:
                outages, logs = await restarted_under(node, agents)
                recording = Recording(node.daemon, audit)
                node.daemon.stop()
                recording.written()
            check_processes(agents)
        check_ledgers(agents, actions(audit))
        check_attempts(agents, outages, logs)
        check_chain(audit)
    finally:
        make_removable(audit)


async def restarted_under(
    node: Comeback, agents: list[Steadfast]
) -> tuple[list[float], list[list[str]]]:
    """Restarts it, by SIGKILL and by SIGTERM in turn; how long each took, and what asyd logged."""
    ending = threading.Event()
    working = [
        asyncio.ensure_future(
            asyncio.to_thread(one.work_in_a_thread, node, ending)
            if number < THREADS
            else one.work(node, ending)
        )
        for number, one in enumerate(agents)
    ]
    outages, logs = [], []
    try:
        await all_read(agents)
        for number in range(RESTARTS):
            began = time.monotonic()
            await asyncio.to_thread(WAYS[number % len(WAYS)], node)
            logs.append(node.daemon.log)
            await asyncio.to_thread(node.start, DIES_WHEN_TOLD)
            await all_read(agents)
            outages.append(time.monotonic() - began)
        logs.append(node.daemon.log)
    finally:
        ending.set()
        await asyncio.gather(*working)
    return outages, logs


def check_processes(agents: list[Steadfast]) -> None:
    """Each process is as the last call left it of which this is known."""
    for one in agents:
        for pid, action in one.last.items():
            assert (state(pid) == "T") == (action is ThrottleAction.STOP)


def check_ledgers(agents: list[Steadfast], found: list[Action]) -> None:
    """What an agent was told, against what the node has on record."""
    done = [one for one in found if one.ins == PROC_THROTTLE.code]
    seqs = Counter((one.session, one.seq) for one in done)
    assert set(seqs.values()) == {1}, "a Seq is on record twice"
    answered: Counter[tuple[bytes, bytes]] = Counter()
    begun: Counter[tuple[bytes, bytes]] = Counter()
    for one in done:
        assert one.who is not None
        assert one.sw in (0x9000, None)
        assert one.intent_ns is not None
        begun[one.who.key, one.digest] += 1
        answered[one.who.key, one.digest] += one.state is State.ANSWERED
    for agent in agents:
        assert agent.others == []
        for pid in agent.pids:
            which = agent.key.public, digest(pid_payload(pid))
            returned, unknown = agent.returned[pid], agent.unknown[pid]
            assert unknown <= 1
            assert returned <= answered[which] <= begun[which] <= returned + unknown
    unknown = sum(agent.unknown.total() for agent in agents)
    returned = sum(agent.returned.total() for agent in agents)
    print(
        f"{returned} signed instructions returned, {unknown} unknown; on record "
        f"{begun.total()} begun, {answered.total()} answered"
    )
    assert begun.total() > answered.total(), "nothing was done that nobody was told of"


def check_chain(audit: Path) -> None:
    """It is whole, whatever happened to those who wrote it."""
    told = subprocess.run(
        (sys.executable, "-m", "asys", "audit", "verify", str(audit)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told


def check_attempts(agents: list[Steadfast], outages: list[float], logs: list[list[str]]) -> None:
    """Delays double, so there are few attempts however long the node was away."""
    most = sum(math.ceil(math.log2(2 * one / FIRST + 1)) + 2 for one in outages)
    tried = [agent.delays for agent in agents]
    assert max(tried) <= most
    assert min(tried) >= RESTARTS
    opened = [
        match[1]
        for log in logs
        for line in log
        if (match := re.match(r"(\S+) INFO asyd\.session opened ", line))
    ]
    print(
        f"outages of {min(outages):.1f} to {max(outages):.1f} s; {sum(tried)} attempts of "
        f"{len(agents)} agents, at most {max(tried)} of one; at most "
        f"{max(Counter(opened).values())} sessions opened in a second"
    )
