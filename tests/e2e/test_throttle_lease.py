"""`asyd --throttle-lease`: nobody stays stopped for an agent that does not come back."""

from __future__ import annotations

import json
from pathlib import Path

from support.asyd_cli import told
from support.children import resumed, suspended, waiting
from support.daemon import AGENT, CORE_AGENT, running
from support.frames import OK

LINES = {AGENT: "agent caps=all", CORE_AGENT: "other caps=all"}


def test_a_process_goes_on_when_its_agent_stays_away(tmp_path: Path) -> None:
    with (
        waiting() as mine,
        waiting() as theirs,
        running(tmp_path, "--throttle-lease", "1s", agents=LINES) as daemon,
        daemon.connect(CORE_AGENT) as other,
    ):
        assert other.ask(other.throttle(theirs.pid)) == OK
        suspended(theirs.pid)
        with daemon.connect() as agent:
            assert agent.ask(agent.throttle(mine.pid)) == OK
            suspended(mine.pid)

        resumed(mine.pid)

        daemon.wait_for("agent has had no session for 1 s")
        [left] = json.loads(told(daemon.config_dir, "throttled", "list", "--json"))["throttled"]
        assert (left["pid"], left["until"]) == (theirs.pid, 0)
        other.close()
        resumed(theirs.pid)


def test_the_lease_of_what_was_stopped_before_a_restart(tmp_path: Path) -> None:
    with waiting() as child:
        with running(tmp_path, agents=LINES) as daemon, daemon.connect() as agent:
            assert agent.ask(agent.throttle(child.pid)) == OK
        suspended(child.pid)
        again = tmp_path / "again"
        again.mkdir()
        state = str(tmp_path / "asyd" / "state")
        options = ("--throttle-lease", "1s", "--state-dir", state)
        with running(again, *options, agents=LINES) as daemon:
            resumed(child.pid)
            daemon.wait_for("agent has had no session for 1 s")
