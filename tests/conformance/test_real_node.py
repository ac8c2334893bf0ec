"""A real asyd passes every case, with all means given and nothing left out."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from asys.client.address import Address
from asys.conformance import runner
from asys.conformance.case import all_cases
from asys.conformance.probe import Chainable, Target, Timing
from asys.conformance.verdicts import Verdict
from support.asyd_cli import told
from support.daemon import AGENT, CORE_AGENT, running
from support.supervised import supervisord
from support.users import NOBODY
from support.vendors import Packages

pytestmark = pytest.mark.root

TIMING = Timing(timeout=60.0, quiet=0.3, frame=4.0, idle=8.0, slack=60.0, restarts=0, pace=0)

SHORT_DEADLINES = (
    "import asys.node.connection as connection;"
    f"connection.FRAME_SECONDS = {TIMING.frame}; connection.IDLE_SECONDS = {TIMING.idle};"
)
"""The 10 and the 60 s are constants of asyd, and longer than a test has."""

VENDOR = "parts.example"
HANDLERS = """
@handler(GATHER)
def gather(request):
    raise AssertionError("no chain is ever finished")
"""


def test_a_real_asyd_passes_everything(tmp_path: Path) -> None:
    packages = Packages(tmp_path / "packages")
    gather = "0xC1, request=Text, reply=Text, chainable=True"
    vendor_id = packages.add(VENDOR, {"GATHER": gather}, HANDLERS)
    agents = {
        AGENT: f"main caps=all,vendor,AGENT_ADD,AGENT_REMOVE,AGENT_LIST vendors={VENDOR}",
        CORE_AGENT: f"other caps=core,PROC_THROTTLE,SVC_RESTART users={NOBODY} services=web",
    }
    programs = {"web": "sleep infinity", "database": "sleep infinity"}
    with (
        subprocess.Popen(["sleep", "infinity"]) as process,
        supervisord(programs, startsecs=1) as url,
        running(
            tmp_path,
            *("--vendor", VENDOR, "--supervisord", url),
            agents=agents,
            prelude=packages.prelude + SHORT_DEADLINES,
        ) as asyd,
    ):
        try:
            told(asyd.config_dir, "key", "rotate")
            target = Target(
                Address.of(*asyd.endpoint),
                AGENT.raw(),
                asyd.key,
                other=CORE_AGENT.raw(),
                pid=process.pid,
                service="web",
                outside_pid=process.pid,
                outside_service="database",
                chainable=Chainable(0xC1, vendor_id),
                slow=True,
            )
            found = runner.run(target, runner.Run(all_cases(), timing=TIMING))
        finally:
            process.kill()
    assert {
        one.case.id: f"{one.verdict.value}: {one.detail}"
        for one in found
        if one.verdict is not Verdict.PASSED
    } == {}
