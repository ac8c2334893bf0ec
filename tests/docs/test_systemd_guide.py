"""docs/guides/systemd.md and the units: how exposed they are, and that the page says it all."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from asys.node.disk.credentials import AGENTS, KEY
from support.caged import AGENTS as AGENTS_DIRECTORY
from support.caged import listening
from support.pages import DOCS, Block, blocks

PAGE = "guides/systemd.md"
GUIDE = (DOCS / PAGE).read_text("utf-8")
UNITS = Path(__file__).parents[2] / "packaging" / "systemd"
MOST = {"asyd.service": 3.2, "asyd-monitor.service": 2.0}
"""Exposures that may not be passed."""

OF_THE_PAGE = "systemd 252"

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze"
)


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def security(unit: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return analyze("security", "--offline=true", *words, str(unit))


def settings(unit: str) -> list[str]:
    text = (UNITS / unit).read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if re.match(r"\w+=", line)]


@pytest.mark.parametrize("unit", MOST)
def test_how_exposed_they_are(unit: str) -> None:
    done = security(UNITS / unit, f"--threshold={MOST[unit] * 10:.0f}")
    assert done.returncode == 0, done.stdout
    assert not done.stderr
    assert security(UNITS / unit, "--threshold=11").returncode, "the threshold does not hold"


@pytest.mark.parametrize("unit", MOST)
def test_each_cross_stands_on_the_page_with_its_reason(unit: str) -> None:
    version = analyze("--version").stdout
    if not version.startswith(OF_THE_PAGE):
        pytest.skip(f"needs {OF_THE_PAGE}, and this is {version.split(' (')[0]}")
    told = json.loads(security(UNITS / unit, "--json=short").stdout)
    crosses = {one["name"]: one["exposure"] for one in told if one["exposure"]}
    table = GUIDE.split("## What is left open")[1].split("###")[0]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines() if "|" in line]
    column = [word.strip(" `") for word in rows[0]].index(unit)
    stated = {}
    for row in rows[2:]:
        name, why = row[0].strip(" `").replace("\\|", "|"), row[3].strip()
        assert why, name
        if row[column].strip():
            stated[name] = row[column].strip()
    assert stated == crosses
    overall = r"^→ Overall exposure level for \S+: (\S+)"
    whole = re.search(overall, security(UNITS / unit).stdout, re.M)
    assert whole is not None
    shown = re.search(r"^\| exposure.*", GUIDE, re.M)
    assert shown is not None
    assert [one.strip() for one in shown[0].split("|")][column + 1] == whole[1]


@pytest.mark.parametrize("block", [one for one in blocks(PAGE) if one.language == "ini"])
def test_the_drop_ins_mean_something(block: Block, tmp_path: Path) -> None:
    unit = tmp_path / "asyd.service"
    whole = (UNITS / "asyd.service").read_text()
    unit.write_text(whole.replace("[Install]", f"{block.text}\n[Install]"))
    done = security(unit, "--threshold=100")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_tests_listen_as_the_page_says() -> None:
    [block] = [one for one in blocks(PAGE) if "--listen unix:" in one.text]
    assert listening("asyd") == block.text.replace("/run/asyd-agents", AGENTS_DIRECTORY)


def test_what_both_have() -> None:
    """What is not among what systemd-analyze judges."""
    for unit in MOST:
        lines = settings(unit)
        assert any(one.startswith("ExecStart=/usr/bin/asyd ") for one in lines)
        for name in ("Type=notify", "NotifyAccess=main", "WatchdogSec=30", "Restart=on-failure"):
            assert name in lines
        for name in ("ExecReload", "MemoryMax", "TasksMax", "LimitMEMLOCK", "OOMScoreAdjust=-900"):
            assert any(one.startswith(name) for one in lines)
        assert "LimitCORE=0" in lines
    assert {KEY, AGENTS} <= set(re.findall(r"asyd\.\w+", GUIDE))
