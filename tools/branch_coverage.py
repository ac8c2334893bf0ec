"""Prints the branch coverage of the parts that have a floor, and fails below it.

Where tests were left out for lack of privileges the figures are printed only.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from coverage import Coverage

FLOOR_PERCENT = 95.0
PARTS = ("src/asys/protocol", "src/asys/node")


def main() -> int:
    """Reads the data of the last test run; returns the exit status."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        coverage = Coverage()
        coverage.load()
        coverage.json_report(outfile=report.name)
        files = json.loads(Path(report.name).read_bytes())["files"]
    strict = "ASYS_NOTHING_LEFT_OUT" in os.environ
    good = True
    for part in PARTS:
        summaries = [one["summary"] for name, one in files.items() if name.startswith(part + "/")]
        covered = sum(one["covered_branches"] for one in summaries)
        total = sum(one["num_branches"] for one in summaries)
        percent = 100 * covered / total if total else 0.0
        print(f"{part}: {percent:.1f} % of {total} branches covered (floor {FLOOR_PERCENT:.0f} %)")
        good = good and percent >= FLOOR_PERCENT
    return 0 if good or not strict else 1


if __name__ == "__main__":
    sys.exit(main())
