"""`authorized_nodes`: whose audits a collector keeps (docs/audit.md, section 11). No I/O.

One node a line: 64 hex digits and a label, which is the name of the node's directory. Blank lines
and lines that begin with # are skipped.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

from asys.protocol.keys import is_low_order

NODES_FILE: Final = "authorized_nodes"
KEY_FILE: Final = "id_curve25519"
PUBLIC_FILE: Final = "id_curve25519.pub"

MAX_NODES_FILE: Final = 4 << 20
"""Bytes of `authorized_nodes` that are read at most: more than 40,000 nodes."""

LOCK_FILE: Final = "lock"

_RESERVED: Final = frozenset((NODES_FILE, KEY_FILE, PUBLIC_FILE, LOCK_FILE))
_LABEL: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,30}")
_KEY: Final = re.compile(r"[0-9A-Fa-f]{64}")


@dataclass(frozen=True, slots=True)
class Nodes:
    """Key -> label of each node, and what is wrong with the lines that grant nothing."""

    labels: dict[bytes, str]
    faults: tuple[str, ...] = ()


def parse_label(text: str) -> str:
    """A label as it may stand in the file. ValueError."""
    if not _LABEL.fullmatch(text) or text in _RESERVED:
        raise ValueError(
            f"{text!r} is no label: 1 to 31 letters, digits, '.', '_' and '-', not beginning "
            f"with '.', and none of {', '.join(sorted(_RESERVED))}"
        )
    return text


def parse_key(text: str) -> bytes:
    """A node's public key from its 64 hex digits. ValueError."""
    if not _KEY.fullmatch(text):
        raise ValueError(f"{text!r} is no key: a node's public key has 64 hex digits")
    key = bytes.fromhex(text)
    if is_low_order(key):
        raise ValueError(f"{text} is nobody's key: every exchange with it gives the same secret")
    return key


def parse_nodes(text: str) -> Nodes:
    """The nodes of the file. A line that is bad, or one of two that contradict, grants nothing."""
    faults: list[str] = []
    lines: list[tuple[int, bytes, str]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            if len(words) != 2:
                raise ValueError("a line is a key of 64 hex digits, a space and a label")
            lines.append((number, parse_key(words[0]), parse_label(words[1])))
        except ValueError as error:
            faults.append(f"line {number}: {error}")
    keys = Counter(key for _, key, _ in lines)
    labels = Counter(_folded(label) for _, _, label in lines)
    known = {}
    for number, key, label in lines:
        if keys[key] > 1:
            faults.append(f"line {number}: the key {key.hex()} stands here more than once")
        elif labels[_folded(label)] > 1:
            faults.append(f"line {number}: more than one node is called {label}")
        else:
            known[key] = label
    return Nodes(known, tuple(faults))


def admitted(text: str, key: bytes, label: str) -> str:
    """The file's text with one more node. The same again changes nothing. ValueError."""
    for line in text.split("\n"):
        words = line.split()
        if len(words) != 2 or words[0].startswith("#"):
            continue
        same_key = words[0].lower() == key.hex()
        if same_key and words[1] == label:
            return text
        if same_key:
            raise ValueError(f"this key is admitted already, as {words[1]}")
        if _folded(words[1]) == _folded(label):
            raise ValueError(
                f"{words[1]} is another node, with the key {words[0]}; if that node has a new "
                "key, remove its line first"
            )
    gap = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{gap}{key.hex()} {label}\n"


def _folded(label: str) -> str:
    """Two labels that differ in case only would be one directory on some file systems."""
    return label.lower()
