"""The corpus and every input that failed once, without a fuzzer: as good on any platform."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from fuzz.catalog import CORPUS, REGRESSIONS, TARGETS
from fuzz.choices import Choices, Script

each = pytest.mark.parametrize("name", sorted(TARGETS))


def target(name: str) -> Any:
    return importlib.import_module(TARGETS[name].module)


@each
def test_the_corpus_is_that_of_the_seeds_and_shows_no_defect(name: str) -> None:
    module = target(name)
    kept = {path: path.read_bytes() for path in (CORPUS / name).iterdir()}
    seeds = {data for path, data in kept.items() if path.name.startswith("seed-")}
    assert seeds == set(module.seeds()), "run: PYTHONPATH=tests:. python -m fuzz.seeds"
    assert all(len(data) <= TARGETS[name].longest for data in kept.values())
    for data in kept.values():
        module.one(data)


@pytest.mark.parametrize(
    "path", sorted(REGRESSIONS.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_what_failed_once_does_not_fail_again(path: Path) -> None:
    target(path.parent.name).one(path.read_bytes())


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.glob("*/*")) < 300_000
    assert {path.name for path in CORPUS.iterdir()} == TARGETS.keys()
    assert {path.name for path in REGRESSIONS.iterdir()} <= TARGETS.keys()


def test_what_is_written_is_read() -> None:
    script = (
        Script().byte(1, 2).u16(0x0304).u32(5).blob("six").blob(b"7").byte(2, 1, 2).raw(b"abcd")
    )
    choices = Choices(bytes(script))
    assert (choices.byte(), choices.flag()) == (1, False)
    assert (choices.u16(), choices.u32()) == (0x0304, 5)
    assert (choices.text(), choices.blob()) == ("six", b"7")
    assert choices.pieces() == [b"a", b"bc", b"d"]
    assert (choices.left, choices.byte(), choices.u32(), choices.text()) == (0, 0, 0, "")
    assert choices.pick("abc") == "a"
    assert Choices(b"\x01\x02").pieces(b"xyz") == [b"xy", b"z"]
