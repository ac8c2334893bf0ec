"""The file of added agents: what is saved comes back, and damage never passes for less rights."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shlex
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.node.agents import delegated_store
from asys.node.agents.delegated_store import DamagedState, DelegatedStore
from asys.node.agents.directory import Delegate
from asys.node.disk import state
from asys.node.disk.files import ConfigError


def key(number: int) -> bytes:
    return bytes([5, number]) * 16


DELEGATES = (
    Delegate(key(2), key(1), 1 | 1 << 0x60, "two", 0),
    Delegate(key(3), key(2), (1 << 256) - 1, "", 0xFFFFFFFF),
    Delegate(key(4), key(1), 0, "A.b_c-9", 1_700_000_000),
)


@pytest.fixture
def store(tmp_path: Path) -> DelegatedStore:
    return DelegatedStore(tmp_path)


@pytest.fixture
def entries(store: DelegatedStore) -> list[dict[str, Any]]:
    """What the file has, after DELEGATES were saved."""
    asyncio.run(store.save(DELEGATES))
    found: list[dict[str, Any]] = json.loads(store.path.read_bytes())["agents"]
    return found


def put(store: DelegatedStore, content: object) -> None:
    store.path.write_text(content if isinstance(content, str) else json.dumps(content))
    store.path.chmod(0o600)


def test_what_is_saved_comes_back_in_order(store: DelegatedStore) -> None:
    asyncio.run(store.save(reversed([DELEGATES[0], DELEGATES[2]])))
    assert store.load() == (DELEGATES[2], DELEGATES[0])
    asyncio.run(store.save(DELEGATES))
    assert store.load() == DELEGATES
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert store.path.name == "delegated_agents.json"
    asyncio.run(store.save(()))
    assert store.load() == ()


def test_the_form_of_the_file(store: DelegatedStore, entries: list[dict[str, Any]]) -> None:
    lines = store.path.read_text().splitlines()
    assert lines[0] == '{"version": 1, "agents": ['
    assert lines[1] == (
        f'{{"key": "{"0502" * 16}", "parent": "{"0501" * 16}", '
        f'"caps": "00000001{"0" * 16}00000001{"0" * 32}", "label": "two", "expires": 0}},'
    )
    assert lines[4:] == ["]}"]
    assert [entry["caps"] for entry in entries[1:]] == ["f" * 64, "0" * 64]


@given(
    st.lists(
        st.builds(
            Delegate,
            key=st.binary(min_size=32, max_size=32).map(lambda raw: b"\5" + raw[1:]),
            parent=st.just(key(1)),
            caps=st.integers(0, (1 << 256) - 1),
            label=st.from_regex(r"([A-Za-z0-9._-]{1,31})?", fullmatch=True),
            expires=st.integers(0, 0xFFFFFFFF),
        ),
        unique_by=lambda one: one.key,
    )
)
def test_every_delegate_survives_the_file(delegates: list[Delegate]) -> None:
    assert delegated_store._decode(delegated_store._encode(delegates)) == tuple(delegates)


def test_no_file_is_no_agent(store: DelegatedStore) -> None:
    assert store.load() == ()


def changed(name: str, value: object) -> Callable[[list[dict[str, Any]]], None]:
    """The second of three entries with another value."""

    def change(entries: list[dict[str, Any]]) -> None:
        entries[1][name] = value

    return change


def without(name: str) -> Callable[[list[dict[str, Any]]], None]:
    return lambda entries: entries[1].pop(name) and None


DAMAGES: list[tuple[Callable[[list[Any]], object], str]] = [
    *((without(name), "does not have just") for name in ("key", "parent", "caps")),
    *((without(name), "does not have just") for name in ("label", "expires")),
    (changed("more", 1), "does not have just"),
    *(
        (changed(name, value), f"its {name} is not 64 lower-case hex digits")
        for name in ("key", "parent", "caps")
        for value in ("", "00" * 31, "00" * 33, "AB" * 32, "0x" + "0" * 62, 5, None, "٣" * 64)
    ),
    (changed("key", "0" * 64), "low order"),
    (changed("key", key(2).hex()), "its key stands there before"),
    (changed("key", key(1).hex()), "behind an agent that it has added"),
    (changed("parent", key(3).hex()), "behind an agent that it has added"),
    *((changed("label", value), "its label") for value in ("a b", "x" * 32, "a\n", "ü", 5, None)),
    *(
        (changed("expires", value), "its expires")
        for value in (-1, 1 << 32, 1.0, True, None, "0", 1e3)
    ),
    (lambda entries: entries.__setitem__(1, []), "does not have just"),
    (lambda entries: entries.__setitem__(1, None), "does not have just"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_one_damaged_entry_is_a_damaged_file(
    store: DelegatedStore,
    entries: list[dict[str, Any]],
    damage: Callable[[list[Any]], object],
    message: str,
) -> None:
    damage(entries)
    put(store, {"version": 1, "agents": entries})
    with pytest.raises(DamagedState, match=f"agent 2 of 3: .*{message}") as refused:
        store.load()
    assert str(store.path) in str(refused.value)


def chain(length: int) -> tuple[Delegate, ...]:
    return tuple(Delegate(key(i), key(i - 1), 1, "", 0) for i in range(2, length + 2))


def crowd(size: int) -> tuple[Delegate, ...]:
    return tuple(Delegate(key(2 + i), key(1 + i % 2 * min(i, 1)), 1, "", 0) for i in range(size))


@pytest.mark.parametrize(("made", "most"), [(chain, 4), (crowd, 64)])
def test_more_below_a_line_than_there_can_be(
    store: DelegatedStore, made: Callable[[int], tuple[Delegate, ...]], most: int
) -> None:
    asyncio.run(store.save(made(most)))
    assert store.load() == made(most)
    asyncio.run(store.save(made(most + 1)))
    with pytest.raises(DamagedState, match=f"agent {most + 1} of {most + 1}: it is one more"):
        store.load()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no JSON"),
        ('{"version": 1, "agents": [', "no JSON"),
        ('{"version": 1, "agents": []} {}', "no JSON"),
        ('{"version": 1, "version": 1, "agents": []}', "a name stands twice"),
        ("[" * 100_000, "no JSON"),
        ('{"version": 1' + "0" * 5000 + ', "agents": []}', "no JSON"),
        ('{"version": 1, "agents": [], "ü": 1}', "no JSON"),
        ([], "no version"),
        ({"agents": []}, "no version"),
        ({"version": True, "agents": []}, "no version"),
        ({"version": 2, "agents": []}, "version 2, and this asyd knows 1"),
        ({"version": 1}, "no list of agents"),
        ({"version": 1, "agents": {}}, "no list of agents"),
        ({"version": 1, "agents": [], "more": 1}, "or more than that"),
    ],
)
def test_a_file_of_another_form_is_damaged(
    store: DelegatedStore, content: object, message: str
) -> None:
    put(store, content)
    with pytest.raises(DamagedState, match=f"delegated_agents.json is damaged: .*{message}"):
        store.load()


@given(st.data())
def test_any_byte_that_is_lost_is_noticed_or_means_nothing(data: st.DataObject) -> None:
    """Whatever is cut off from the end but the last newline is damage."""
    whole = delegated_store._encode(DELEGATES)
    cut = whole[: data.draw(st.integers(0, len(whole) - 2))]
    with pytest.raises(delegated_store._Damage):
        delegated_store._decode(cut)


def test_the_remedy_works(tmp_path: Path) -> None:
    directory = tmp_path / "it's here"
    directory.mkdir()
    store = DelegatedStore(directory)
    put(store, "damaged")
    with pytest.raises(DamagedState) as refused:
        store.load()
    subprocess.run(shlex.split(str(refused.value).rpartition("run: ")[2]), check=True)
    assert store.load() == ()
    assert (directory / "delegated_agents.damaged").read_text() == "damaged"


@pytest.mark.parametrize("mode", [0o644, 0o620])
def test_a_file_that_others_can_reach_is_refused(store: DelegatedStore, mode: int) -> None:
    put(store, {"version": 1, "agents": []})
    store.path.chmod(mode)
    with pytest.raises(ConfigError, match=r"chmod 600 .*delegated_agents\.json"):
        store.load()


def test_a_file_is_never_larger_than_what_is_read(
    store: DelegatedStore, monkeypatch: pytest.MonkeyPatch, entries: list[dict[str, Any]]
) -> None:
    size = store.path.stat().st_size
    monkeypatch.setattr(delegated_store, "MAX_SIZE", size)
    asyncio.run(store.save(DELEGATES))
    assert store.load() == DELEGATES
    monkeypatch.setattr(delegated_store, "MAX_SIZE", size - 1)
    with pytest.raises(DamagedState, match="larger than"):
        store.load()
    with pytest.raises(OSError, match="File too large") as failed:
        asyncio.run(store.save(DELEGATES))
    assert failed.value.errno == errno.EFBIG
    assert len(entries) == 3


def test_a_save_that_fails_leaves_what_was(
    store: DelegatedStore, monkeypatch: pytest.MonkeyPatch, entries: list[dict[str, Any]]
) -> None:
    before = store.path.read_bytes()

    async def full(path: Path, data: bytes, mode: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(state, "replace", full)
    with pytest.raises(OSError, match="No space left") as failed:
        asyncio.run(store.save(DELEGATES[:1]))
    assert failed.value.errno == errno.ENOSPC
    assert store.path.read_bytes() == before
    assert len(entries) == 3
    assert sorted(os.listdir(store.path.parent)) == ["delegated_agents.json"]
