"""The admin's commands as an admin runs them: `asyd dark`, `asyd sessions list`, ..."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.daemon import COMMAND, PATIENCE


def asyd_command(
    config_dir: Path, *words: str, launcher: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Runs one to its end, whatever its exit status; `launcher` is a command that starts it."""
    return subprocess.run(
        (*launcher, sys.executable, "-c", COMMAND, *words, "--config-dir", str(config_dir)),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def told(config_dir: Path, *words: str) -> str:
    """What a command that works prints on stdout."""
    done = asyd_command(config_dir, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def sessions(config_dir: Path) -> list[dict[str, Any]]:
    """All that are listed."""
    listed = json.loads(told(config_dir, "sessions", "list", "--json"))["sessions"]
    assert isinstance(listed, list)
    return listed
