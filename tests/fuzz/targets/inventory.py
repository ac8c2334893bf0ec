"""The inventory of a fleet, and what selects nodes in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from asys.errors import ArgumentError, InventoryError
from asys.fleet.inventory import Inventory
from asys.protocol.keys import PrivateKey
from fuzz.choices import Choices, Script

COVERS = ("asys.fleet.inventory",)


def one(data: bytes) -> None:
    """A text is an inventory, or each of its faults is told with a line that is there."""
    choices = Choices(data)
    selector = choices.text()
    text = choices.rest().decode("utf-8", "replace")
    try:
        inventory = Inventory.parse(text, "fleet.toml")
    except InventoryError as error:
        for fault in str(error).split("\nfleet.toml"):
            assert fault
            line = re.match(r"(?:fleet\.toml)?, line ([0-9]+): ", fault)
            assert line is None or 1 <= int(line[1]) <= len(text.splitlines())
        return
    entries = list(inventory)
    assert len({one.name for one in entries}) == len(entries) == len(inventory)
    for entry in entries:
        assert inventory[entry.name] is entry
        assert entry.address.isprintable()
        assert entry.key is None or (len(entry.key) == 32 and entry.known_hosts is None)
        assert all(isinstance(value, str) for value in entry.labels.values())
        assert entry.identity is None or isinstance(entry.identity, Path)
    try:
        found = inventory.select(selector)
    except ArgumentError as error:
        assert str(error)
    else:
        assert [one for one in entries if one in found] == list(found)


def seeds() -> Iterator[bytes]:
    """A whole inventory, selected in two ways, and one with a fault of each kind."""
    key = PrivateKey(bytes(range(32))).public.hex()
    good = f"""[defaults]
identity = "~/.asys"
labels = {{ env = "prod" }}
deadline = 2.5
[nodes.db1]
host = "10.0.0.11"
key = "{key}"
labels = {{ role = "db" }}
[nodes."web-1"]
host = "web.example"
port = 7000
known_hosts = "hosts"
"""
    for selector in ("", "role=db,env=prod", "name=web-1", "x=y", "role"):
        yield bytes(Script().blob(selector).raw(good.encode()))
    for bad in (
        "",
        "[nodes]\n",
        "[nodes.a]\nhost = 1\nport = 0\nkey = ''\nlabels = 1\nmore = 1\n",
        "[nodes.a]\nhost = 'x'\nlabels = { name = 'x' }\n",
        "[nodes.'a b']\nhost = '::1'\ndeadline = -1\n",
        "[[nodes]]\nhost = 'x'\n",
        "nodes = 1\n",
        "[nodes.a]\nhost = 'unix:/run/x'\nidentity = '~nobody-here/x'\n",
        "[nodes.a\n",
        "[nodes.a]\nhost = [[1979-05-27T07:32:00Z, 0x1F, 1e3, inf, true]]\n",
    ):
        yield bytes(Script().blob("").raw(bad.encode()))
