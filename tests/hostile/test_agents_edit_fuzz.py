"""Edits of `authorized_agents` in any state: nobody but the one who is meant may notice."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asys.isa.capmap import CORE, parse_caps
from asys.node.agents.book import (
    AgentBook,
    line_key,
    parse_agents,
    parse_line,
)
from asys.node.agents.file import add_agent, grant_agent, remove_agent, revoke_agent
from asys.node.disk.config_dir import ConfigDir
from asys.node.disk.files import ConfigError
from support.agents_text import (
    FILES,
    FOURTH,
    GOOD,
    HEX,
    LINES,
    OPTION_WORDS,
    OTHER,
    PIECES,
    THIRD,
    fuzz,
)

WHO = st.sampled_from([HEX, OTHER, THIRD, HEX.upper(), "label", "web-1", "a", "nobody", ""])
CAPS = st.sampled_from(["", "core", "all", "20", "SVC_RESTART,60", "vendor"]) | st.sampled_from(
    ["", "nonsense", "core\n", "20 role=admin", ","]
)
LABELS = st.none() | st.sampled_from(["", "new", "label", "a b", f"x\n{FOURTH}", "caps=all", "#"])
GOOD_OPTIONS = st.lists(st.sampled_from(GOOD[3:]), max_size=3).map(
    lambda words: {word.partition("=")[0]: word.partition("=")[2] for word in words}
)
ODD_OPTIONS = st.dictionaries(
    st.sampled_from(["services", "users", "vendors", "from", "rate", "expires", "role", "shell"]),
    st.none()
    | st.sampled_from([word.partition("=")[2] for word in OPTION_WORDS])
    | st.sampled_from(["root", "0", f"33\n{FOURTH} caps=all", "33 role=admin", "33\x85", "33\r"]),
    max_size=3,
)
OPTIONS: st.SearchStrategy[dict[str, Any]] = GOOD_OPTIONS | ODD_OPTIONS
CONTENTS = FILES.map(str.encode) | st.lists(LINES.map(str.encode) | PIECES, max_size=6).map(
    b"".join
)


def plain(data: bytes) -> AgentBook:
    """What asyd makes of the file, users of this machine and all."""
    return parse_agents(data.decode("utf-8", "replace"))


def about(data: bytes, key: bytes) -> tuple[list[bytes], list[bytes]]:
    """The lines that are about a key, and the others, with their ends."""
    lines = re.findall(rb"[^\n]*\n|[^\n]+", data)
    mine = [line for line in lines if line_key(line.decode("utf-8", "replace")) == key]
    return mine, [line for line in lines if line not in mine]


@pytest.fixture
def config(tmp_path: Path) -> ConfigDir:
    return ConfigDir(tmp_path / "asyd")


def edited_key(before: AgentBook, after: AgentBook, changed: set[bytes]) -> None:
    """No key but the one that is meant holds more, less or anything else than before."""
    old = {key: replace(agent, line=0) for key, agent in before.agents.items()}
    new = {key: replace(agent, line=0) for key, agent in after.agents.items()}
    for key in {*old, *new, *before.named, *after.named} - changed:
        assert new.get(key) == old.get(key)
        assert (key in after.named) is (key in before.named)


@fuzz
@given(CONTENTS, st.sampled_from([HEX, OTHER, FOURTH]), LABELS, st.none() | CAPS, OPTIONS)
def test_adding_changes_nobody_else(
    config: ConfigDir,
    data: bytes,
    who: str,
    label: str | None,
    caps: str | None,
    options: dict[str, str | None],
) -> None:
    config.agents_path.write_bytes(data)
    config.agents_path.chmod(0o600)
    given_options = {name: value for name, value in options.items() if value is not None}
    key = bytes.fromhex(who)
    before = plain(data)
    try:
        line = add_agent(config, key, label or "", caps, given_options)
    except ConfigError:
        assert config.agents_path.read_bytes() == data
        return
    after = config.agents_path.read_bytes()
    gap = b"" if not data or data.endswith(b"\n") else b"\n"
    assert after == data + gap + line.encode() + b"\n"
    assert key not in before.named
    added = plain(after).agents[key]
    assert replace(added, line=0) == parse_line(line, 0)
    assert added.label == (label or "")
    assert added.caps == (CORE if caps is None else parse_caps(caps))
    assert added.admin is ("role" in given_options)
    edited_key(before, plain(after), {key})


@fuzz
@given(CONTENTS, WHO)
def test_removing_changes_nobody_else(config: ConfigDir, data: bytes, who: str) -> None:
    config.agents_path.write_bytes(data)
    config.agents_path.chmod(0o600)
    before = plain(data)
    try:
        removed = remove_agent(config, who)
    except ConfigError:
        assert config.agents_path.read_bytes() == data
        return
    [key] = {line_key(line) for line in removed}
    assert key is not None
    after = config.agents_path.read_bytes()
    edited_key(before, plain(after), {key})
    assert about(after, key) == ([], about(data, key)[1])


@fuzz
@given(CONTENTS, WHO, CAPS, LABELS, OPTIONS, st.booleans())
@example(f"{HEX} a caps=20\n".encode(), HEX, "SVC_RESTART,60", None, {}, True)
@example(f"{HEX} a caps=all\n".encode(), HEX, "SVC_RESTART,60", None, {"role": "admin"}, False)
def test_granting_and_revoking_change_nobody_else(
    config: ConfigDir,
    data: bytes,
    who: str,
    caps: str,
    label: str | None,
    options: dict[str, str | None],
    more: bool,
) -> None:
    config.agents_path.write_bytes(data)
    config.agents_path.chmod(0o600)
    before = plain(data)
    try:
        edit = grant_agent if more else revoke_agent
        edited = edit(config, who, caps, label=label, options=options)
    except ConfigError:
        assert config.agents_path.read_bytes() == data
        return
    key = edited.agent.key
    after = config.agents_path.read_bytes()
    book = plain(after)
    assert book.agents[key] == edited.agent
    edited_key(before, book, {key})
    [new], others = about(after, key)
    [old], others_before = about(data, key)
    assert others == others_before
    assert new.rstrip(b"\r\n").decode() == edited.after
    assert new[len(edited.after.encode()) :] == old[len(edited.before.encode()) :]
    assert edited.agent.label == (label if label is not None else _label(edited.before))
    words = dict(word.split("=", 1) for word in edited.before.split() if "=" in word)
    had = parse_caps(words.get("caps", "core"))
    named = parse_caps(caps) if caps else 0
    assert edited.agent.caps == (had | named if more else had & ~named)
    was = before.get(key)
    if was is not None:
        kept = replace(was, caps=edited.agent.caps, label=edited.agent.label, line=0)
        if not options:
            assert replace(edited.agent, line=0) == kept
        assert edited.agent.admin is (
            options["role"] == "admin" if "role" in options else was.admin
        )


def _label(line: str) -> str:
    words = line.split()
    return words[1] if len(words) > 1 and "=" not in words[1] else ""
