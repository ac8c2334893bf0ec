"""The node's own state files: read as they were written, or a fault that says what to do."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any, Final

from asys.isa.capmap import ALL
from asys.node.agents import delegated_store
from asys.node.agents.delegated_store import DelegatedStore
from asys.node.agents.directory import MAX_DEPTH, Delegate
from asys.node.disk.files import ConfigError
from asys.node.held import isolations_store, throttled_store
from asys.node.held.isolations_store import IsolationsStore
from asys.node.held.throttled_store import ThrottledStore
from asys.protocol.keys import PrivateKey, is_low_order
from fuzz import scratch
from fuzz.choices import Choices, Script

COVERS = (
    "asys.node.agents.delegated_store",
    "asys.node.held.isolations_store",
    "asys.node.held.throttled_store",
)

BOOT: Final = "this"
KEYS: Final = [PrivateKey(bytes([number]) * 32).public for number in (1, 2, 3)]


@functools.cache
def _stores() -> tuple[DelegatedStore, ThrottledStore, IsolationsStore]:
    directory = scratch.directory()
    return (
        DelegatedStore(directory),
        ThrottledStore(directory, BOOT),
        IsolationsStore(directory, BOOT),
    )


def one(data: bytes) -> None:
    """A file of one of the three kinds."""
    choices = Choices(data)
    store = _stores()[choices.below(3)]
    written = _with_keys(choices.rest())
    scratch.file(store.path.name, written)
    try:
        found = store.load()
    except ConfigError as error:
        assert "run: mv " in str(error)
        assert str(error).isprintable()
        return
    if isinstance(store, DelegatedStore):
        delegates = store.load()
        _are_in_order(delegates)
        scratch.file(store.path.name, delegated_store._encode(delegates))
        assert store.load() == delegates
        return
    name = "throttled" if isinstance(store, ThrottledStore) else "isolations"
    whole = json.loads(written)
    if whole["boot"] != BOOT:
        assert found == ()
        return
    entries: list[Any] = list(found)
    assert len(entries) == len(whole[name])
    for entry, said in zip(entries, whole[name], strict=True):
        told = entry._asdict()
        assert {key: told[key] for key in said} == said
        assert all(type(told[key]) is type(said[key]) for key in said)
        assert all(value >= 0 for value in told.values() if isinstance(value, int))
        assert entry.key == "" or len(bytes.fromhex(entry.key)) == 32
    again = _written(name, [entry._asdict() for entry in entries])
    scratch.file(store.path.name, again)
    assert list(store.load()) == entries


def _are_in_order(delegates: tuple[Delegate, ...]) -> None:
    """No agent twice, parents first, and none deeper than there can be."""
    depths: dict[bytes, int] = {}
    for one in delegates:
        assert one.key not in depths
        assert not is_low_order(one.key)
        assert one.key != one.parent
        depths[one.key] = depths.get(one.parent, 0) + 1
        assert depths[one.key] <= MAX_DEPTH
        assert 0 <= one.caps < 1 << 256
    for number, one in enumerate(delegates):
        assert one.parent not in {later.key for later in delegates[number:]}


def _written(name: str, entries: list[dict[str, Any]], boot: str = BOOT) -> bytes:
    return json.dumps({"version": 1, "boot": boot, name: entries}).encode()


def _with_keys(data: bytes) -> bytes:
    for sign, key in zip("\u00a7\u00b6\u00a4", KEYS, strict=True):
        data = data.replace(sign.encode(), key.hex().encode())
    return data


def seeds() -> Iterator[bytes]:
    """Files as they are written, of this boot and another; and what is none."""
    child = Delegate(KEYS[1], KEYS[0], ALL, "child", 0)
    grandchild = Delegate(KEYS[2], KEYS[1], 7, "", 1_900_000_000)
    for delegates in ((), (child,), (child, grandchild)):
        written = delegated_store._encode(delegates)
        for sign, key in zip("\u00a7\u00b6\u00a4", KEYS, strict=True):
            written = written.replace(key.hex().encode(), sign.encode())
        yield bytes(Script().byte(0).raw(written))
    stopped = throttled_store.Entry(4711, 90, "java", "\u00a7", "web", 7, "signal", "")
    cut = isolations_store.Entry(4711, 90, "java", "\u00a7", "web", 7, 60, True)
    for kind, name, entry in ((1, "throttled", stopped), (2, "isolations", cut)):
        for boot in (BOOT, "other"):
            entries = [entry._asdict(), entry._asdict()]
            text = json.dumps({"version": 1, "boot": boot, name: entries}, ensure_ascii=False)
            yield bytes(Script().byte(kind).raw(text.encode()))
        for bad in ("", "[]", "{}", '{"version": 2}', '{"version": 1, "boot": "this"}', "[" * 300):
            yield bytes(Script().byte(kind).raw(bad.encode()))
