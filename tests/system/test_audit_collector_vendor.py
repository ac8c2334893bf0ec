"""Vendors' instructions wait for the collector, whole and in fragments: without it none runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from asys.audit.reading import Action
from support.audit import make_removable
from support.daemon import AGENT
from support.frames import BLOCKED, OK
from support.raw_agent import RawAgent
from support.recording import actions, mortal
from support.shadow_daemon import RealCollector, followed_config, real_collector, until_flags
from support.vendors import Packages

pytestmark = pytest.mark.root

DOMAIN = "count.example"
AGENTS = {AGENT: f"agent caps=core,C0,C1 vendors={DOMAIN}"}
HANDLERS = """
calls = []

@handler(COUNT)
def count(request):
    calls.append(request)
    return Number(len(calls))

@handler(MEASURE)
def measure(request):
    calls.append(request)
    return Number(len(request.text))
"""
TRIES = 200


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[RealCollector]:
    with real_collector(tmp_path) as made:
        yield made


def in_time(ask: Callable[[], bytes]) -> bytes:
    """The first answer for which the collector was not too late."""
    for _ in range(TRIES):
        answer = ask()
        if answer != BLOCKED:
            return answer
    raise AssertionError("the collector has not acknowledged anything")


def count(agent: RawAgent, vendor: bytes) -> bytes:
    return agent.ask(agent.signed(0xC0, vendor + bytes(4)))


def measure(agent: RawAgent, vendor: bytes) -> bytes:
    """A payload in two fragments."""
    first = agent.ask(agent.signed(0xC1, vendor + b"one", cla=0x14))
    assert first[-2:] in (OK, b"\x91\x01")
    return agent.ask(agent.signed(0x10, first[:4] + b"two"))


def test_nothing_of_a_vendor_runs_without_its_record(
    tmp_path: Path, collector: RealCollector
) -> None:
    packages = Packages(tmp_path / "site")
    vendor = packages.add(
        DOMAIN,
        {"COUNT": "0xC0", "MEASURE": "0xC1, request=Text, chainable=True"},
        HANDLERS,
    ).to_bytes(4, "big")
    config_dir = followed_config(
        tmp_path, collector.address, collector.key, AGENTS, collector.admit
    )
    directory = tmp_path / "audit"
    options = ("--audit-shadow", f"127.0.0.1:{collector.port}", "--vendor", DOMAIN)
    with ExitStack() as last:
        asyd = last.enter_context(mortal(config_dir, directory, *options, prelude=packages.prelude))
        last.callback(make_removable, directory)
        with asyd.daemon.connect() as agent:
            until_flags(agent, 0)
            assert in_time(partial(count, agent, vendor)) == b"\0\0\0\1" + OK
            assert in_time(partial(measure, agent, vendor)) == b"\0\0\0\6" + OK
            collector.kill()
            until_flags(agent, 1)
            assert count(agent, vendor) == BLOCKED
            assert measure(agent, vendor) == BLOCKED
            collector.start()
            until_flags(agent, 0)
            # The third call of a handler, whatever was refused in between.
            assert in_time(partial(count, agent, vendor)) == b"\0\0\0\3" + OK
        asyd.daemon.stop()
        done = [one for one in actions(directory) if isinstance(one, Action)]
        refused = [one for one in done if one.sw == 0x6400 and one.ins in (0xC0, 0xC1)]
        assert {one.ins for one in refused} >= {0xC0, 0xC1}
        assert all(one.intent_ns for one in refused)
