"""examples/*_ooda.py for agent frameworks, as a reader runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.daemon import PATIENCE

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("framework", ["langchain", "autogen", "agent_framework"])
def test_the_example(framework: str) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{framework}_ooda.py")],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
        cwd="/",
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert run.returncode == 0, run
    assert "every step held" in run.stdout
    assert "model:   The node is well again." in run.stdout
    assert run.stdout.count("    proc_throttle: done") == 2
    answers = [line.split()[-1] for line in run.stdout.splitlines() if "    asked: " in line]
    assert answers == ["no", "yes", "yes"]
