"""examples/mcp_ooda.py, as a reader runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.daemon import PATIENCE

EXAMPLE = Path(__file__).parents[2] / "examples" / "mcp_ooda.py"


def test_the_example() -> None:
    run = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
        cwd="/",
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert run.returncode == 0, run
    assert "every step held" in run.stdout
    assert run.stdout.count("    proc_throttle: done") == 2
    assert [line[-4:].strip() for line in run.stdout.splitlines() if "asked:" in line] == [
        *("? no", "yes", "yes")
    ]
