"""All metrics of a node: well-formed, whatever it has and whatever it lacks, and where from."""

from __future__ import annotations

import time

import pytest

from asys.isa import TaskStatus
from asys.node.health.metrics import METRICS, Health
from asys.node.health.openmetrics import Kind
from asys.node.held.isolations import Isolations
from asys.node.platform.own_usage import OwnUsage
from support.clock import ManualClock
from support.frames import HELLO
from support.isolator import MadeIsolator
from support.machine import MadePlatform
from support.metrics import FAMILIES, health_of, moved, parsed
from support.node_rig import AGENT, Rig
from support.target import Target

OPTIONAL = ("asyd_audit_", "asyd_vendor_", "asyd_isolated")
"""What a node of a test does not have, without an audit, vendors, and an isolator."""


def test_each_is_said_once_and_well() -> None:
    families = [family for family, _ in METRICS]
    assert len({family.name for family in families}) == len(families)
    for family in families:
        assert family.name.startswith(("asyd_", "process_"))
        assert family.help.endswith(".")
        assert not family.name.endswith(("_total", "_info", "_count", "_sum", "_bucket"))
        if family.unit:
            assert family.name.endswith(f"_{family.unit}")
        assert family.label == "" or family.kind in (Kind.COUNTER, Kind.GAUGE)


def test_prometheus_reads_all_of_them() -> None:
    rig = Rig()
    told = {family.name: family for family in FAMILIES(health_of(rig.node).text())}
    for family, _ in METRICS:
        if family.name.startswith(OPTIONAL):
            assert family.name not in told
        else:
            found = told[family.name]
            assert (found.type, found.unit, found.documentation) == (
                family.kind,
                family.unit,
                family.help,
            )
            assert found.samples


def test_a_node_that_can_do_little() -> None:
    rig = Rig(platform=MadePlatform())
    found = parsed(health_of(rig.node).text())
    assert "asyd_throttled" not in found
    assert "asyd_isolated" not in found
    assert found['asyd_build_info{version="0.1.0",platform="made",mode="full"}'] == 1


async def test_what_is_isolated() -> None:
    made: list[Isolations] = []

    def isolations(clock: ManualClock) -> Isolations:
        made.append(Isolations(MadeIsolator(""), clock))
        return made[0]

    rig = Rig(isolations=isolations)
    health = health_of(rig.node)
    before = parsed(health.text())
    assert before["asyd_isolated"] == 0
    await made[0].isolate(
        Target(4711), AGENT.public, "web", lambda _: True, keep_loopback=False, ttl_s=0
    )
    assert moved(before, parsed(health.text())) == {"asyd_isolated": 1}
    await rig.close()


def test_tasks() -> None:
    rig = Rig()
    health = health_of(rig.node)
    before = parsed(health.text())
    task = rig.node.tasks.open(1, "web", "web", 0.0)
    assert task is not None
    assert task.status is TaskStatus.PENDING
    assert moved(before, parsed(health.text())) == {"asyd_tasks": 1}


def test_limits_and_the_mode() -> None:
    rig = Rig()
    found = parsed(Health(rig.node, OwnUsage(), "monitor").text())
    assert found["asyd_sessions_limit"] == rig.node.limits.sessions
    assert found['asyd_build_info{version="0.1.0",platform="linux",mode="monitor"}'] == 1
    assert found["asyd_watchdog_period_seconds"] == 0


@pytest.mark.parametrize("sessions", [0, 200])
def test_a_scrape_is_cheap_however_many_are_there(sessions: int) -> None:
    """1 ms is the aim; what is checked is far above, as tests run on busy machines."""
    rig = Rig()
    agents = [rig.connect() for _ in range(sessions)]
    for agent in agents[:60]:
        agent.ask(HELLO)
    health = health_of(rig.node)
    text = health.text()
    assert len(text) < 16_384
    taken = []
    for _ in range(20):
        began = time.thread_time()
        health.text()
        taken.append(time.thread_time() - began)
    assert min(taken) < 0.01
