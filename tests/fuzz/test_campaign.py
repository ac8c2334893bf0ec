"""The long run, made short: what it prints, and how it ends where something was found."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from fuzz import campaign
from fuzz.catalog import CORPUS, TARGETS
from fuzz.process import Outcome
from fuzz.replay import reached


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="needs atheris, which is not built for here"
)
def test_what_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    only = ("--only", "log_worker", "frames", "--executions", "900", "--jobs", "1", "--seed", "3")
    assert campaign.main([*only, "--place", str(tmp_path)]) == 0
    first, *lines, last = capfd.readouterr().out.splitlines()
    assert re.fullmatch(r"2 targets, 900 executions, 1 at a time, seed 3", first)
    assert sorted(line.split()[0] for line in lines) == ["frames", "log_worker"]
    for line in lines:
        assert re.search(r" executions +[0-9,]+/s +[0-9]+ edges +[0-9]+ features ", line)
        assert re.search(r"[0-9.]+ % lines +[0-9.]+ % branches of asys\.", line)
    assert re.fullmatch(r"[0-9,]+ executions, 0 crashes", last)
    assert any((tmp_path / "corpus" / "frames").iterdir())


def test_a_crash_is_named_with_the_command_that_shows_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crash = tmp_path / "crashes" / "frames-crash-1"

    def fuzz(target: str, *options: str, crashes: Path, log: Path) -> Outcome:
        assert crashes == crash.parent
        return Outcome(77, 5, 30, 40, 1.0, crash, "")

    monkeypatch.setattr(campaign, "fuzz", fuzz)
    arguments = ["--only", "frames", "--executions", "10", "--place", str(tmp_path)]
    assert campaign.main(arguments) == 1
    said = capsys.readouterr().out
    assert "frames: ended with 77; see " in said
    assert f"  again: .venv/bin/python tests/fuzz/replay.py frames {crash}\n" in said
    assert said.endswith("5 executions, 1 crashes\n")


def test_every_target_has_its_part() -> None:
    parts = campaign._parts(list(TARGETS), campaign.EXECUTIONS, 1)
    assert sum(part.executions for part in parts) >= campaign.EXECUTIONS
    assert {part.target for part in parts} == TARGETS.keys()
    assert all(0 < part.executions <= campaign.PART for part in parts)
    assert len({part.seed for part in parts}) == len(parts)


def test_what_inputs_reach(tmp_path: Path) -> None:
    found = reached("frames", tmp_path)
    assert found.inputs == len(list((CORPUS / "frames").iterdir()))
    assert found.what == "asys.protocol.apdu"
    assert 80 < found.lines <= 100
    assert 80 < found.branches <= 100
