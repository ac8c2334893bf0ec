"""`authorized_agents`: who may connect, and what exists for them (docs/protocol.md, section 8).

One agent a line: 64 hex digits, then a label, then options. A line that is not understood whole
grants nothing: it is reported with its number, and the others hold.
"""

from __future__ import annotations

import re
import reprlib
from dataclasses import dataclass, field
from typing import Final

from asys.node.capability import CORE, CapabilityError, parse_caps
from asys.protocol.keys import is_low_order
from asys.protocol.limits import KEY_SIZE

LABEL: Final = re.compile(r"[A-Za-z0-9._-]{1,31}")
_KEY: Final = re.compile(r"[0-9A-Fa-f]{64}")
_ABOUT: Final = re.compile(r"[^0-9A-Za-z#]*([0-9A-Fa-f]{64})(?![0-9A-Za-z])")


@dataclass(frozen=True, slots=True)
class Agent:
    """One line that holds. `key` is the static public key, `caps` the capability map."""

    key: bytes
    label: str
    caps: int
    line: int

    @property
    def name(self) -> str:
        """What logs call it: its label, or the first 8 digits of its key."""
        return self.label or self.key.hex()[:8]


class BadLine(ValueError):
    """A line that grants nothing; the message says why, and what would be right."""


@dataclass(frozen=True, slots=True)
class AgentBook:
    """What one reading of the file gave: agents by key, and the lines that were refused."""

    agents: dict[bytes, Agent] = field(default_factory=dict)
    faults: tuple[tuple[int, str], ...] = ()

    def get(self, key: bytes) -> Agent | None:
        """The agent with this static public key."""
        return self.agents.get(key)


def parse_agents(written: str) -> AgentBook:
    """Reads the text of `authorized_agents`. Never raises: bad lines are in `faults`."""
    agents: dict[bytes, Agent] = {}
    faults: list[tuple[int, str]] = []
    first_lines: dict[bytes, int] = {}
    # Only \n ends a line: other separators that str.splitlines knows could hide a second agent.
    for number, whole in enumerate(written.split("\n"), 1):
        line = whole.removesuffix("\r").strip(" \t")
        if not line or line.startswith("#"):
            continue
        key = line_key(line)
        if key is not None and key in first_lines:
            first = first_lines[key]
            agents.pop(key, None)
            faults.append((number, f"the key of line {first} stands here again; both are refused"))
            continue
        if key is not None:
            first_lines[key] = number
        try:
            agent = parse_line(line, number)
        except BadLine as fault:
            faults.append((number, str(fault)))
        else:
            agents[agent.key] = agent
    return AgentBook(agents, tuple(faults))


def line_key(line: str) -> bytes | None:
    """The key that a line is about, even if the line is bad: what matters is who is meant."""
    found = _ABOUT.match(line)
    return bytes.fromhex(found[1]) if found else None


def parse_line(line: str, number: int) -> Agent:
    """One line of the file, without its end. BadLine says what is wrong with it."""
    # Of all that str.split takes for a blank, only space and tab are left after this.
    if not line.replace("\t", " ").isprintable():
        raise BadLine("has characters that do not print; remove them")
    words = line.split()
    if not words or not _KEY.fullmatch(words[0]):
        raise BadLine(f"must begin with a public key of {2 * KEY_SIZE} hex digits")
    key = bytes.fromhex(words[0])
    if is_low_order(key):
        raise BadLine("the key is of low order: everybody could claim it")
    label = ""
    options: dict[str, str] = {}
    for word in words[1:]:
        name, equals, value = word.partition("=")
        if equals:
            if name in options:
                raise BadLine(f"the option {_cut(name)} stands twice")
            options[name] = value
        elif options:
            raise BadLine(
                f"{_cut(word)} stands behind an option; a label stands right behind the key"
            )
        elif label:
            raise BadLine(f"has a second label {_cut(word)}; an option contains =")
        elif not LABEL.fullmatch(word):
            raise BadLine(f"the label {_cut(word)} is not 1 to 31 of A-Z a-z 0-9 . _ -")
        else:
            label = word
    return Agent(key, label, _caps(options), number)


def _caps(options: dict[str, str]) -> int:
    unknown = sorted(set(options) - {"caps"})
    if unknown:
        raise BadLine(f"the option {_cut(unknown[0])} is not known to this version; there is caps=")
    if "caps" not in options:
        return CORE
    try:
        return parse_caps(options["caps"])
    except CapabilityError as fault:
        raise BadLine(f"caps=: {fault}") from None


def _cut(word: str) -> str:
    """A word as it may stand in a message: quoted, escaped, and short however long it is."""
    return reprlib.repr(word)
