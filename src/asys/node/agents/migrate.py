"""`authorized_agents` of asyd 0.3.1 in our words (docs/protocol.md, sections 8.1 and 10).

0.3.1 has one capability map for all: a key that stands in the file may do whatever it can do. Here
each line says what exists for its agent, so whoever migrates has to say it. Every line keeps its
number: comments stay as they are, and what cannot be taken over stays as a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asys.isa.capmap import CapabilityError, parse_caps
from asys.node.agents.book import Agent, BadLine, line_key, parse_line, read_words
from asys.node.agents.file import written_line
from asys.node.agents.scope import UidOf, uid_here
from asys.node.disk.files import ConfigError, quoted
from asys.protocol.keys import is_low_order

LEFT_OUT: Final = "# not migrated: "
"""What is put in front of a line that cannot be taken over."""

_NAMED: Final = 5
"""Agents that a message names at most."""

_KEY: Final = re.compile(r"[0-9A-Fa-f]{64}")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What each agent is to have: lists as in `caps=`. `everybody` None: only who is named."""

    everybody: str | None
    named: dict[str, str]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A line that is not taken over: why, and what can be done."""

    line: int
    fault: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Migration:
    """The new text of the file, and what stands in it."""

    text: str
    agents: tuple[Agent, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class _Line:
    """One that can be taken over: what it was, with its own options."""

    number: int
    written: str
    key: bytes
    label: str
    options: dict[str, str]

    @property
    def name(self) -> str:
        return self.label or self.key.hex()[:8]


def parse_wishes(given: Sequence[str]) -> Wishes:
    """From each `--caps`: LIST for everybody, or WHO=LIST for a label or key. ConfigError."""
    everybody: str | None = None
    named: dict[str, str] = {}
    for one in given:
        who, equals, caps = one.rpartition("=")
        try:
            parse_caps(caps)
        except CapabilityError as fault:
            raise ConfigError(f"--caps: {fault}") from None
        if not equals:
            if everybody is not None:
                raise ConfigError("--caps for everybody stands twice; leave one, or write WHO=LIST")
            everybody = caps
            continue
        if not who:
            raise ConfigError(f"--caps {one!r} names nobody in front of =")
        who = who.lower() if _KEY.fullmatch(who) else who
        if who in named:
            raise ConfigError(f"--caps for {who!r} stands twice; leave one")
        named[who] = caps
    return Wishes(everybody, named)


def migrate(written: str, wishes: Wishes, into: Path, uid_of: UidOf = uid_here) -> Migration:
    """Takes each line over. `into` is the directory that remedies speak of.

    A line that has caps= of its own keeps it, unless its agent is named. ConfigError: somebody is
    named who is not there, or more than once, or nothing says what an agent is to have.
    """
    texts = written.split("\n")
    good: dict[int, _Line] = {}
    left_out: list[LeftOut] = []
    for one in _read(texts, wishes, into, uid_of):
        if isinstance(one, _Line):
            good[one.number] = one
        else:
            left_out.append(one)
            texts[one.line - 1] = LEFT_OUT + texts[one.line - 1]
    caps = _shared_out(list(good.values()), wishes)
    agents: list[Agent] = []
    for number, one in good.items():
        others = {name: value for name, value in one.options.items() if name != "caps"}
        options = {"caps": caps[number], **others}
        line = written_line(one.written.split()[0], one.label, options)
        agents.append(parse_line(line, number, uid_of))
        texts[number - 1] = line + ("\r" if texts[number - 1].endswith("\r") else "")
    return Migration("\n".join(texts), tuple(agents), tuple(left_out))


def _read(
    texts: Sequence[str], wishes: Wishes, into: Path, uid_of: UidOf
) -> Iterator[_Line | LeftOut]:
    """All lines that are about an agent, or are meant to be."""
    first: dict[bytes, int] = {}
    for number, whole in enumerate(texts, 1):
        line = whole.removesuffix("\r").strip(" \t")
        if not line or line.startswith("#"):
            continue
        key = line_key(line)
        if key is not None and key in first:
            yield LeftOut(
                number,
                f"the key of line {first[key]} stands here again",
                f"nothing, if line {first[key]} is the right one; it is the one that is taken over",
            )
            continue
        try:
            words = read_words(line)
            parse_line(line, number, uid_of)
        except BadLine as fault:
            yield LeftOut(number, str(fault), _remedy(key, wishes, into))
        else:
            first[words.key] = number
            yield _Line(number, line, words.key, words.label, words.options)


def _remedy(key: bytes | None, wishes: Wishes, into: Path) -> str:
    where = f"--config-dir {quoted(into)}"
    if key is not None and is_low_order(key):
        return "have the agent make another key (asys keygen), and add that"
    known = "KEY" if key is None else key.hex()
    caps = wishes.everybody or "LIST"
    add = f"asyd agents add {known} --label LABEL --caps {caps} {where}"
    return add if key is not None else f"find out whose line it is, and: {add}"


def _shared_out(lines: Sequence[_Line], wishes: Wishes) -> dict[int, str]:
    """What each line is to have, by its number. ConfigError."""
    caps: dict[int, str] = {}
    for who, wish in wishes.named.items():
        found = [one for one in lines if who in (one.label, one.key.hex())]
        if len(found) != 1:
            raise ConfigError(
                f"--caps {who}=: more than one agent has this label; name its key"
                if found
                else f"--caps {who}=: no line that can be taken over has this key or label; there "
                f"are {_names(lines)}"
            )
        if found[0].number in caps:
            raise ConfigError(f"line {found[0].number} is named twice, by label and by key")
        caps[found[0].number] = wish
    lacking = []
    for one in lines:
        wanted = caps.get(one.number, one.options.get("caps", wishes.everybody))
        if wanted is None:
            lacking.append(one)
        else:
            caps[one.number] = wanted
    if lacking:
        who = lacking[0].label or lacking[0].key.hex()
        raise ConfigError(
            f"nothing says what is to exist for {_names(lacking)}; add --caps LIST, which is for "
            f"everybody who is not named, or --caps {who}=LIST"
        )
    return caps


def _names(lines: Sequence[_Line]) -> str:
    names = [one.name for one in lines[:_NAMED]]
    more = len(lines) - len(names)
    return (", ".join(names) or "none") + (f" and {more} more" if more else "")
