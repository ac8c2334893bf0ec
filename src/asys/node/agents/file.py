"""Editing `authorized_agents` for an admin: atomic, and what people wrote in it stays."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from asys.isa import REGISTRY
from asys.isa.capmap import SETS, CapabilityError, describe, parse_caps
from asys.node.agents.book import (
    LABEL,
    Agent,
    BadLine,
    Words,
    line_key,
    parse_agents,
    parse_line,
    read_words,
)
from asys.node.agents.words import cut
from asys.node.disk.config_dir import MAX_AGENTS_FILE, ConfigDir
from asys.node.disk.files import ConfigError, is_there, locked, quoted, write_atomically

_KEY: Final = re.compile(r"[0-9A-Fa-f]{64}")
_LINE: Final = re.compile(r"[^\n]*\n|[^\n]+")
_VALUE: Final = re.compile(r"[!-~]*")
_NO_CAPS: Final = "core"


@dataclass(frozen=True, slots=True)
class Edited:
    """A line of the file before and after an edit, without its end, and what it means now."""

    before: str
    after: str
    agent: Agent


def parse_key(written: str) -> bytes:
    """An agent's public key from 64 hex digits. ConfigError says what is wrong with it."""
    if not _KEY.fullmatch(written):
        raise ConfigError(
            f"{written!r} is no public key: 64 hex digits are expected, as in the agent's "
            "id_curve25519.pub"
        )
    return bytes.fromhex(written)


def add_agent(
    config: ConfigDir,
    key: bytes,
    label: str,
    caps: str | None,
    options: Mapping[str, str] | None = None,
) -> str:
    """Adds a line for a key and returns it. ConfigError: the key is there, or the line is bad.

    An empty `label` is none; without `caps` the line has none, which means `core`. `options` are
    the others, by name: {"users": "www-data"}.
    """
    _check_label(label)
    given = dict(options or {})
    if caps is not None:
        given = {"caps": caps, **given}
    for name, value in given.items():
        _check_value(name, value)
    line = written_line(key.hex(), label, given)
    try:
        parse_line(line, 0)
    except BadLine as fault:
        raise ConfigError(f"the agent is not added: {fault}") from None

    def append(lines: list[str]) -> list[str]:
        for number, existing in enumerate(lines, 1):
            if line_key(existing) == key:
                raise ConfigError(
                    f"the key stands in line {number} already; remove it first: "
                    f"{_remove_command(config, key.hex())}"
                )
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        return [*lines, line + "\n"]

    _edit(config, append)
    return line


def remove_agent(config: ConfigDir, who: str) -> list[str]:
    """Removes what stands for a key (64 hex digits) or a label, and returns these lines.

    A key that stands twice goes whole. ConfigError when nobody, or more than one key, is meant.
    """
    removed: list[str] = []

    def drop(lines: list[str]) -> list[str]:
        found = _lines_about(config, lines, who)
        removed.extend(lines[at].rstrip("\r\n") for at in found)
        return [line for at, line in enumerate(lines) if at not in found]

    _edit(config, drop)
    return removed


def grant_agent(
    config: ConfigDir,
    who: str,
    caps: str = "",
    *,
    label: str | None = None,
    options: Mapping[str, str | None] | None = None,
) -> Edited:
    """Adds words to the capability list of a key (64 hex digits) or a label.

    A new `label` takes the place of the old one, '' takes it away; so does each of `options`, and
    None takes one away. That is done first. ConfigError: nobody or more than one is meant, or the
    line would be bad. The file is then as it was.
    """

    def more(words: Words) -> dict[str, str]:
        lit = _map_of(words)
        listed = [words.options.get("caps", _NO_CAPS)]
        for word in caps.split(",") if caps else []:
            added = _parse_caps(word)
            if added & ~lit:
                listed.append(word)
                lit |= added
        return {"caps": ",".join(listed)} if len(listed) > 1 else {}

    return _change(config, who, label, options or {}, more if caps else None)


def revoke_agent(
    config: ConfigDir,
    who: str,
    caps: str = "",
    *,
    label: str | None = None,
    options: Mapping[str, str | None] | None = None,
) -> Edited:
    """Takes instructions away from what a key (64 hex digits) or a label holds.

    The list is then written anew from what is left. The rest as `grant_agent`. ConfigError also
    when nothing would be left.
    """

    def less(words: Words) -> dict[str, str]:
        lit = _map_of(words)
        left = lit & ~_parse_caps(caps)
        if not left:
            raise ConfigError(
                "nothing would be left to the agent; to shut it out, remove it: "
                f"{_remove_command(config, words.key.hex())}"
            )
        return {"caps": describe(left)} if left != lit else {}

    return _change(config, who, label, options or {}, less if caps else None)


def pin_agent(config: ConfigDir, who: str, known: int) -> Edited:
    """Writes the list of a line anew, from what it has, so that no upgrade adds to it.

    `known` is the map of what it may keep; instructions that it names, and codes of vendors, stay.
    ConfigError as `grant_agent`, and when nothing would be left.
    """

    def less(words: Words) -> dict[str, str]:
        lit = _map_of(words)
        kept = known | SETS["vendor"]
        for word in words.options.get("caps", _NO_CAPS).split(","):
            if word not in SETS and REGISTRY.named(word) is not None:
                kept |= _parse_caps(word)
        left = lit & kept
        if not left:
            raise ConfigError(
                "nothing would be left to the agent: all that it has is unknown here; name what it "
                f"is to have: asyd agents grant {who} LIST --config-dir {quoted(config.path)}"
            )
        return {"caps": describe(left)} if left != lit else {}

    return _change(config, who, None, {}, less)


def _change(
    config: ConfigDir,
    who: str,
    label: str | None,
    options: Mapping[str, str | None],
    caps: Callable[[Words], dict[str, str]] | None,
) -> Edited:
    """Rewrites the one line that is about somebody. `caps` gives a new list where there is one."""
    _check_label(label or "")
    for name, value in options.items():
        _check_value(name, value or "")
    edited: list[Edited] = []

    def rewrite(lines: list[str]) -> list[str]:
        at = _only_line_about(config, lines, who)
        before = lines[at].removesuffix("\n").removesuffix("\r")
        try:
            words = read_words(before)
        except BadLine as fault:
            raise ConfigError(f"line {at + 1} is bad and stays as it is: {fault}") from None
        asked = {**words.options, **options}
        kept = {name: value for name, value in asked.items() if value is not None}
        wanted = Words(words.key, words.label if label is None else label, kept)
        if caps is not None:
            kept.update(caps(wanted))
        after = before
        if wanted != words:
            after = written_line(before.split()[0], wanted.label, kept)
        changed = [*lines[:at], after + lines[at][len(before) :], *lines[at + 1 :]]
        edited.append(Edited(before, after, _agent_of(changed, at, words.key)))
        return changed

    _edit(config, rewrite)
    return edited[0]


def _agent_of(lines: list[str], at: int, key: bytes) -> Agent:
    """What a key would hold, the whole file taken together. ConfigError: nothing."""
    data = "".join(lines).encode("utf-8", "surrogateescape")
    book = parse_agents(data.decode("utf-8", "replace"))
    agent = book.get(key)
    if agent is None:
        faults = [fault for number, fault in book.faults if number == at + 1]
        raise ConfigError(f"line {at + 1} would be bad and stays as it is: {'; '.join(faults)}")
    return agent


def _only_line_about(config: ConfigDir, lines: list[str], who: str) -> int:
    found = _lines_about(config, lines, who)
    if len(found) > 1:
        numbers = ", ".join(str(at + 1) for at in found)
        raise ConfigError(
            f"the key stands in the lines {numbers}, so that none of them holds; delete all but "
            "one in the file, or all of them: "
            f"{_remove_command(config, who)}"
        )
    return found[0]


def _lines_about(config: ConfigDir, lines: list[str], who: str) -> list[int]:
    """All lines, from 0, of the key that is meant. ConfigError: there is none, or more than one."""
    keys = {line_key(line) for line in lines if _is_about(line, who)}
    if len(keys) != 1:
        how_many = "no agent has" if not keys else "more than one agent has"
        raise ConfigError(
            f"{how_many} the key or label {who!r}; see: "
            f"asyd agents list --config-dir {quoted(config.path)}"
        )
    # Whatever name it was asked for by: one line of two that goes would bring the other to life.
    return [at for at, line in enumerate(lines) if line_key(line) in keys]


def _is_about(line: str, who: str) -> bool:
    key = line_key(line)
    if key is None:
        return False
    words = line.split()
    label = words[1] if len(words) > 1 and "=" not in words[1] else ""
    return key.hex() == who.lower() or (bool(label) and label == who)


def _map_of(words: Words) -> int:
    return _parse_caps(words.options.get("caps", _NO_CAPS))


def _parse_caps(written: str) -> int:
    try:
        return parse_caps(written)
    except CapabilityError as fault:
        raise ConfigError(f"caps=: {fault}") from None


def written_line(key: str, label: str, options: Mapping[str, str]) -> str:
    """A line of the file, without its end; an empty `label` is none."""
    words = [key, label, *(f"{name}={value}" for name, value in options.items())]
    return " ".join(word for word in words if word)


def _check_label(label: str) -> None:
    if label and not LABEL.fullmatch(label):
        raise ConfigError(f"the label {label!r} is not 1 to 31 of A-Z a-z 0-9 . _ -")


def _check_value(name: str, value: str) -> None:
    """No value may bring further words, or even lines, along with it."""
    if not _VALUE.fullmatch(value):
        raise ConfigError(
            f"{name}=: {cut(value)} has blanks or what is not ASCII; write a list with commas only"
        )


def _remove_command(config: ConfigDir, who: str) -> str:
    return f"asyd agents remove {who} --config-dir {quoted(config.path)}"


def _edit(config: ConfigDir, change: Callable[[list[str]], list[str]]) -> None:
    """Rewrites the file with `change` applied to its lines; everything else stays as it was.

    The lines come with their ends. Editors wait for each other; one that does not use this may
    still lose what is written here.
    """
    path = config.agents_path
    try:
        with locked(config.path):
            mode = stat.S_IMODE(path.stat().st_mode) if is_there(path) else 0o600
            text = config.read_agents().decode("utf-8", "surrogateescape")
            data = "".join(change(_LINE.findall(text))).encode("utf-8", "surrogateescape")
            if len(data) > MAX_AGENTS_FILE:
                raise ConfigError(f"{path} would be larger than {MAX_AGENTS_FILE} bytes")
            # A link stays a link.
            write_atomically(path.resolve(), data, mode)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
