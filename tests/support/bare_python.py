"""A Python of its own, to see which modules an import loads: without the coverage measurement."""

from __future__ import annotations

import os
import subprocess
import sys


def run(code: str) -> str:
    """What `code` prints in a fresh interpreter. CalledProcessError when it fails."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=env,
    )
    return done.stdout
