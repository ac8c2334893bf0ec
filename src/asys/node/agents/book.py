"""`authorized_agents`: who may connect, and what exists for them (docs/protocol.md, section 8).

One agent a line: 64 hex digits, then a label, then options. A line that is not understood whole
grants nothing: it is reported with its number, and the others hold.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final, TypeVar

from asys.isa.capmap import CORE, CapabilityError, describe, parse_caps
from asys.node.agents.rates import RateLimit, parse_rates
from asys.node.agents.scope import (
    Scope,
    UidOf,
    parse_services,
    parse_users,
    parse_vendors,
    uid_here,
)
from asys.node.agents.sources import Sources, parse_sources
from asys.node.agents.words import BadOption, cut
from asys.protocol.keys import is_low_order
from asys.protocol.limits import KEY_SIZE

T = TypeVar("T")
D = TypeVar("D")

LABEL: Final = re.compile(r"[A-Za-z0-9._-]{1,31}")
OPTIONS: Final = ("caps", "services", "users", "vendors", "from", "rate", "expires", "role")
"""What a line may say about its agent, in the order in which it is written."""

_KEY: Final = re.compile(r"[0-9A-Fa-f]{64}")
_ABOUT: Final = re.compile(r"[^0-9A-Za-z#]*([0-9A-Fa-f]{64})(?![0-9A-Za-z])")
_DAY: Final = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_DAY_SECONDS: Final = 24 * 60 * 60
_FIRST_DAY: Final = date(1970, 1, 1)
# The second at which an agent expires travels as a u32 of AGENT_LIST.
_LAST_DAY: Final = date(2106, 2, 6)


@dataclass(frozen=True, slots=True)
class Agent:
    """One line that holds. `key` is the static public key, `caps` the capability map.

    `sources` None: it may connect from anywhere. `expires` is the Unix second from which on the
    line no longer holds, 0 for never. `admin`: it sees and removes what other agents have added.
    """

    key: bytes
    label: str
    caps: int
    line: int
    scope: Scope = field(default_factory=Scope)
    rates: tuple[RateLimit, ...] = ()
    sources: Sources | None = None
    expires: int = 0
    admin: bool = False

    @property
    def name(self) -> str:
        """What logs call it: its label, or the first 8 digits of its key."""
        return self.label or self.key.hex()[:8]

    def options(self) -> str:
        """Its options in the words of the file: a line with them means the same agent."""
        words = [f"caps={describe(self.caps)}", self.scope.describe()]
        if self.sources is not None:
            words.append(f"from={self.sources}")
        if self.rates:
            words.append("rate=" + ",".join(map(str, self.rates)))
        if self.expires:
            words.append(f"expires={last_day(self.expires)}")
        if self.admin:
            words.append("role=admin")
        return " ".join(word for word in words if word)


class BadLine(ValueError):
    """A line that grants nothing; the message says why, and what would be right."""


@dataclass(frozen=True, slots=True)
class AgentBook:
    """What one reading of the file gave: agents by key, and the lines that were refused.

    `named` has every key that some line is about, be the line good or bad.
    """

    agents: dict[bytes, Agent] = field(default_factory=dict)
    faults: tuple[tuple[int, str], ...] = ()
    named: frozenset[bytes] = frozenset()

    def get(self, key: bytes) -> Agent | None:
        """The agent with this static public key."""
        return self.agents.get(key)


@dataclass(frozen=True, slots=True)
class Words:
    """What stands on a line, by its place: values of options are not looked at yet."""

    key: bytes
    label: str
    options: dict[str, str]


def parse_agents(written: str, uid_of: UidOf = uid_here) -> AgentBook:
    """Reads the text of `authorized_agents`. Never raises: bad lines are in `faults`."""
    agents: dict[bytes, Agent] = {}
    faults: list[tuple[int, str]] = []
    first_lines: dict[bytes, int] = {}
    ask_once = functools.cache(uid_of)  # users may live in a directory beyond the network
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
            agent = parse_line(line, number, ask_once)
        except BadLine as fault:
            faults.append((number, str(fault)))
        else:
            agents[agent.key] = agent
    return AgentBook(agents, tuple(faults), frozenset(first_lines))


def line_key(line: str) -> bytes | None:
    """The key that a line is about, even if the line is bad: what matters is who is meant."""
    found = _ABOUT.match(line)
    return bytes.fromhex(found[1]) if found else None


def parse_line(line: str, number: int, uid_of: UidOf = uid_here) -> Agent:
    """One line of the file, without its end. BadLine says what is wrong with it."""
    words = read_words(line)
    if is_low_order(words.key):
        raise BadLine("the key is of low order: everybody could claim it")
    return Agent(
        words.key,
        words.label,
        _option(words, "caps", parse_caps, CORE),
        number,
        Scope(
            _option(words, "services", parse_services, None),
            _option(words, "users", functools.partial(parse_users, uid_of=uid_of), None),
            _option(words, "vendors", parse_vendors, frozenset()),
        ),
        _option(words, "rate", parse_rates, ()),
        _option(words, "from", parse_sources, None),
        _option(words, "expires", _parse_expires, 0),
        _option(words, "role", _parse_role, False),
    )


def read_words(line: str) -> Words:
    """Takes a line apart. BadLine: it has no key, two labels, an option twice or an unknown one."""
    # Of all that str.split takes for a blank, only space and tab are left after this.
    if not line.replace("\t", " ").isprintable():
        raise BadLine("has characters that do not print; remove them")
    words = line.split()
    if not words or not _KEY.fullmatch(words[0]):
        raise BadLine(f"must begin with a public key of {2 * KEY_SIZE} hex digits")
    label = ""
    options: dict[str, str] = {}
    for word in words[1:]:
        name, equals, value = word.partition("=")
        if equals:
            if name not in OPTIONS:
                known = " ".join(f"{one}=" for one in OPTIONS)
                raise BadLine(
                    f"the option {cut(name)} is not known to this version; there are {known}"
                )
            if name in options:
                raise BadLine(f"the option {cut(name)} stands twice; leave one")
            options[name] = value
        elif options:
            raise BadLine(
                f"{cut(word)} stands behind an option; a label stands right behind the key, "
                "and a list has no blanks"
            )
        elif label:
            raise BadLine(f"has a second label {cut(word)}; an option contains =")
        elif not LABEL.fullmatch(word):
            raise BadLine(f"the label {cut(word)} is not 1 to 31 of A-Z a-z 0-9 . _ -")
        else:
            label = word
    return Words(bytes.fromhex(words[0]), label, options)


def last_day(expires: int) -> date:
    """The last day, UTC, of what ends at a Unix second."""
    return _FIRST_DAY + timedelta(seconds=expires - 1)


def _option(words: Words, name: str, parse: Callable[[str], T], absent: D) -> T | D:
    """What the value of an option means, or `absent`. BadLine."""
    if name not in words.options:
        return absent
    try:
        return parse(words.options[name])
    except (BadOption, CapabilityError) as fault:
        raise BadLine(f"{name}=: {fault}") from None


def _parse_expires(written: str) -> int:
    found = _DAY.fullmatch(written)
    try:
        day = date(*map(int, found.groups())) if found else None
    except ValueError:
        day = None
    if day is None or not _FIRST_DAY <= day <= _LAST_DAY:
        raise BadOption(
            f"{cut(written)} is no day from {_FIRST_DAY} to {_LAST_DAY}, written YYYY-MM-DD"
        )
    return ((day - _FIRST_DAY).days + 1) * _DAY_SECONDS


def _parse_role(written: str) -> bool:
    if written != "admin":
        raise BadOption(f"{cut(written)} is no role; there is admin")
    return True
