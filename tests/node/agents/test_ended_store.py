"""`ended.json`: what is written is what is read, and nothing else is taken for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asys.node.agents.ended import Mark
from asys.node.agents.ended_store import MAX_SIZE, EndedStore
from asys.node.disk.files import ConfigError

MARKS: frozenset[Mark] = frozenset([(bytes(32), 1), (b"\xff" * 32, 0xFFFFFFFF)])


@pytest.mark.parametrize("marks", [MARKS, frozenset()])
async def test_what_is_saved_is_loaded(tmp_path: Path, marks: frozenset[Mark]) -> None:
    store = EndedStore(tmp_path)
    assert store.load() == frozenset()
    await store.save(marks)
    assert store.load() == marks
    assert store.path.stat().st_mode & 0o777 == 0o600


def text(**changes: object) -> str:
    return json.dumps({"version": 1, "ended": [{"key": "00" * 32, "expires": 1} | changes]})


@pytest.mark.parametrize(
    "written",
    [
        "",
        "[]",
        "{}",
        "\xff",
        '{"version": 2, "ended": []}',
        '{"version": 1, "ended": {}}',
        '{"version": 1, "ended": [7]}',
        text(key="00" * 31),
        text(key=7),
        text(expires=0),
        text(expires=True),
        text(expires="1"),
        text(expires=1 << 32),
        "[" * 100_000,
        " " * (MAX_SIZE + 1),
    ],
    ids=range(15),
)
def test_anything_else_is_damaged(tmp_path: Path, written: str) -> None:
    store = EndedStore(tmp_path)
    store.path.write_text(written, "latin-1")
    store.path.chmod(0o600)
    with pytest.raises(ConfigError, match=r"ended\.json is damaged; .* mv .*ended\.damaged"):
        store.load()


def test_what_others_may_write_is_not_read(tmp_path: Path) -> None:
    store = EndedStore(tmp_path)
    store.path.write_text(text())
    store.path.chmod(0o622)
    with pytest.raises(ConfigError, match="chmod 600"):
        store.load()
