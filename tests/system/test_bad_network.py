"""Loss, delay, reordering, doubling and partitions between an agent and a real asyd.

Every answer belongs to its request, what is signed is done once or not at all, and who is cut off
is noticed at both ends.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

import asys
from asys.audit.reading import Action
from asys.audit.records import digest
from support.asyd_cli import sessions
from support.audit import make_removable
from support.bad_network import BadNetwork, tun_missing
from support.children import resumed, suspended, waiting
from support.daemon import PATIENCE
from support.frames import DENIED, HELLO, INVALID_PAYLOAD, OK, frame, pid_payload
from support.recording import Recording, actions, assert_whole

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(tun_missing()), reason=tun_missing()),
]

NOBODY_HAS: Final = 5_000_000
"""From here on no process has a PID."""

POLICY: Final = asys.Reconnect(first=0.01, most=0.2, silence=0.5)

BAD: Final = {
    "lossy": {"loss": 0.05},
    "slow and out of order": {"delay": 0.002, "jitter": 0.02, "late": 0.1, "lateness": 0.05},
    "all of it": {
        "loss": 0.2,
        "twice": 0.05,
        "delay": 0.001,
        "jitter": 0.01,
        "late": 0.1,
        "lateness": 0.03,
    },
}


@contextmanager
def recorded(directory: Path, *, seed: int, prelude: str = "") -> Iterator[BadNetwork]:
    """A wire, and what agents do over it on record; that is whole at the end."""
    audit = directory / "audit"
    try:
        with BadNetwork(directory, "--audit-dir", str(audit), seed=seed, prelude=prelude) as wire:
            record = Recording(wire.daemon, audit)
            yield wire
        record.written()
        assert_whole(audit)
    finally:
        make_removable(audit)


def throttles(directory: Path) -> list[Action]:
    """Every PROC_THROTTLE on record, in order."""
    return [one for one in actions(directory / "audit") if one.instruction == "PROC_THROTTLE"]


@pytest.mark.parametrize(("seed", "how"), [*enumerate(BAD)])
def test_every_answer_belongs_to_its_request_and_nothing_is_done_twice(
    tmp_path: Path, seed: int, how: str
) -> None:
    """Whose answers differ: pages, moments, and what becomes of PIDs; many under way at a time."""
    rounds, at_once = 20, 10
    signed = Counter[bytes]()

    def agent(wire: BadNetwork, child: int) -> None:
        chance = random.Random(seed)  # noqa: S311  repeatable, not secret
        with wire.connect() as raw:
            wire.change(**BAD[how])  # a handshake has its second, and no more
            for number in range(rounds):
                requests, right = [], []
                for place in range(at_once):
                    kind = chance.randrange(4)
                    page = chance.randrange(4)
                    pid = chance.choice([1, NOBODY_HAS + at_once * number + place])
                    if kind == 0:
                        requests.append(frame(0x00, p1=page))
                        right.append((36, 33, page))
                    elif kind == 1:
                        requests.append(HELLO)
                        right.append((18, 0, ord("A")))
                    else:
                        requests.append(raw.throttle(pid))
                        signed[digest(pid_payload(pid))] += 1
                        right.append((2, 0, (DENIED if pid == 1 else INVALID_PAYLOAD)[0]))
                before = time.time_ns()
                raw.send(*requests)
                answers = [raw.answer() for _ in requests]
                after = time.time_ns()
                for answer, request, (size, at, value) in zip(
                    answers, requests, right, strict=True
                ):
                    assert len(answer) == size
                    assert answer[at] & (3 if at == 33 else 0xFF) == value
                    if request == HELLO:
                        assert before <= int.from_bytes(answer[8:16], "big") <= after
            for action in (0, 1) * 3:
                assert raw.ask(raw.throttle(child, action)) == OK
                (resumed if action else suspended)(child)
                signed[digest(pid_payload(child))] += 1

    with ExitStack() as stack:
        child = stack.enter_context(waiting()).pid
        with recorded(tmp_path, seed=seed) as wire:
            wire.run(lambda: agent(wire, child))
            counts = wire.change()
    assert counts["lost"] or "loss" not in BAD[how]
    assert counts["doubled"] or "twice" not in BAD[how]
    assert counts["overtaken"] or "late" not in BAD[how]
    done = throttles(tmp_path)
    assert Counter(one.digest for one in done) == signed
    assert len({(one.session, one.seq) for one in done}) == len(done)


def test_partitions_leave_outcomes_unknown_and_nothing_is_done_twice(tmp_path: Path) -> None:
    """The SDK comes back by itself. What it could not tell was done once, or not at all."""
    outcomes: dict[int, str] = {}

    async def agent(wire: BadNetwork, children: list[int]) -> None:
        options = wire.options(reconnect=POLICY, timeout=PATIENCE)
        async with asys.connect(**options) as session:
            for number, pid in enumerate(children):
                if number % 2:
                    # The request is lost, its answer, or both.
                    wire.change(near=number % 3 == 0, far=number % 3 == 1)
                try:
                    with asys.deadline(0.7 if number % 2 else PATIENCE):
                        await session.proc_throttle(pid, "stop")
                    outcomes[pid] = "done"
                except asys.OutcomeUnknown:
                    outcomes[pid] = "unknown"
                except asys.DeadlineExceeded:
                    outcomes[pid] = "not sent"
                wire.mend()
                assert (await session.sys_hello()).magic == b"ASYS"
            assert session._caller.session > 1

    with ExitStack() as stack:
        children = [stack.enter_context(waiting()).pid for _ in range(10)]
        with recorded(tmp_path, seed=5) as wire:
            wire.change(loss=0.02, jitter=0.005)
            wire.run(lambda: asyncio.run(agent(wire, children)))
            counts = wire.change()
        done = Counter(one.digest for one in throttles(tmp_path))
        assert counts["cut off"]
        assert "unknown" in outcomes.values()
        for pid, outcome in outcomes.items():
            times = done[digest(pid_payload(pid))]
            assert times in {"done": [1], "unknown": [0, 1], "not sent": [0]}[outcome]
            stopped = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG)
            assert (stopped is not None) == bool(times)
        assert sum(outcomes[pid] == "done" for pid in children[::2]) == 5


def test_a_partition_is_noticed_at_both_ends(tmp_path: Path) -> None:
    """By the keep-alive at the agent's; by the limit for idle sessions at the node's."""
    idle = "import asys.node.connection as c; c.IDLE_SECONDS = 2.0\n"

    async def agent(wire: BadNetwork) -> None:
        options = wire.options(reconnect=POLICY, keepalive=0.2, timeout=PATIENCE)
        async with asys.connect(**options) as session:
            await session.sys_hello()
            old = session._wire
            session.timeout = 0.5
            wire.cut()
            await old.closed  # nobody calls
            listed = sessions(tmp_path / "asyd")
            assert len(listed) <= 1
            end = time.monotonic() + PATIENCE
            while await asyncio.to_thread(sessions, tmp_path / "asyd"):
                assert time.monotonic() < end
            wire.mend()
            session.timeout = PATIENCE
            assert (await session.sys_hello()).magic == b"ASYS"
            assert session._caller.session == 2

    with BadNetwork(tmp_path, seed=9, prelude=idle) as wire:
        wire.change(jitter=0.005)
        wire.run(lambda: asyncio.run(agent(wire)))
        wire.daemon.wait_for("by the agent")
        assert wire.daemon.said(": idle") == 1
