"""Runs those tests once more, each alone, that have just failed beside others on a busy machine.

    failed_again.py      exit status 0: all of them pass alone, and are named; 1: one does not

Of many that fail together none is an accident, so more than `MOST` are not run again. What passes
alone was starved or was disturbed, and wants mending all the same: that is why it is named.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

FAILED: Final = Path(__file__).parents[1] / ".pytest_cache" / "v" / "cache" / "lastfailed"
"""Where pytest notes what failed last."""

MOST: Final = 5


def failed() -> list[str]:
    """The names of the tests that failed last."""
    try:
        return sorted(json.loads(FAILED.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return []


def main() -> int:
    """Runs them again; the exit status."""
    names = failed()
    if not names:
        print("no test has failed that could be run again", file=sys.stderr)
        return 1
    if len(names) > MOST:
        print(f"{len(names)} tests have failed; at most {MOST} are run again", file=sys.stderr)
        return 1
    for name in names:
        print(f"once more, alone: {name}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--last-failed", "--numprocesses", "0"], check=False
    )
    if done.returncode == 0:
        print("passed alone, failed beside others; mend:", *names, sep="\n  ")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
