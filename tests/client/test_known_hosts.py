"""known_hosts: which key belongs to which node."""

from __future__ import annotations

import errno
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from asys.client.known_hosts import KnownHosts
from asys.errors import ArgumentError, IdentityError
from asys.protocol.keys import PrivateKey

KEY = PrivateKey(bytes(range(32))).public
OTHER = PrivateKey(bytes(range(1, 33))).public


@pytest.fixture
def hosts(tmp_path: Path) -> KnownHosts:
    return KnownHosts(tmp_path / "asys" / "known_hosts")


def write(hosts: KnownHosts, text: str | bytes) -> None:
    hosts.path.parent.mkdir(exist_ok=True, mode=0o700)
    hosts.path.write_bytes(text.encode() if isinstance(text, str) else text)
    hosts.path.chmod(0o600)


def test_what_is_added_is_known(hosts: KnownHosts) -> None:
    assert hosts.lookup("node") is None

    hosts.add("Node", 7816, KEY)
    hosts.add("::1", 99, OTHER)
    hosts.add("unix:/run/asyd", 0, KEY)

    text = f"node:7816  {KEY.hex()}\n[::1]:99  {OTHER.hex()}\nunix:/run/asyd  {KEY.hex()}\n"
    assert hosts.path.read_text() == text
    assert hosts.lookup("node") == hosts.lookup("unix:/run/asyd") == KEY
    assert hosts.lookup("0:0::1", 99) == OTHER
    assert hosts.lookup("::1") is None
    assert list(hosts.entries()) == ["node:7816", "[::1]:99", "unix:/run/asyd"]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_the_file_is_the_owners_alone(hosts: KnownHosts) -> None:
    hosts.add("node", 1, KEY)

    assert stat.S_IMODE(hosts.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(hosts.path.parent.stat().st_mode) == 0o700
    hosts.path.chmod(0o620)
    with pytest.raises(IdentityError, match=f"chmod 600 {hosts.path}"):
        hosts.lookup("node", 1)


def test_files_of_deployed_tools_are_read(hosts: KnownHosts) -> None:
    write(
        hosts, f"# nodes\n\n  \n127.0.0.1:7816  {KEY.hex()}\n\t[::1]:1\t{OTHER.hex().upper()} \r\n"
    )

    assert hosts.entries() == {"127.0.0.1:7816": KEY, "[::1]:1": OTHER}


@pytest.mark.parametrize(
    "line",
    [
        "node:1",
        f"node:1 {KEY.hex()[:-1]}",
        f"node:1 {KEY.hex()}0",
        f"node:1 {KEY.hex()} comment",
        f"node:x {KEY.hex()}",
        f"no de:1:2 {KEY.hex()}",
        f"{KEY.hex()}",
        "zz" * 32,
    ],
)
def test_a_bad_line_is_an_error_that_names_it(hosts: KnownHosts, line: str) -> None:
    write(hosts, f"# first\nnode:2  {OTHER.hex()}\n{line}\n")

    with pytest.raises(IdentityError, match=f"{hosts.path}, line 3: .*correct or remove this line"):
        hosts.lookup("node", 2)
    with pytest.raises(IdentityError, match="line 3"):
        hosts.add("node", 3, KEY)


def test_two_keys_for_one_node_are_an_error(hosts: KnownHosts) -> None:
    write(hosts, f"node:7816 {KEY.hex()}\n# \nNODE {OTHER.hex()}\n")

    with pytest.raises(IdentityError, match="lines 1 and 3: two different keys for node:7816"):
        hosts.lookup("node")


def test_the_same_line_twice_is_none(hosts: KnownHosts) -> None:
    write(hosts, f"node:7816 {KEY.hex()}\nnode:7816 {KEY.hex()}\n")

    assert hosts.entries() == {"node:7816": KEY}


def test_add_never_replaces(hosts: KnownHosts) -> None:
    hosts.add("node", 1, KEY)
    before = hosts.path.read_bytes()

    hosts.add("node", 1, KEY)
    with pytest.raises(IdentityError, match="another key"):
        hosts.add("node", 1, OTHER)

    assert hosts.path.read_bytes() == before


@pytest.mark.parametrize("key", [b"", KEY[:-1], KEY + b"\0", bytes(32), bytes([1]) + bytes(31)])
def test_add_refuses_what_is_no_key(hosts: KnownHosts, key: bytes) -> None:
    with pytest.raises(ArgumentError):
        hosts.add("node", 1, key)

    assert not hosts.path.exists()


def test_add_completes_a_last_line_without_an_end(hosts: KnownHosts) -> None:
    write(hosts, f"a:1 {KEY.hex()}")

    hosts.add("b", 1, OTHER)

    assert hosts.entries() == {"a:1": KEY, "b:1": OTHER}


def test_nobodys_line_is_lost_when_many_add(hosts: KnownHosts) -> None:
    def add(number: int) -> None:
        KnownHosts(hosts.path).add(f"node{number}", 1, KEY)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(add, range(64)))

    assert set(hosts.entries()) == {f"node{number}:1" for number in range(64)}


def test_a_line_that_is_being_written_is_waited_for(
    hosts: KnownHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(hosts, f"a:1  {KEY.hex()}\nb:1  {KEY.hex()[:10]}")

    def rest(_seconds: float) -> None:
        with hosts.path.open("a") as file:
            file.write(f"{KEY.hex()[10:]}\n")

    monkeypatch.setattr(time, "sleep", rest)
    assert hosts.entries() == {"a:1": KEY, "b:1": KEY}


def test_a_line_that_nobody_finishes_is_a_fault(hosts: KnownHosts) -> None:
    write(hosts, f"a:1  {KEY.hex()}\nb:1  {KEY.hex()[:10]}")
    with pytest.raises(IdentityError, match="line 2: it must be host:port"):
        hosts.entries()


def test_remove_takes_a_nodes_lines_and_leaves_the_rest(hosts: KnownHosts) -> None:
    kept = f"# node:1 {KEY.hex()}\nnode:10 {KEY.hex()}\nsomething else\nno de {KEY.hex()}\n\n"
    write(hosts, f"node:1 {KEY.hex()}\n{kept}NODE:1  {OTHER.hex()}\n")

    assert hosts.remove("node", 1)

    assert hosts.path.read_text() == kept
    assert os.listdir(hosts.path.parent) == ["known_hosts"]
    assert not hosts.remove("node", 1)
    assert hosts.path.read_text() == kept


def test_remove_leaves_the_file_alone_when_the_disk_is_full(
    hosts: KnownHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    hosts.add("node", 1, KEY)
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(IdentityError, match="No space left"):
        hosts.remove("node", 1)

    assert hosts.lookup("node", 1) == KEY
    assert os.listdir(hosts.path.parent) == ["known_hosts"]


def test_a_link_that_leads_nowhere_is_reported(tmp_path: Path) -> None:
    (tmp_path / "known_hosts").symlink_to(tmp_path / "gone" / "known_hosts")

    with pytest.raises(IdentityError, match="cannot write"):
        KnownHosts(tmp_path / "known_hosts").add("node", 1, KEY)


def test_remove_without_a_file(hosts: KnownHosts) -> None:
    assert not hosts.remove("node", 1)
    assert not hosts.path.exists()


def test_a_file_that_is_no_text_is_reported(hosts: KnownHosts) -> None:
    write(hosts, b"\xff\xfe\x00")

    with pytest.raises(IdentityError, match="not a text file"):
        hosts.entries()


def test_a_path_that_cannot_be_used_is_reported(tmp_path: Path) -> None:
    (tmp_path / "known_hosts").mkdir(mode=0o700)
    hosts = KnownHosts(tmp_path / "known_hosts")

    with pytest.raises(IdentityError, match="cannot read"):
        hosts.lookup("node")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(IdentityError, match="cannot"):
        KnownHosts(tmp_path / "file" / "known_hosts").add("node", 1, KEY)


def test_the_home_directory_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))

    assert KnownHosts().path == tmp_path / ".asys" / "known_hosts"
    assert str(tmp_path) in repr(KnownHosts())
