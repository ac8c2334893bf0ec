"""Which instruction sets have run here: what is put down, and how versions compare."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asys import __version__
from asys.isa import REGISTRY
from asys.isa.capmap import CARRIER, bits
from asys.node.agents.ran import (
    MAX_SIZE,
    InstructionSet,
    RanStore,
    before,
    set_of,
    this_set,
)
from asys.node.disk.files import ConfigError
from support.planted import CODE, coming

OLD = InstructionSet("0.0.9", 0b1111)
NOW = this_set()
NEXT = InstructionSet("99.0", NOW.codes | 1 << CODE)


def test_this_set_is_what_the_declarations_say() -> None:
    assert NOW.asyd == __version__
    assert NOW.codes == bits(one.code for one in REGISTRY) & ~CARRIER
    assert this_set(coming()).codes == NEXT.codes


@pytest.mark.parametrize("ran", [(), (OLD,), (OLD, NOW)])
async def test_what_is_saved_is_loaded(tmp_path: Path, ran: tuple[InstructionSet, ...]) -> None:
    store = RanStore(tmp_path)
    assert store.load() == ()
    await store.save(ran)
    assert store.load() == ran
    assert store.path.stat().st_mode & 0o777 == 0o600


async def test_the_last_two_are_kept(tmp_path: Path) -> None:
    store = RanStore(tmp_path)
    await store.save((OLD, NOW, NEXT))
    assert store.load() == (NOW, NEXT)


def text(**changes: object) -> str:
    return json.dumps({"version": 1, "ran": [{"asyd": "0.1.0", "codes": "00" * 32} | changes]})


@pytest.mark.parametrize(
    "written",
    [
        "",
        "[]",
        "{}",
        "\xff",
        '{"version": 2, "ran": []}',
        '{"version": 1, "ran": {}}',
        '{"version": 1, "ran": [7]}',
        '{"version": 1, "ran": [1, 2, 3]}',
        text(codes="00" * 31),
        text(codes="0G" * 32),
        text(codes=7),
        text(asyd=""),
        text(asyd="a b"),
        text(asyd="\x1b"),
        text(asyd=None),
        "[" * 4000,
        " " * (MAX_SIZE + 1),
    ],
    ids=range(17),
)
def test_anything_else_is_damaged(tmp_path: Path, written: str) -> None:
    store = RanStore(tmp_path)
    store.path.write_bytes(written.encode("latin-1"))
    store.path.chmod(0o600)
    with pytest.raises(ConfigError, match=r"is damaged; to go on without it, run: rm "):
        store.load()


def test_a_file_that_others_may_write_is_not_believed(tmp_path: Path) -> None:
    store = RanStore(tmp_path)
    store.path.write_text(text())
    store.path.chmod(0o620)
    with pytest.raises(ConfigError, match="permissions 0620"):
        store.load()


def test_what_ran_before_is_told_on_both_sides_of_an_upgrade() -> None:
    assert before((), NOW) is None
    assert before((NOW,), NOW) is None
    assert before((OLD,), NOW) == OLD
    assert before((OLD, NOW), NOW) == OLD
    assert before((OLD, NOW), NEXT) == NOW  # it is not started yet
    assert before((NOW, NEXT), NEXT) == NOW
    assert before((NEXT, NOW), NOW) == NEXT  # on the way back


@pytest.mark.parametrize(
    ("version", "has_it"),
    [
        ("98", False),
        ("98.9.9-1", False),
        ("99", True),
        ("99.0", True),
        ("99.0.0-1~bpo12+1", True),
        ("99.0.1", True),
        ("1:99.0-3", True),
        ("100", True),
        ("99.0~rc1-1", False),
        ("99.0rc1", False),
        ("99.0.dev7", False),
        ("99.0a1", False),
        ("99.0.1~rc1", True),
        ("0.1.0", False),
    ],
)
def test_a_version_had_what_is_there_since_then(version: str, has_it: bool) -> None:
    found = set_of(version, coming())
    assert found.asyd == version
    assert bool(found.codes >> CODE & 1) == has_it
    assert found.codes & ~(1 << CODE) == NOW.codes


def test_what_is_no_version() -> None:
    for version in ("", "new", "v1", "1..2", "-1"):
        with pytest.raises(ValueError, match="is no version, such as"):
            set_of(version)
    assert set_of("0.0.1").codes == 0


@pytest.mark.parametrize("one", list(REGISTRY), ids=lambda one: one.name)
def test_every_declaration_says_since_when(one: object) -> None:
    """And none is of a version that is yet to come: what has `since` wrong is lit unseen."""
    alone = coming().get(one.code)  # type: ignore[attr-defined]
    assert alone is not None
    if not alone.carrier:
        assert set_of(__version__).codes >> alone.code & 1, "since= is missing, or is too late"
