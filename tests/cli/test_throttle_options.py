"""`asyd --throttle`, `--throttle-lease` and `--nice`: what may be written, and what it means."""

from __future__ import annotations

from pathlib import Path

import pytest

from asys.cli import daemon_commands
from asys.cli.daemon import main
from asys.node.options import Options


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """What asyd would have been started with."""
    seen: list[Options] = []
    monkeypatch.setattr(daemon_commands, "run", seen.append)
    return seen


def test_the_defaults_are_those_of_deployed_nodes(tmp_path: Path, started: list[Options]) -> None:
    assert main(["--config-dir", str(tmp_path)]) == 0

    assert (started[0].throttle, started[0].throttle_lease) == ("signal", 0.0)


@pytest.mark.parametrize("how", ["signal", "freeze", "cpu:1", "cpu:20", "cpu:99"])
def test_ways(tmp_path: Path, started: list[Options], how: str) -> None:
    assert main(["--config-dir", str(tmp_path), f"--throttle={how}"]) == 0

    assert started[0].throttle == how


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86_400), ("0", 0), ("0s", 0)],
)
def test_durations(tmp_path: Path, started: list[Options], written: str, seconds: int) -> None:
    assert main(["--config-dir", str(tmp_path), "--throttle-lease", written]) == 0

    assert started[0].throttle_lease == seconds


@pytest.mark.parametrize("written", ["0", "-1", "-10", "-20"])
def test_priorities(tmp_path: Path, started: list[Options], written: str) -> None:
    assert main(["--config-dir", str(tmp_path), "--nice", written]) == 0

    assert started[0].nice == int(written)


@pytest.mark.parametrize(
    "words",
    [
        *(("--throttle", one) for one in ("cpu", "cpu:0", "cpu:100", "cpu:05", "cpu:1.5", "stop")),
        *(("--throttle-lease", one) for one in ("15", "m", "-1s", "1.5h", "1w", "12345678s", "")),
        *(("--nice", one) for one in ("1", "-21", "-05", "+5", "high", "")),
    ],
    ids="=".join,
)
def test_what_cannot_mean_anything(
    tmp_path: Path,
    started: list[Options],
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--config-dir", str(tmp_path), *words])

    assert caught.value.code == 2
    assert words[0] in capsys.readouterr().err
    assert started == []
