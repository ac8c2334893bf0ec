"""Inventories: what a file may say, what a selector means, and what is said of faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import asys
from asys.fleet import Inventory, NodeEntry
from asys.protocol.keys import PrivateKey

KEY = PrivateKey.generate().public

FILE = f"""\
# The fleet.
[defaults]
port = 7000
identity = "agent"
labels = {{ env = "prod", role = "none" }}
deadline = 2.5

[nodes.db1]
host = "10.0.0.11"
key = "{KEY.hex()}"
labels = {{ role = "db" }}

[nodes.web-1]
host = "web.example.org"
port = 7816
known_hosts = "hosts"
identity = "/etc/asys"
deadline = 1

[nodes."api.1"]
host = "unix:/run/asyd.sock"
labels.env = "test"
"""


def inventory(tmp_path: Path, text: str = FILE) -> Inventory:
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    return Inventory.load(path)


def test_what_a_node_does_not_say_the_defaults_do(tmp_path: Path) -> None:
    db1, web, api = inventory(tmp_path)

    assert db1 == NodeEntry(
        name="db1",
        host="10.0.0.11",
        port=7000,
        key=KEY,
        identity=tmp_path / "agent",
        labels={"env": "prod", "role": "db"},
        deadline=2.5,
    )
    assert (web.port, web.key, web.deadline) == (7816, None, 1)
    assert (web.known_hosts, web.identity) == (tmp_path / "hosts", Path("/etc/asys"))
    assert api.labels == {"env": "test", "role": "none"}
    assert (db1.address, api.address) == ("10.0.0.11:7000", "unix:/run/asyd.sock")


def test_a_home_is_where_the_user_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (node,) = Inventory.parse('[nodes.a]\nhost = "a"\nknown_hosts = "~/hosts"\n')

    assert node.known_hosts == tmp_path / "hosts"


def test_without_a_path_it_is_the_one_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(asys.InventoryError, match=r"no inventory .*/\.asys/fleet\.toml; write one"):
        Inventory.load()
    (tmp_path / ".asys").mkdir()
    (tmp_path / ".asys/fleet.toml").write_text('[nodes.a]\nhost = "a"\n')

    assert [one.name for one in Inventory.load()] == ["a"]


def test_a_key_of_its_own_beats_known_hosts_of_the_defaults() -> None:
    text = f'[defaults]\nknown_hosts = "x"\n[nodes.a]\nhost = "a"\nkey = "{KEY.hex()}"\n'
    (node,) = Inventory.parse(text)

    assert (node.key, node.known_hosts) == (KEY, None)


# Selecting


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("env=prod", ["db1", "web-1"]),
        ("env=prod,role=db", ["db1"]),
        (" env = prod , role = none ", ["web-1"]),
        ("name=api.1", ["api.1"]),
        ({"role": "none"}, ["web-1", "api.1"]),
        ({}, ["db1", "web-1", "api.1"]),
        (None, ["db1", "web-1", "api.1"]),
        (lambda node: node.port == 7816, ["web-1"]),
        ("role=cache", []),
    ],
)
def test_a_selector_means_nodes_that_have_all_of_it(
    tmp_path: Path, selector: Any, names: list[str]
) -> None:
    assert [one.name for one in inventory(tmp_path).select(selector)] == names


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("rolle=db", "no node has the label rolle; there are: env, name, role"),
        ("db1", "'db1' selects nothing; it is written LABEL=VALUE,..."),
        ("role=", "selects nothing"),
        ("=db", "selects nothing"),
        ("", "selects nothing"),
        ("role=db,", "selects nothing"),
        ("role=db,role=web", "asks for two values of role"),
    ],
)
def test_a_selector_that_cannot_be_meant_is_refused(
    tmp_path: Path, selector: str, message: str
) -> None:
    with pytest.raises(asys.ArgumentError) as refused:
        inventory(tmp_path).select(selector)
    assert message in str(refused.value)


def test_names_and_numbers_of_an_inventory(tmp_path: Path) -> None:
    found = inventory(tmp_path)

    assert found["db1"].host == "10.0.0.11"
    assert "db1" in found
    assert "db2" not in found
    assert repr(found) == "<Inventory of 3 nodes>"
    with pytest.raises(asys.ArgumentError, match="no node is called 'db2'"):
        found["db2"]
    with pytest.raises(asys.ArgumentError, match="two nodes are called db1"):
        Inventory([found["db1"], NodeEntry("db1", "elsewhere")])


# Faults


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[nodes.a]\nhost = \n", "fleet.toml: Invalid value (at line 2, column 8)"),
        ("", "fleet.toml: there is no node in it"),
        ("[nodes]\n", "there is no node in it"),
        ("nodes = 3\n", "fleet.toml, line 1: nodes must be a table for each node"),
        ("[node.a]\nhost = 'a'\n", "fleet.toml, line 1: node is unknown; there are: defaults"),
        ("[nodes.a]\nport = 7816\n", "fleet.toml, line 1: nodes.a has no host"),
        ("[nodes.a]\nhost = 'a'\nport = 0\n", "line 3: nodes.a.port must be 1 to 65535, not 0"),
        ("[nodes.a]\nhost = 'a'\nport = true\n", "line 3: nodes.a.port must be 1 to 65535"),
        ("[nodes.a]\nhost = 7\n", "line 2: nodes.a.host must be a name or an address, not 7"),
        ("[nodes.a]\nhost = 'a b'\n", "line 2: nodes.a.host 'a b' is neither a name nor"),
        ("[nodes.a]\n\nhost = 'a'\nkey = 'abc'\n", "line 4: nodes.a.key must be the 64 hex digits"),
        ("[nodes.a]\nhost = 'a'\nkey = 5\n", "line 3: nodes.a.key must be the 64 hex digits"),
        (f"[nodes.a]\nhost = 'a'\nkey = '{'00' * 32}'\n", "line 1: nodes.a: key must be 32 bytes"),
        ("[nodes.a]\nhost = 'a'\nkeys = 1\n", "line 3: nodes.a.keys is unknown; there are: host"),
        ("[nodes.a]\nhost = 'a'\nidentity = 1\n", "line 3: nodes.a.identity must be a path"),
        ("[nodes.a]\nhost = 'a'\nidentity = ''\n", "line 3: nodes.a.identity must be a path"),
        ("[nodes.a]\nhost = 'a'\ndeadline = 0\n", "line 3: nodes.a.deadline is no deadline"),
        ("[nodes.a]\nhost = 'a'\ndeadline = 'x'\n", "line 3: nodes.a.deadline is no deadline"),
        (
            "[nodes.a]\nhost = 'a'\nlabels = { role = 1 }\n",
            "line 3: nodes.a.labels must be a table",
        ),
        ("[nodes.a]\nhost = 'a'\nlabels = 'db'\n", "line 3: nodes.a.labels must be a table"),
        (
            "[nodes.a]\nhost = 'a'\nlabels.x = 'a,b'\n",
            "line 1: nodes.a: 'a,b' cannot be in a label",
        ),
        ("[nodes.a]\nhost = 'a'\nlabels.name = 'x'\n", "no label may be called name"),
        ("[nodes.a]\nlabels.x = 1\nhost = 'a'\n", "line 2: nodes.a.labels must be a table"),
        ("[nodes.'a b']\nhost = 'a'\n", "line 1: nodes.a b: 'a b' is no name of a node"),
        ("[nodes]\na = { host = 'a', port = 0 }\n", "line 1: nodes.a.port must be 1 to 65535"),
        ("[nodes]\na = 3\n", "line 2: nodes.a must be a table"),
        ("[defaults]\nhost = 'a'\n[nodes.a]\nhost = 'a'\n", "line 2: defaults.host is unknown"),
        ("nodes = {}\n", "fleet.toml: there is no node in it"),
        ("x = " + "[" * 5000, "fleet.toml: something in it cannot be read"),
        ("x = " + "1" * 5000, "fleet.toml: something in it cannot be read"),
        ("[nodes.a]\nhost = 'a'\nidentity = \"~\\u0000\"\n", "line 3: nodes.a.identity"),
        ("defaults = 1\n[nodes.a]\nhost = 'a'\n", "line 1: defaults must be a table"),
    ],
)
def test_a_fault_is_named_with_its_line_and_its_key(text: str, message: str) -> None:
    with pytest.raises(asys.InventoryError) as refused:
        Inventory.parse(text)
    assert message in str(refused.value)


def test_a_key_and_known_hosts_at_once_are_refused() -> None:
    text = f'[nodes.a]\nhost = "a"\nknown_hosts = "x"\nkey = "{KEY.hex()}"\n'
    with pytest.raises(asys.InventoryError, match=r"line 1: nodes\.a: key and known_hosts exclude"):
        Inventory.parse(text)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(asys.InventoryError) as refused:
        Inventory.parse('[nodes.a]\nhost = 1\n[nodes.b]\nport = 0\n[nodes.c]\nhost = "c"\n')

    first, second = str(refused.value).splitlines()
    assert "line 2: nodes.a.host" in first
    assert "line 4: nodes.b.port" in second


def test_a_home_that_is_not_there_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(asys.InventoryError, match=r"line 3: nodes\.a\.identity '~no-such-user/x'"):
        Inventory.parse("[nodes.a]\nhost = 'a'\nidentity = '~no-such-user/x'\n")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(asys.InventoryError, match="cannot read"):
        Inventory.load(tmp_path)
    path = tmp_path / "fleet.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(asys.InventoryError, match="is not a text file in UTF-8"):
        Inventory.load(path)
    with path.open("wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(asys.InventoryError, match="it is no inventory"):
        Inventory.load(path)
