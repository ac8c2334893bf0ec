"""Which nodes there are: entries with names and labels, and the TOML file that lists them.

    [defaults]                        # holds for every node that does not say otherwise
    identity = "~/.asys"              # the directory of this agent's key
    labels = { env = "prod" }

    [nodes.db1]
    host = "10.0.0.11"
    key = "64 hex digits"             # as `asyd pubkey` prints it; or known_hosts = "FILE"
    labels = { role = "db" }

A path that is not absolute is relative to the file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from asys.client.address import Address
from asys.client.identity import default_directory
from asys.client.options import check_timeout
from asys.errors import ArgumentError, InventoryError
from asys.protocol.keys import is_low_order
from asys.protocol.limits import DEFAULT_PORT, KEY_SIZE

FILE: Final = "fleet.toml"
"""The name of the inventory in `~/.asys`."""

MAX_FILE: Final = 16 << 20
"""Bytes of an inventory; more is not an inventory."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}")
_HEX_KEY: Final = re.compile(f"[0-9A-Fa-f]{{{2 * KEY_SIZE}}}")
_HEADER: Final = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(#.*)?")

_DEFAULTS: Final = ("port", "known_hosts", "identity", "deadline", "labels")
_OF_NODE: Final = ("host", "key", *_DEFAULTS)

NAME_LABEL: Final = "name"
"""What a selector calls a node's name; so no label may be called that."""


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """One node: where it is, which key it must show, who asks it, and what it is called.

    `key` is the node's public key, 32 bytes; without it, `known_hosts` has it. `identity` is the
    directory of the agent's key. None: as the Fleet has it. `deadline` in seconds.
    """

    name: str
    host: str
    port: int = DEFAULT_PORT
    key: bytes | None = None
    known_hosts: Path | None = None
    identity: Path | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    deadline: float | None = None

    def __post_init__(self) -> None:
        """ArgumentError for what cannot be a node."""
        if _NAME.fullmatch(self.name) is None:
            raise ArgumentError(
                f"{self.name!r} is no name of a node: letters, digits and . _ -, at most 63"
            )
        Address.of(self.host, self.port)
        if self.key is not None and (len(self.key) != KEY_SIZE or is_low_order(self.key)):
            raise ArgumentError(f"key must be {KEY_SIZE} bytes of a usable X25519 key")
        if self.key is not None and self.known_hosts is not None:
            raise ArgumentError("key and known_hosts exclude each other; leave one of them out")
        if self.deadline is not None:
            check_timeout(self.deadline)
        for label, value in self.labels.items():
            if label == NAME_LABEL:
                raise ArgumentError(f"no label may be called {NAME_LABEL}: a node has that anyway")
            for one in (label, value):
                if not isinstance(one, str) or _LABEL.fullmatch(one) is None:
                    raise ArgumentError(
                        f"{one!r} cannot be in a label: text of letters, digits and . _ / -"
                    )

    @property
    def address(self) -> str:
        """As `known_hosts` has it."""
        return str(Address.of(self.host, self.port))

    def __hash__(self) -> int:
        return hash(self.name)


Selector: TypeAlias = str | Mapping[str, str] | Callable[[NodeEntry], bool]
"""Which nodes: `"role=db,env=prod"`, the same as a mapping, or a predicate."""


class Inventory:
    """Nodes by name, in their order."""

    def __init__(self, nodes: Iterable[NodeEntry]) -> None:
        """ArgumentError when two nodes have one name."""
        self._nodes: dict[str, NodeEntry] = {}
        for one in nodes:
            if self._nodes.setdefault(one.name, one) is not one:
                raise ArgumentError(f"two nodes are called {one.name}")

    @classmethod
    def load(cls, path: Path | str | None = None) -> Inventory:
        """The inventory in a file, by default `~/.asys/fleet.toml`.

        InventoryError when it cannot be read or a part of it cannot be used; the message names the
        line and the key of each fault.
        """
        file = default_directory() / FILE if path is None else Path(path).expanduser()
        try:
            with file.open("rb") as opened:
                written = opened.read(MAX_FILE + 1)
        except FileNotFoundError:
            raise InventoryError(
                f"there is no inventory {file}; write one, with a table [nodes.NAME] and its host "
                "for each node"
            ) from None
        except OSError as error:
            raise InventoryError(f"cannot read {file}: {error.strerror}") from error
        if len(written) > MAX_FILE:
            raise InventoryError(f"{file} has more than {MAX_FILE} bytes: it is no inventory")
        try:
            text = written.decode("utf-8")
        except UnicodeDecodeError:
            raise InventoryError(f"{file} is not a text file in UTF-8") from None
        return cls.parse(text, file)

    @classmethod
    def parse(cls, text: str, path: Path | str = FILE) -> Inventory:
        """The inventory in a text that `path` has. InventoryError as `load`."""
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InventoryError(f"{path}: {error}") from None  # it names line and column
        except (ValueError, RecursionError) as error:  # a number or a nesting beyond Python's own
            raise InventoryError(f"{path}: something in it cannot be read: {error}") from None
        return cls(_Reader(text, Path(path)).read(tables))

    def select(self, selector: Selector | None = None) -> tuple[NodeEntry, ...]:
        """The nodes that a selector means, in their order; None: all. There may be none.

        ArgumentError when it cannot be read, or asks for a label that no node has.
        """
        if selector is None:
            return tuple(self)
        if callable(selector):
            return tuple(one for one in self if selector(one))
        wanted = parse_selector(selector) if isinstance(selector, str) else dict(selector)
        known = {label for one in self for label in one.labels} | {NAME_LABEL}
        for label in wanted:
            if label not in known:
                there = ", ".join(sorted(known))
                raise ArgumentError(f"no node has the label {label}; there are: {there}")
        return tuple(one for one in self if _has(one, wanted))

    def __getitem__(self, name: str) -> NodeEntry:
        """The node with that name. ArgumentError: there is none."""
        found = self._nodes.get(name)
        if found is None:
            raise ArgumentError(f"no node is called {name!r}")
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def __iter__(self) -> Iterator[NodeEntry]:
        return iter(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)

    def __repr__(self) -> str:
        return f"<Inventory of {len(self)} nodes>"


def parse_selector(written: str) -> dict[str, str]:
    """`role=db,env=prod` as a mapping; all of it must hold. ArgumentError: it cannot be read."""
    wanted: dict[str, str] = {}
    for part in written.split(","):
        label, equals, value = (one.strip() for one in part.partition("="))
        if not (equals and label and value):
            raise ArgumentError(f"{written!r} selects nothing; it is written LABEL=VALUE,...")
        if wanted.setdefault(label, value) != value:
            raise ArgumentError(f"{written!r} asks for two values of {label}; no node has both")
    return wanted


def _has(entry: NodeEntry, wanted: Mapping[str, str]) -> bool:
    return all(
        (entry.name if label == NAME_LABEL else entry.labels.get(label)) == value
        for label, value in wanted.items()
    )


class _Reader:
    """Tables -> entries. Every fault is collected, so that one look at the file is enough."""

    def __init__(self, text: str, path: Path) -> None:
        self._lines = text.splitlines()
        self._path = path
        self._faults: list[str] = []

    def read(self, tables: Mapping[str, Any]) -> list[NodeEntry]:
        """The nodes. InventoryError has all faults."""
        for name in tables:
            if name not in ("defaults", "nodes"):
                self._fault((name,), "is unknown; there are: defaults, nodes")
        defaults = self._values(("defaults",), tables.get("defaults", {}), _DEFAULTS)
        nodes = tables.get("nodes", {})
        if not isinstance(nodes, dict):
            self._fault(("nodes",), "must be a table for each node: [nodes.NAME]")
            nodes = {}
        entries = [self._entry(name, table, defaults) for name, table in nodes.items()]
        if not nodes and not self._faults:
            self._fault((), "there is no node in it; each is a table [nodes.NAME] with its host")
        if self._faults:
            raise InventoryError("\n".join(self._faults))
        return [one for one in entries if one is not None]

    def _entry(self, name: str, table: Any, defaults: Mapping[str, Any]) -> NodeEntry | None:
        where = ("nodes", name)
        before = len(self._faults)
        values = self._values(where, table, _OF_NODE)
        if "host" not in values and len(self._faults) == before:
            self._fault(where, "has no host")
        if len(self._faults) > before:
            return None
        merged = {**defaults, **values}
        if "key" in values and "known_hosts" not in values:
            merged.pop("known_hosts", None)
        merged["labels"] = {**defaults.get("labels", {}), **values.get("labels", {})}
        try:
            return NodeEntry(name=name, **merged)
        except ArgumentError as error:
            self._fault(where, str(error), colon=True)
            return None

    def _values(self, where: tuple[str, ...], table: Any, allowed: Iterable[str]) -> dict[str, Any]:
        if not isinstance(table, dict):
            self._fault(where, "must be a table")
            return {}
        found: dict[str, Any] = {}
        for key, value in table.items():
            if key not in allowed:
                self._fault((*where, key), f"is unknown; there are: {', '.join(allowed)}")
                continue
            try:
                found[key] = _VALUES[key](value, self._path.parent)
            except ArgumentError as error:
                self._fault((*where, key), str(error))
        return found

    def _fault(self, where: tuple[str, ...], said: str, *, colon: bool = False) -> None:
        line = self._line_of(where)
        place = f"{self._path}, line {line}" if line else str(self._path)
        named = f"{'.'.join(where)}{':' if colon else ''} " if where else ""
        self._faults.append(f"{place}: {named}{said}")

    def _line_of(self, where: tuple[str, ...]) -> int:
        """The line of a key, or of the table that it is in; 0 where that cannot be told.

        tomllib does not say where it found a value, so this looks for the usual way to write one.
        """
        if not where:
            return 0
        best = 0
        table: tuple[str, ...] = ()
        for number, line in enumerate(self._lines, start=1):
            header = _HEADER.fullmatch(line)
            if header is not None:
                table = tuple(one.strip(" \"'") for one in header[1].split("."))
                if where and table[: len(where)] == where:
                    return number
                if table == where[: len(table)]:
                    best = number
            elif table == where[:-1] and "=" in line:
                key = line.partition("=")[0].strip(" \t\"'")
                if key.partition(".")[0].strip() == where[-1]:
                    return number
        return best


def _host(value: Any, _directory: Path) -> str:
    if not isinstance(value, str):
        raise ArgumentError(f"must be a name or an address, not {value!r}")
    Address.of(value)
    return value


def _port(value: Any, _directory: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 0xFFFF:
        raise ArgumentError(f"must be 1 to 65535, not {value!r}")
    return value


def _key(value: Any, _directory: Path) -> bytes:
    if not isinstance(value, str) or _HEX_KEY.fullmatch(value) is None:
        raise ArgumentError(
            f"must be the {2 * KEY_SIZE} hex digits that `asyd pubkey` prints on the node"
        )
    return bytes.fromhex(value)


def _path(value: Any, directory: Path) -> Path:
    if not isinstance(value, str) or not value:
        raise ArgumentError(f"must be a path, not {value!r}")
    try:
        return directory / Path(value).expanduser()
    except (RuntimeError, ValueError) as error:  # ~ where there is no home, or no such name
        raise ArgumentError(f"{value!r}: {error}") from None


def _deadline(value: Any, _directory: Path) -> float:
    try:
        return check_timeout(value)
    except ArgumentError as error:
        raise ArgumentError(f"is no deadline: {error}") from None


def _labels(value: Any, _directory: Path) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise ArgumentError('must be a table of texts, as { role = "db" }')
    return value


_VALUES: Final[Mapping[str, Callable[[Any, Path], Any]]] = {
    "host": _host,
    "port": _port,
    "key": _key,
    "known_hosts": _path,
    "identity": _path,
    "deadline": _deadline,
    "labels": _labels,
}
"""Key of a table -> what reads its value. ArgumentError says what it must be."""
