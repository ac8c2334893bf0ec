"""`delegated_agents.json`: the agents that agents have added, over restarts of the node.

    {"version": 1, "agents": [
    {"key": 64 hex digits, "parent": the same, "caps": the same, "label": "", "expires": 0},
    ...
    ]}

In order of registration, so a parent that is an added agent itself stands before its children.
`caps` is the map as on the wire (docs/protocol.md, section 7), `expires` in Unix seconds, 0 never.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from asys.isa.capmap import from_wire, to_wire
from asys.node.agents.book import LABEL
from asys.node.agents.directory import LAST_SECOND, MAX_DELEGATES, MAX_DEPTH, Delegate
from asys.node.disk import state
from asys.node.disk.files import ConfigError, is_there, quoted, read_private
from asys.protocol.keys import is_low_order

VERSION: Final = 1

MAX_SIZE: Final = 16 << 20
"""Bytes of the file at most: some 50,000 agents."""

_HEX: Final = re.compile(r"[0-9a-f]{64}")
_FIELDS: Final = ("key", "parent", "caps", "label", "expires")


class DamagedState(ConfigError):
    """The file does not say who may do what; the message says where, and what to do."""


class DelegatedStore:
    """The file in the node's state directory."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "delegated_agents.json"

    def load(self) -> tuple[Delegate, ...]:
        """What was saved last, in order of registration; nothing when there is no file.

        DamagedState when any part of it is not as `save` writes it, ConfigError when it cannot be
        read or is not private.
        """
        if not is_there(self.path):
            return ()
        data = read_private(self.path, forbidden=0o077, mend="600", limit=MAX_SIZE)
        try:
            if len(data) > MAX_SIZE:
                raise _Damage(f"it is larger than {MAX_SIZE} bytes")
            return _decode(data)
        except _Damage as damage:
            raise DamagedState(
                f"{self.path} is damaged: {damage}. Restore it from a backup, or, to go on without "
                "the agents that agents have added, run: "
                f"mv {quoted(self.path)} {quoted(self.path.with_suffix('.damaged'))}"
            ) from None

    async def save(self, delegates: Iterable[Delegate]) -> None:
        """Writes them, on the disk when this returns. OSError and TimeoutError as state.replace."""
        data = _encode(delegates)
        if len(data) > MAX_SIZE:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(self.path))
        await state.replace(self.path, data, 0o600)


class DamagedStore:
    """In place of a file that is damaged: it stays as it is, for whoever mends it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def save(self, delegates: Iterable[Delegate]) -> None:
        """OSError: nothing is saved."""
        raise OSError(errno.EIO, "the file is damaged and stays as it is", str(self.path))


class _Damage(Exception):
    """What is wrong with the file."""


def _encode(delegates: Iterable[Delegate]) -> bytes:
    lines = [
        json.dumps(
            {
                "key": one.key.hex(),
                "parent": one.parent.hex(),
                "caps": to_wire(one.caps).hex(),
                "label": one.label,
                "expires": one.expires,
            }
        )
        for one in delegates
    ]
    head = f'{{"version": {VERSION}, "agents": ['
    return "\n".join([head, ",\n".join(lines), "]}\n"]).encode("ascii")


def _decode(data: bytes) -> tuple[Delegate, ...]:
    try:
        whole = json.loads(data.decode("ascii"), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise _Damage(f"it is no JSON ({error})") from None
    if not isinstance(whole, dict) or type(whole.get("version")) is not int:
        raise _Damage("it has no version")
    if whole["version"] != VERSION:
        raise _Damage(f"it has version {whole['version']}, and this asyd knows {VERSION}")
    entries = whole.get("agents")
    if whole.keys() != {"version", "agents"} or not isinstance(entries, list):
        raise _Damage("it has no list of agents, or more than that")
    found: dict[bytes, Delegate] = {}
    parents: set[bytes] = set()
    places: dict[bytes, tuple[bytes, int]] = {}
    below: Counter[bytes] = Counter()
    for number, entry in enumerate(entries, 1):
        try:
            one = _decode_entry(entry)
            if one.key in found:
                raise _Damage("its key stands there before")
            if one.key in parents or one.key == one.parent:
                raise _Damage("it stands behind an agent that it has added")
            root, depth = places.get(one.parent, (one.parent, 0))
            below[root] += 1
            if depth >= MAX_DEPTH or below[root] > MAX_DELEGATES:
                raise _Damage("it is one more below its line than there can be")
        except _Damage as damage:
            raise _Damage(f"agent {number} of {len(entries)}: {damage}") from None
        found[one.key] = one
        places[one.key] = root, depth + 1
        parents.add(one.parent)
    return tuple(found.values())


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return names


def _decode_entry(entry: object) -> Delegate:
    if not isinstance(entry, dict) or entry.keys() != set(_FIELDS):
        raise _Damage(f"it does not have just {', '.join(_FIELDS)}")
    key, parent, caps = (_hex(entry, name) for name in ("key", "parent", "caps"))
    label, expires = entry["label"], entry["expires"]
    if not isinstance(label, str) or (label and not LABEL.fullmatch(label)):
        raise _Damage("its label is not 1 to 31 of A-Z a-z 0-9 . _ - or empty")
    if type(expires) is not int or not 0 <= expires <= LAST_SECOND:
        raise _Damage(f"its expires is not a number of 0 to {LAST_SECOND}")
    if is_low_order(key):
        raise _Damage("its key is of low order")
    return Delegate(key, parent, from_wire(caps), label, expires)


def _hex(entry: dict[str, object], name: str) -> bytes:
    written = entry[name]
    if not isinstance(written, str) or not _HEX.fullmatch(written):
        raise _Damage(f"its {name} is not 64 lower-case hex digits")
    return bytes.fromhex(written)
