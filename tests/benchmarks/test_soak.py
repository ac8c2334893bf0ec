"""The soak finds what it is there for: answers that are lost or crossed, memory that stays."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from benchmarks.line import Target
from benchmarks.plan import BenchmarkError
from benchmarks.soak import questions
from benchmarks.soak.memory import BLOCKS, STEP_KB, Sample, judge, slope
from benchmarks.soak.plan import Plan
from benchmarks.soak.run import Client, soak

from asys.protocol.keys import PrivateKey
from support.daemon import running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the soak needs Linux")

CHECKOUT = Path(__file__).resolve().parents[2]
AGENTS = questions.lines()
SMALL = Plan(sessions=20, polled=20, hertz=20, churn=20, seconds=2, warm_up=0)


@contextmanager
def node(directory: Path, plan: Plan, prelude: str = "") -> Iterator[Target]:
    """An asyd that takes such a load."""
    with running(directory, *plan.options, agents=AGENTS, prelude=prelude) as asyd:
        host, port = asyd.endpoint
        yield Target("asyd", host, port, asyd.key, PrivateKey.generate(), asyd.pid)


def ledger(target: Target, plan: Plan) -> Any:
    """What a load has counted when it is over."""
    with Client(target, AGENTS, plan) as client:
        client.open()
        client.run()
        return client.leave()


# Answers

LOSES = """
from asys.protocol.channel import Channel
_seal, _count = Channel.seal, [0]
def seal(self, messages):
    _count[0] += len(messages)
    return _seal(self, messages[1:] if _count[0] > 500 and len(messages) == 1 else messages)
Channel.seal = seal
"""

SWAPS = """
from asys.protocol.channel import Channel
_seal = Channel.seal
def seal(self, messages):
    return _seal(self, messages[::-1] if len(messages) < 10 else messages)
Channel.seal = seal
"""
"""Not what a session begins with: it would begin anew for ever."""

DOUBLES = """
from asys.protocol.channel import Channel
_seal, _left = Channel.seal, [1]
def seal(self, messages):
    if 1 < len(messages) < 10 and _left and _left.pop():
        messages = messages * 2
    return _seal(self, messages)
Channel.seal = seal
"""
"""Answers to what came in one piece: one way, of those that have it, is enough."""

CROSSES = """
from asys.node.server import Node
_reply, _last = Node.caps_reply, []
def caps_reply(self, grant, page):
    _last.append(grant)
    return _reply(self, _last.pop(0) if len(_last) > 50 else grant, page)
Node.caps_reply = caps_reply
"""
"""Answers SYS_CAPS with what was meant for somebody who asked before."""


def test_a_node_that_does_what_it_should_loses_and_crosses_nothing(tmp_path: Path) -> None:
    with node(tmp_path, SMALL) as target:
        counts = ledger(target, SMALL)
    assert counts["complaints"] == []
    assert counts["answered"] > 100
    assert counts["asked"] == counts["answered"] + counts["abandoned"]
    assert len(counts["ways"]) >= 6


@pytest.mark.parametrize(
    ("prelude", "found"),
    [
        (LOSES, "lost"),
        (SWAPS, "wrong"),
        (DOUBLES, "unasked"),
        (CROSSES, "wrong"),
    ],
    ids=["lost", "swapped", "doubled", "crossed"],
)
def test_an_answer_that_is_not_to_its_question_is_found(
    tmp_path: Path, prelude: str, found: str
) -> None:
    plan = replace(SMALL, answered_within=1) if found == "lost" else SMALL
    with node(tmp_path, plan, prelude) as target:
        counts = ledger(target, plan)
    assert counts[found] > 0, counts
    assert counts["complaints"]
    fates = sum(counts[name] for name in ("answered", "abandoned", "lost", "wrong"))
    assert counts["asked"] == fates


def test_agents_of_a_soak_are_told_apart_by_their_maps() -> None:
    assert len(AGENTS) == 32 == len({questions.caps(one) for one in AGENTS.values()})


# Memory


def series(
    kb_a_minute: float, *, step: float = 0, noise: float = 20, minutes: int = 5
) -> list[Sample]:
    """Samples of a process that keeps so much, one a second; it takes a `step` halfway."""
    chance = Random(7)  # noqa: S311
    seconds = 60 * minutes
    return [
        Sample(
            float(at),
            round(
                30_000 + kb_a_minute * at / 60 + step * (at > seconds / 2) + chance.gauss(0, noise)
            ),
        )
        for at in range(seconds)
    ]


@pytest.mark.parametrize("leak", [0, 5, 300])
def test_the_slope_is_that_of_the_line(leak: float) -> None:
    found = slope(series(leak))
    assert found.low <= leak <= found.high
    assert found.high - found.low < 10


def test_a_leak_for_each_connection_or_each_thousand_requests_is_found() -> None:
    """As the ten minutes of `make soak` have it: 900 sessions and 400,000 requests a minute."""
    connections, requests = 900 * 5, 400_000 * 5
    assert judge(series(400), connections, requests).found
    assert judge(series(900), connections, requests).found
    assert not judge(series(0), connections, requests).found
    assert not judge(series(0, step=STEP_KB), connections, requests).found


def test_a_short_time_shows_a_leak_that_is_larger_than_a_step() -> None:
    assert not judge(series(200, minutes=1), 900, 60_000).found
    assert judge(series(900, minutes=1), 900, 60_000).found


def test_too_few_samples_are_no_line() -> None:
    with pytest.raises(BenchmarkError, match="samples"):
        slope(series(0)[: 2 * BLOCKS - 1])


LEAKS = """
from asys.node.session import Session
_open, _kept = Session._open, []
def open(self):
    _kept.append(bytearray(16 << 10))
    _open(self)
Session._open = open
"""


def test_a_leak_that_was_planted_in_a_real_node_is_found(tmp_path: Path) -> None:
    plan = Plan(sessions=20, polled=5, churn=60, seconds=8, warm_up=2, every=0.2)
    with node(tmp_path, plan, LEAKS) as target:
        report = soak(target, AGENTS, plan, print)
    [broken] = report.broken
    assert broken.startswith("asyd kept memory")
    assert report.files_left == 0


# The command


def command(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", *options],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_command_soaks_and_says_that_all_promises_hold(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    done = command(
        *("--sessions", "20", "--polled", "5", "--seconds", "5", "--warm-up", "1"),
        *("--every", "0.1", "--json", str(result)),
    )
    assert done.returncode == 0, done
    for name in ("requests", "CPU", "memory of asyd", "memory of its helpers", "descriptors"):
        assert f"\n{name} " in done.stdout
    assert json.loads(result.read_text())["broken"] == []


def test_the_command_says_what_is_wrong_with_its_arguments() -> None:
    for options in (("--sessions", "5", "--polled", "6"), ("--seconds", "10"), ("--churn", "0")):
        done = command(*options)
        assert done.returncode == 2
        assert "error: " in done.stderr
