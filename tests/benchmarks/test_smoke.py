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
    "logs",
    "fleet",
)


HELD = {"checks": 6, "audit": 4, "dark": 12}
"""How many rows of a group are judged by an interval."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks need Linux")


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *options],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def rows(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """What was measured, and what was left out."""
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    return found


def test_these_are_all_groups() -> None:
    shown = " ".join(run("--help").stdout.split())
    listed = shown.partition("only these, with commas: ")[2].partition(" --processes")[0]
    assert tuple(listed.split(", ")) == GROUPS


@linux
@pytest.mark.parametrize("group", GROUPS)
def test_a_group_gives_rows_with_finite_numbers(group: str) -> None:
    done = run(
        "--scale", "0.01", "--processes", "1", "--no-bars", "--json", "-", "--rows", group
    )  # fmt: skip
    measured = [row for row in rows(done) if not row["skipped"]]
    assert {row["group"] for row in measured} == {group}
    for row in measured:
        assert math.isfinite(row["value"]), row
        assert row["name"] in done.stderr
        ratio, interval = row["ratio"], row["interval"]
        if ratio is not None:
            assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"] < math.inf
        if interval is not None:
            # A difference of a few samples may be less than nothing.
            assert -math.inf < interval["low"] <= interval["high"] < math.inf
            assert interval["samples"] > 0
    tails = [row for row in rows(done) if group == "audit" and "p99" in row["name"]]
    held = [row for row in measured if row["interval"] is not None and row not in tails]
    assert len(held) >= HELD.get(group, 0)
    if tails:
        assert len(tails) == (1 if tails[0]["skipped"] else 2)


@linux
def test_only_the_rows_asked_for_are_measured() -> None:
    done = run("--scale", "0.01", "--rows", "handshake", "--no-bars", "--json", "-")

    assert done.returncode == 0, done.stderr
    assert [row["group"] for row in json.loads(done.stdout)["rows"]] == ["handshake"]


def test_a_peer_that_cannot_be_used_is_named_before_anything_is_measured(tmp_path: Path) -> None:
    done = run("--peer", "127.0.0.1:1", "--identity", str(tmp_path))

    assert done.returncode == 2
    assert "asys keygen" in done.stderr
