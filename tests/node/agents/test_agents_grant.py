"""Granting and revoking: one line of `authorized_agents` changes, and all that it says holds."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from asys.isa.capmap import ALL, CORE, describe, parse_caps
from asys.node.agents.book import parse_line
from asys.node.agents.file import (
    Edited,
    grant_agent,
    revoke_agent,
)
from asys.node.agents.scope import Scope
from asys.node.disk.config_dir import ConfigDir
from asys.node.disk.files import ConfigError
from asys.protocol.keys import PrivateKey

KEY = PrivateKey(bytes(range(1, 33))).public
OTHER = PrivateKey(bytes(range(2, 34))).public
HEX = KEY.hex()

WRITTEN = (
    b"# Agents of this node \xe2\x82\xac \xff\xfe\r\n"
    b"\r\n"
    b"\t" + OTHER.hex().upper().encode() + b"   other \t caps=core  \r\n"
    b"\x00\x0b\x85 odd\r line \n"
    b"   \n"
    b"not a line\n"
)


@pytest.fixture
def config(tmp_path: Path) -> ConfigDir:
    return ConfigDir(tmp_path / "asyd")


def write(config: ConfigDir, data: bytes, mode: int = 0o600) -> None:
    config.agents_path.write_bytes(data)
    config.agents_path.chmod(mode)


def read(config: ConfigDir) -> bytes:
    return config.agents_path.read_bytes()


AROUND = WRITTEN + b"# before\n", b"# after \xff\r\n\nbad line"


@pytest.mark.parametrize(
    ("before", "caps", "after"),
    [
        ("", "PROC_THROTTLE", " caps=core,PROC_THROTTLE"),
        (" web", "22,20", " web caps=core,22,20"),
        (" web caps=core", "core", " web caps=core"),
        (" web", "core,SYS_HELLO", " web"),
        ("  web\tcaps=20  users=root ", "22", " web caps=20,22 users=root"),
        ("  web\tcaps=20  users=root ", "20", "  web\tcaps=20  users=root "),
        (" users=root", "20", " users=root caps=core,20"),
        (" caps=all", "60,22", " caps=all,60"),
        (" caps=20", "process,20,2f", " caps=20,process"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_granting(config: ConfigDir, before: str, caps: str, after: str, end: str) -> None:
    """Words are added to what is there; without a list that is `core`."""
    head, tail = AROUND
    write(config, head + f"{HEX.upper()}{before}{end}".encode() + tail, 0o640)
    edited = grant_agent(config, HEX, caps)
    assert (edited.before, edited.after) == (HEX.upper() + before, HEX.upper() + after)
    assert read(config) == head + f"{HEX.upper()}{after}{end}".encode() + tail
    assert stat.S_IMODE(config.agents_path.stat().st_mode) == 0o640
    had = parse_line(edited.before, 0).caps
    assert edited.agent.caps == had | parse_caps(caps)
    assert config.load_agents().agents[KEY] == edited.agent


@pytest.mark.parametrize(
    ("before", "caps", "after"),
    [
        (" web caps=core,PROC_THROTTLE,22", "PROC_THROTTLE", " web caps=core,SVC_RESTART"),
        (" web", "SYS_PROCS", " web caps=SYS_CAPS,SYS_HELLO,SYS_STATUS,TASK_QUERY,{13}"),
        (" caps=process,core users=root", "core", " caps=process users=root"),
        (" web", "PROC_THROTTLE", " web"),
        ("\tweb  caps=20,22 ", "30,vendor", "\tweb  caps=20,22 "),
        (" caps=vendor,20", "vendor", " caps=PROC_THROTTLE"),
    ],
)
def test_revoking(config: ConfigDir, before: str, caps: str, after: str) -> None:
    """What is left is written anew; what it never had is no reason to touch the line."""
    after = after.replace("{13}", describe(1 << 0x13))
    head, tail = AROUND
    write(config, head + f"{HEX}{before}\n".encode() + tail)
    edited = revoke_agent(config, HEX, caps)
    assert (edited.before, edited.after) == (HEX + before, HEX + after)
    assert read(config) == head + f"{HEX}{after}\n".encode() + tail
    assert edited.agent.caps == parse_line(edited.before, 0).caps & ~parse_caps(caps)


@pytest.mark.parametrize("before", ["", " caps=core", " caps=SYS_HELLO users=root"])
def test_the_last_instruction_is_not_revoked(config: ConfigDir, before: str) -> None:
    """A line without a list would hold `core`: more than was left, not less."""
    write(config, f"{HEX}{before}\n".encode())
    with pytest.raises(ConfigError, match="nothing would be left to the agent; to shut it") as e:
        revoke_agent(config, HEX, "core")
    assert str(e.value).endswith(f"asyd agents remove {HEX} --config-dir {config.path}")
    assert read(config) == f"{HEX}{before}\n".encode()


@pytest.mark.parametrize("edit", [grant_agent, revoke_agent])
def test_options_are_set_replaced_and_taken_away(
    config: ConfigDir, edit: Callable[..., Edited]
) -> None:
    write(config, f"{HEX} web users=root caps=20,22 from=unix".encode())
    edited = edit(config, "web", options={"users": "33", "from": None, "services": "nginx"})
    assert edited.after == f"{HEX} web users=33 caps=20,22 services=nginx"
    assert read(config) == edited.after.encode()
    assert edited.agent.scope == Scope(("nginx",), frozenset({33}))
    assert edit(config, "web", options={"rate": None}).after == edited.after
    assert edit(config, "web", label="mail").agent.label == "mail"
    assert edit(config, "mail", label="").after == edited.after.replace(" web", "")
    assert edit(config, HEX, label="web").after == edited.after
    assert edit(config, HEX, options={"caps": None}).agent.caps == CORE
    assert edit(config, HEX, options={"caps": "all"}).agent.caps == ALL


def test_an_edit_can_mend_a_bad_value(config: ConfigDir) -> None:
    write(config, f"{HEX} web caps=20 users=no-such-user-of-asys\n".encode())
    assert not config.load_agents().agents
    with pytest.raises(ConfigError, match="line 1 would be bad and stays as it is: users=: this"):
        grant_agent(config, "web", "22")
    edited = grant_agent(config, "web", "22", options={"users": "33"})
    assert edited.after == f"{HEX} web caps=20,22 users=33"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (f"{HEX} web two caps=20", "line 3 is bad and stays as it is: has a second label 'two'"),
        (f"{HEX} web shell=yes", "the option 'shell' is not known"),
        (f"\ufeff{HEX} web", "do not print"),
        (f"{HEX} web caps=nonsense", "'nonsense' is no instruction"),
        (f"{HEX} web\n{HEX} caps=all", "the key stands in the lines 3, 4, so that none"),
        (f"{HEX} web\n{OTHER.hex()} web", "more than one agent has the key or label 'web'"),
        (f"{HEX} mail", "no agent has the key or label 'web'"),
        (f"# {HEX} web", "no agent has the key or label 'web'"),
    ],
)
@pytest.mark.parametrize("edit", [grant_agent, revoke_agent])
def test_lines_that_are_not_edited(
    config: ConfigDir, line: str, why: str, edit: Callable[..., Edited]
) -> None:
    before = f"# one\n\n{line}\n".encode()
    write(config, before)
    with pytest.raises(ConfigError, match=re.escape(why)):
        edit(config, "web", "20")
    assert read(config) == before


@pytest.mark.parametrize("caps", ["nonsense", "20,", "core all", f"20\n{OTHER.hex()} caps=all"])
@pytest.mark.parametrize("edit", [grant_agent, revoke_agent])
def test_bad_lists_change_nothing(
    config: ConfigDir, caps: str, edit: Callable[..., Edited]
) -> None:
    write(config, f"{HEX} web\n".encode())
    with pytest.raises(ConfigError, match="is no instruction, hex code or set"):
        edit(config, "web", caps)
    assert read(config) == f"{HEX} web\n".encode()


@pytest.mark.parametrize("label", ["a b", "a\n", "#", "x=y", "x" * 32])
def test_bad_labels_change_nothing(config: ConfigDir, label: str) -> None:
    write(config, f"{HEX} web\n".encode())
    with pytest.raises(ConfigError, match="is not 1 to 31 of"):
        grant_agent(config, "web", label=label)
    assert read(config) == f"{HEX} web\n".encode()
