"""Edits of `authorized_agents`, in whatever state it is: one line changes, and nobody else."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final
from unittest import mock

from asys.isa.capmap import CORE, parse_caps
from asys.node.agents.book import AgentBook, line_key, parse_agents, parse_line
from asys.node.agents.file import add_agent, grant_agent, parse_key, remove_agent, revoke_agent
from asys.node.disk.config_dir import ConfigDir
from asys.node.disk.files import ConfigError
from fuzz import scratch
from fuzz.choices import Choices, Script
from support.agents_text import HEX, OTHER, THIRD

COVERS = ("asys.node.agents.file",)

_NAMES: Final = ("caps", "services", "users", "vendors", "from", "rate", "expires", "role", "shell")


@functools.cache
def _config() -> ConfigDir:
    return ConfigDir(scratch.directory() / "asyd")


def one(data: bytes) -> None:
    """One edit: either nothing has changed, or just what was asked for has."""
    with mock.patch("os.fsync", _no_disk):  # nothing here is to outlast anything
        _edit(Choices(data))


def _edit(choices: Choices) -> None:
    config = _config()
    what = choices.below(4)
    who = choices.pick((HEX, OTHER, THIRD, HEX.upper(), "", "own"))
    who = choices.text() if who == "own" else who
    label = choices.text() if choices.flag() else None
    caps = choices.text() if choices.flag() else None
    options = {
        choices.pick(_NAMES): choices.text() if choices.flag() else None
        for _ in range(choices.below(3))
    }
    before = _with_keys(choices.rest())
    scratch.file("asyd/authorized_agents", before)
    old = _plain(before)
    try:
        if what == 0:
            key = parse_key(who)
            given = {name: value for name, value in options.items() if value is not None}
            line = add_agent(config, key, label or "", caps, given)
        elif what == 1:
            [found] = {line_key(line) for line in remove_agent(config, who)}
            assert found is not None
            key, line = found, ""
        else:
            edit = grant_agent if what == 2 else revoke_agent
            edited = edit(config, who, caps or "", label=label, options=options)
            key, line = edited.agent.key, edited.after
    except ConfigError as error:
        assert str(error).isprintable()
        assert config.agents_path.read_bytes() == before
        return
    after = config.agents_path.read_bytes()
    new = _plain(after)
    _is_only_about(key, before, after)
    _changes_nobody_else(key, old, new)
    if what == 0:
        assert key not in old.named
        assert replace(new.agents[key], line=0) == parse_line(line, 0)
        assert new.agents[key].label == (label or "")
        wanted = given.get("caps", caps)
        assert new.agents[key].caps == (CORE if wanted is None else parse_caps(wanted))
    elif what == 1:
        assert key not in new.named
    else:
        assert new.agents[key] == edited.agent
        if old.get(key) is not None and caps and "caps" not in options:
            was, asked = old.agents[key].caps, parse_caps(caps)
            assert edited.agent.caps == (was | asked if what == 2 else was & ~asked)


def _is_only_about(key: bytes, before: bytes, after: bytes) -> None:
    """Every line about somebody else, or about nobody, stays byte for byte."""
    kept, there = ([one for one in _lines(data) if _key(one) != key] for data in (before, after))
    if kept and there and len(after) > len(before) and not before.endswith(b"\n"):
        kept[-1:] = [kept[-1].removesuffix(b"\n") + b"\n"]  # a line was added behind it
        there[-1:] = [there[-1].removesuffix(b"\n") + b"\n"]
    assert there == kept


def _changes_nobody_else(key: bytes, old: AgentBook, new: AgentBook) -> None:
    for other in (old.named | new.named) - {key}:
        assert (other in old.named) is (other in new.named)
        was, now = old.get(other), new.get(other)
        assert (was and replace(was, line=0)) == (now and replace(now, line=0))


def _lines(data: bytes) -> list[bytes]:
    return re.findall(rb"[^\n]*\n|[^\n]+", data)


def _key(line: bytes) -> bytes | None:
    return line_key(line.decode("utf-8", "replace"))


def _plain(data: bytes) -> AgentBook:
    """What asyd makes of the file, users of this machine and all."""
    return parse_agents(data.decode("utf-8", "replace"))


def _with_keys(data: bytes) -> bytes:
    for sign, key in zip("\u00a7\u00b6\u00a4", (HEX, OTHER, THIRD), strict=True):
        data = data.replace(sign.encode(), key.encode())
    return data


def _no_disk(_descriptor: int) -> None:
    """In place of fsync."""


def seeds() -> Iterator[bytes]:
    """Each edit of a file with three lines, by key and by label."""
    text = "# who\n\u00a7 a caps=20,60 users=0\n\u00b6 web-1 caps=all role=admin\r\nbad\n"
    for what in range(4):
        for who in (Script().byte(2), Script().byte(0), Script().byte(5).blob("web-1")):
            for caps in ("", "core", "20,SVC_RESTART"):
                start = bytes(Script().byte(what)) + bytes(who)
                said = Script().byte(0, 1).blob(caps).byte(0)
                yield start + bytes(said) + text.encode()
            said = Script().byte(1).blob("new").byte(0, 2, 2, 1).blob("0").byte(7, 0)
            yield bytes(Script().byte(what)) + bytes(who) + bytes(said) + text.encode()
