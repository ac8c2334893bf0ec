"""The benchmarks run: every row comes, and its numbers are finite. No test says how large."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

GROUPS = (
    "pinned",
    "unpinned",
    "procs",
    "pipelined",
    "sdk",
    "handshake",
    "polled",
    "sampler",
    "memory",
    "checks",
    "audit",
    "dark",
)


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *options],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks need Linux")
def test_every_group_gives_rows_with_finite_numbers() -> None:
    done = run("--scale", "0.01", "--processes", "1", "--no-bars", "--json", "-")

    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    assert {row["group"] for row in rows} == set(GROUPS)
    measured = [row for row in rows if not row["skipped"]]
    assert {row["group"] for row in measured} == set(GROUPS)
    for row in measured:
        assert math.isfinite(row["value"]), row
        assert row["name"] in done.stderr
    ratios = [row["ratio"] for row in measured if row["ratio"] is not None]
    assert len(ratios) > 20
    for ratio in ratios:
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"] < math.inf
    held = [row for row in measured if row["group"] in ("checks", "audit", "dark")]
    tails = [row for row in rows if row["group"] == "audit" and "p99" in row["name"]]
    assert len(tails) == (1 if tails[0]["skipped"] else 2)
    intervals = [row["interval"] for row in held if row not in tails]
    assert len(intervals) == 6 + 4 + 12
    intervals += [row["interval"] for row in held if row in tails]
    for interval in intervals:
        # A difference of a few samples may be less than nothing.
        assert -math.inf < interval["low"] <= interval["high"] < math.inf
        assert interval["samples"] > 0


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks need Linux")
def test_only_the_rows_asked_for_are_measured() -> None:
    done = run("--scale", "0.01", "--rows", "handshake", "--no-bars", "--json", "-")

    assert done.returncode == 0, done.stderr
    assert [row["group"] for row in json.loads(done.stdout)["rows"]] == ["handshake"]


def test_a_peer_that_cannot_be_used_is_named_before_anything_is_measured(tmp_path: Path) -> None:
    done = run("--peer", "127.0.0.1:1", "--identity", str(tmp_path))

    assert done.returncode == 2
    assert "asys keygen" in done.stderr
