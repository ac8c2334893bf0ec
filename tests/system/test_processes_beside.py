"""What is done beside the event loop is done where no process and no thread is to be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.asyd_cli import told
from support.children import waiting
from support.daemon import AGENT
from support.isolating import isolation_missing
from support.no_processes import bounded, close, enclosed, exhausted, pids_missing
from support.own_daemon import config, faulty, sdk

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(pids_missing()), reason=pids_missing()),
    pytest.mark.skipif(bool(isolation_missing()), reason=isolation_missing()),
]


def test_a_process_is_isolated_and_released(tmp_path: Path) -> None:
    directory = config(tmp_path, {AGENT: "agent caps=all,security"})
    with (
        bounded() as place,
        waiting() as child,
        faulty(directory, launcher=enclosed(place)) as asyd,
        sdk(asyd) as agent,
        exhausted(place),
    ):
        close(place)
        agent.net_isolate(child.pid, "isolate")
        try:
            assert str(child.pid) in told(directory, "isolations", "list")
        finally:
            agent.net_isolate(child.pid, "release")


@pytest.mark.parametrize("how", ["freeze", "cpu:20"])
def test_a_process_is_frozen_or_slowed_and_goes_on(tmp_path: Path, how: str) -> None:
    directory = config(tmp_path, {AGENT: "agent caps=all"})
    with (
        bounded() as place,
        waiting() as child,
        faulty(directory, "--throttle", how, launcher=enclosed(place)) as asyd,
        sdk(asyd) as agent,
        exhausted(place),
    ):
        close(place)
        agent.proc_throttle(child.pid, "stop")
        assert str(child.pid) in told(directory, "throttled", "list")
        agent.proc_throttle(child.pid, "continue")
        assert str(child.pid) not in told(directory, "throttled", "list")
