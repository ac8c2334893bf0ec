"""A short run of every target, and proof that a run finds what is there to be found."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from fuzz.catalog import TARGETS
from fuzz.process import fuzz

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="needs atheris, which is not built for here"
)

ATTEMPTS = 30
"""Seeds that are tried: a change of asys leads the fuzzer another way, and seldom a longer one."""

each = pytest.mark.parametrize("name", sorted(TARGETS))


@each
def test_a_short_run_finds_nothing(name: str, tmp_path: Path) -> None:
    outcome = fuzz(name, "--runs", str(TARGETS[name].short), "--seed", "1", crashes=tmp_path)
    assert outcome.status == 0, outcome.output[-4000:]
    assert outcome.executions >= TARGETS[name].short
    assert outcome.edges > 20
    assert not any(tmp_path.iterdir())


@each
def test_a_planted_bug_is_found(name: str, tmp_path: Path) -> None:
    first = importlib.import_module(f"fuzz.planted.{name}").SEED
    for seed in range(first, first + ATTEMPTS):
        options = ("--planted", "--runs", "8000", "--seed", str(seed))
        outcome = fuzz(name, *options, crashes=tmp_path)
        if outcome.status != 0:
            break
    assert outcome.status != 0
    assert outcome.crash is not None, outcome.output[-4000:]
    assert outcome.crash.parent == tmp_path
    assert "Uncaught Python exception" in outcome.output
    # Without the bug the same input is a good one.
    importlib.import_module(TARGETS[name].module).one(outcome.crash.read_bytes())


def test_who_does_not_see_what_is_compared_does_not_find_it(tmp_path: Path) -> None:
    """Or the planted bugs would prove nothing about coverage."""
    options = ("--planted", "--unguided", "--runs", "20000", "--seed", "1")
    assert fuzz("frames", *options, crashes=tmp_path).status == 0
