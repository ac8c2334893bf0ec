"""A minute of `make soak`: a real asyd under load from another process, with its audit on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from benchmarks.line import Target
from benchmarks.soak import questions
from benchmarks.soak.plan import Plan
from benchmarks.soak.run import soak

from asys.protocol.keys import PrivateKey
from support.recording import assert_whole, recording

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the soak needs Linux")

MINUTE = Plan(
    sessions=500, polled=150, churn=30, seconds=60, warm_up=20, warm_up_churn=100, every=0.5
)
"""With fewer that are polled than `make soak` has, as the CPUs are other tests' as well."""


@pytest.fixture(autouse=True)
def _unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What measures coverage keeps memory itself, and takes most of the CPU."""
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)


def test_for_a_minute_no_response_is_lost_or_crossed_and_memory_is_flat(tmp_path: Path) -> None:
    agents = questions.lines()
    with recording(tmp_path, *MINUTE.options, agents=agents) as asyd:
        host, port = asyd.daemon.endpoint
        target = Target("asyd", host, port, asyd.daemon.key, PrivateKey.generate(), asyd.daemon.pid)
        report = soak(target, agents, MINUTE, print)
        print(*report.lines(), sep="\n")
        assert report.broken == []
        assert report.counts["polls"] > 0
        assert report.counts["sessions"] > MINUTE.sessions
    assert_whole(asyd.directory)
