"""Editing `authorized_agents`: what people wrote in it stays, and no edit is lost."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asys.node.agents import file as agents_file
from asys.node.agents.book import line_key, parse_agents, parse_line
from asys.node.agents.file import (
    add_agent,
    grant_agent,
    parse_key,
    remove_agent,
    revoke_agent,
)
from asys.node.disk.config_dir import ConfigDir
from asys.node.disk.files import ConfigError
from asys.protocol.keys import PrivateKey
from support.disk import DiskFull, fail

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


@pytest.mark.parametrize(("written", "key"), [(HEX, KEY), (HEX.upper(), KEY), (OTHER.hex(), OTHER)])
def test_parse_key(written: str, key: bytes) -> None:
    assert parse_key(written) == key


@pytest.mark.parametrize(
    "written",
    ["", "key", HEX[:-1], HEX + "0", HEX + "\n", " " + HEX, "0x" + HEX[2:], "g" + HEX[1:]],
)
def test_what_is_no_key(written: str) -> None:
    with pytest.raises(ConfigError, match="is no public key: 64 hex digits are expected"):
        parse_key(written)


def test_the_first_agent(config: ConfigDir) -> None:
    line = add_agent(config, KEY, "watcher", "core,PROC_THROTTLE")
    assert line == f"{HEX} watcher caps=core,PROC_THROTTLE"
    assert read(config) == f"{line}\n".encode()
    assert stat.S_IMODE(config.agents_path.stat().st_mode) == 0o600
    assert config.load_agents().agents[KEY].label == "watcher"


@pytest.mark.parametrize(
    ("label", "caps", "line"),
    [
        ("", None, HEX),
        ("a", None, f"{HEX} a"),
        ("", "all", f"{HEX} caps=all"),
        ("a", "20", f"{HEX} a caps=20"),
    ],
)
def test_what_is_written(config: ConfigDir, label: str, caps: str | None, line: str) -> None:
    assert add_agent(config, KEY, label, caps) == line
    assert read(config) == f"{line}\n".encode()


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n"])
def test_adding_and_removing_keep_every_byte(config: ConfigDir, end: bytes) -> None:
    before = WRITTEN + b"# end" + end
    write(config, before, 0o640)
    add_agent(config, KEY, "a", None)
    newline = b"" if end.endswith(b"\n") else b"\n"
    assert read(config) == before + newline + f"{HEX} a\n".encode()
    assert remove_agent(config, "a") == [f"{HEX} a"]
    assert read(config) == before + newline
    assert stat.S_IMODE(config.agents_path.stat().st_mode) == 0o640


def test_removing_takes_nothing_but_the_line(config: ConfigDir) -> None:
    write(config, WRITTEN)
    [removed] = remove_agent(config, OTHER.hex())
    assert removed == f"\t{OTHER.hex().upper()}   other \t caps=core  "
    kept = [line for line in WRITTEN.split(b"\n") if OTHER.hex().upper().encode() not in line]
    assert read(config) == b"\n".join(kept)


def test_removing_the_last_line_without_a_newline(config: ConfigDir) -> None:
    write(config, f"# a\n{OTHER.hex()} b\n{HEX}".encode())
    remove_agent(config, HEX.upper())
    assert read(config) == f"# a\n{OTHER.hex()} b\n".encode()


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=20).filter(lambda line: b"\n" not in line),
            st.sampled_from([b"# x", b"", b" " + OTHER.hex().encode() + b" o", b"\r", b"bad"]),
        )
    ),
    st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_keeps_its_bytes(config: ConfigDir, lines: list[bytes], ended: bool) -> None:
    before = b"\n".join(lines) + (b"\n" if ended else b"")
    write(config, before)
    add_agent(config, KEY, "", None)
    after = read(config)
    assert after.startswith(before)
    assert re.fullmatch(b"\n?" + HEX.encode() + b"\n", after[len(before) :])
    assert KEY in config.load_agents().agents
    remove_agent(config, HEX)
    assert read(config) in (before, before + b"\n")


@pytest.mark.parametrize(
    "existing",
    [HEX, HEX.upper(), f" {HEX} x caps=nonsense", f"\ufeff{HEX}", f'"{HEX}"', f"{HEX}\x0b"],
)
def test_a_key_is_not_added_twice(config: ConfigDir, existing: str) -> None:
    before = f"# first\n{existing}\n".encode()
    write(config, before)
    with pytest.raises(ConfigError, match="the key stands in line 2 already; remove it first") as e:
        add_agent(config, KEY, "", None)
    assert read(config) == before
    remedy = re.search("asyd agents remove ([0-9a-f]+) --config-dir (.*)", str(e.value))
    assert remedy is not None
    assert remedy[2] == str(config.path)
    remove_agent(config, remedy[1])
    assert read(config) == b"# first\n"


def test_a_key_that_stands_twice_goes_whole(config: ConfigDir) -> None:
    """Neither line grants anything, and an admin must be able to begin anew."""
    write(config, f"{HEX} a\n{OTHER.hex()} o\n{HEX} b caps=all\n".encode())
    assert remove_agent(config, HEX) == [f"{HEX} a", f"{HEX} b caps=all"]
    assert read(config) == f"{OTHER.hex()} o\n".encode()


@pytest.mark.parametrize(
    ("label", "caps", "why"),
    [
        ("a b", None, "label 'a b' is not"),
        ("a\n", None, "label"),
        ("x" * 32, None, "1 to 31"),
        ("a=b", None, "label 'a=b' is not"),
        ("#a", None, "label '#a' is not"),
        ("", "", "caps=: '' is no instruction"),
        ("", "nonsense", "caps=: 'nonsense' is no instruction"),
        ("", "core all", "caps=: 'core all' has blanks"),
        ("", "core\n", "caps=: 'core\\n' has blanks"),
        ("", "core\x85all", "caps=: 'core\\x85all' has blanks"),
        ("", f"core\n{OTHER.hex()} caps=all", "has blanks"),
        ("", "core caps=all", "has blanks"),
        ("", "core role=admin", "has blanks"),
    ],
)
def test_what_would_be_a_bad_line_is_not_written(
    config: ConfigDir, label: str, caps: str | None, why: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        add_agent(config, KEY, label, caps)
    assert why in str(caught.value)
    assert not os.listdir(config.path)


def test_a_key_of_low_order_is_not_added(config: ConfigDir) -> None:
    with pytest.raises(ConfigError, match="the agent is not added: the key is of low order"):
        add_agent(config, bytes(32), "", None)


def test_adding_with_all_options(config: ConfigDir) -> None:
    options = {
        "services": "nginx,web-*",
        "users": "root,33",
        "vendors": "example.com",
        "from": "10.0.0.0/8,unix",
        "rate": "SVC_RESTART:3/h",
        "expires": "2030-01-01",
        "role": "admin",
    }
    line = add_agent(config, KEY, "ops", "all", options)
    written = " ".join(f"{name}={value}" for name, value in options.items())
    assert line == f"{HEX} ops caps=all {written}"
    agent = config.load_agents().agents[KEY]
    assert agent == parse_line(line, 1)
    assert agent.scope.users == frozenset({0, 33})
    assert agent.admin


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"services": ""}, "services=: there is no value"),
        ({"services": "a b"}, "services=: 'a b' has blanks or what is not ASCII; write a list"),
        ({"services": "a role=admin"}, "services=: 'a role=admin' has blanks"),
        ({"users": f"33\n{OTHER.hex()} caps=all"}, "users=: '33\\nab9f"),
        ({"users": "33\u2028"}, "has blanks"),
        ({"users": "no-such-user-of-asys"}, "this machine has no user"),
        ({"from": "10.0.0.1/8"}, "write 10.0.0.0/8"),
        ({"rate": "SVC_RESTART:3/d"}, "is no rate"),
        ({"expires": "2026-02-30"}, "is no day"),
        ({"role": "boss"}, "there is admin"),
        ({"shell": "yes"}, "the option 'shell' is not known to this version"),
    ],
)
def test_bad_options_are_not_written(config: ConfigDir, options: dict[str, str], why: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(why)):
        add_agent(config, KEY, "a", None, options)
    assert not os.listdir(config.path)
    write(config, f"{HEX} a caps=20\n".encode())
    for edit in (grant_agent, revoke_agent):
        with pytest.raises(ConfigError, match=re.escape(why)):
            edit(config, "a", options=options)
    assert read(config) == f"{HEX} a caps=20\n".encode()


def test_removing_by_label_does_not_bring_a_second_line_to_life(config: ConfigDir) -> None:
    write(config, f"{HEX} web caps=core\n{HEX} caps=all\n".encode())
    assert remove_agent(config, "web") == [f"{HEX} web caps=core", f"{HEX} caps=all"]
    assert read(config) == b""


def test_a_file_does_not_grow_beyond_what_is_read(
    config: ConfigDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents_file, "MAX_AGENTS_FILE", 200)
    before = b"#" * 100 + b"\n"
    write(config, before)
    add_agent(config, KEY, "", None)
    full = read(config)
    with pytest.raises(ConfigError, match="would be larger than 200 bytes"):
        add_agent(config, OTHER, "", None)
    assert read(config) == full


@pytest.mark.parametrize("who", ["", "nobody", "#", HEX, "caps=core", "bad", "comment"])
def test_nobody_is_removed_by_mistake(config: ConfigDir, who: str) -> None:
    before = f"# comment\n{OTHER.hex()} caps=core\nbad\n".encode()
    write(config, before)
    with pytest.raises(ConfigError, match="no agent has the key or label") as caught:
        remove_agent(config, who)
    assert str(caught.value).endswith(f"see: asyd agents list --config-dir {config.path}")
    assert read(config) == before


def test_a_label_of_two_agents_is_not_enough(config: ConfigDir) -> None:
    before = f"{HEX} twin\n{OTHER.hex()} twin\n".encode()
    write(config, before)
    with pytest.raises(ConfigError, match="more than one agent has the key or label 'twin'"):
        remove_agent(config, "twin")
    assert read(config) == before


def test_removing_from_no_file(config: ConfigDir) -> None:
    with pytest.raises(ConfigError, match="no agent has"):
        remove_agent(config, "a")
    assert not os.listdir(config.path)


@pytest.mark.parametrize("mode", [0o620, 0o666])
def test_a_loose_file_is_not_edited(config: ConfigDir, mode: int) -> None:
    write(config, WRITTEN, mode)
    for edit in (lambda: add_agent(config, KEY, "", None), lambda: remove_agent(config, "other")):
        with pytest.raises(ConfigError, match=f"permissions {mode:04o}.*run: chmod 600 "):
            edit()
    assert read(config) == WRITTEN


def test_an_edit_that_fails_leaves_the_file(
    config: ConfigDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(config, WRITTEN)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ConfigError, match="authorized_agents: No space left on device"):
        add_agent(config, KEY, "", None)
    assert read(config) == WRITTEN
    assert os.listdir(config.path) == ["authorized_agents"]


def test_a_link_stays_a_link(config: ConfigDir, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir(mode=0o700)
    target = tmp_path / "shared" / "agents"
    target.write_bytes(WRITTEN)
    target.chmod(0o600)
    config.agents_path.symlink_to(target)
    add_agent(config, KEY, "", None)
    assert config.agents_path.is_symlink()
    assert target.read_bytes() == WRITTEN + f"{HEX}\n".encode()
    target.unlink()
    with pytest.raises(ConfigError, match="authorized_agents: No such file"):
        add_agent(config, KEY, "", None)


def test_edits_at_once_are_all_there(config: ConfigDir) -> None:
    """Each holds the lock through a descriptor of its own, as processes do."""
    write(config, WRITTEN)
    workers, each = 6, 8
    start = threading.Barrier(workers)
    keys = [
        [hashlib.sha256(bytes([worker, number])).digest() for number in range(each)]
        for worker in range(workers)
    ]
    failures: list[Exception] = []

    def work(own: list[bytes]) -> None:
        start.wait()
        try:
            for key in own:
                add_agent(config, key, "", None)
            for key in own[::2]:
                remove_agent(config, key.hex())
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(own,)) for own in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    book = parse_agents(read(config).decode("utf-8", "replace"))
    assert set(book.agents) == {OTHER} | {key for own in keys for key in own[1::2]}
    assert read(config).startswith(WRITTEN)
    assert os.listdir(config.path) == ["authorized_agents"]


def test_a_failed_edit_frees_the_lock(config: ConfigDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ConfigError) as caught:
        add_agent(config, KEY, "", None)
    assert isinstance(caught.value.__cause__, DiskFull)
    monkeypatch.undo()
    assert line_key(add_agent(config, KEY, "", None)) == KEY
