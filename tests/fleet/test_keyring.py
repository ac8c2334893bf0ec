"""Which keys a fleet uses: the inventory's, known_hosts', and whose identity."""

from __future__ import annotations

from pathlib import Path

import pytest

import asys
import asys.fleet
from asys.fleet import Fleet
from asys.fleet.keyring import Keyring
from support.fleet_nodes import FleetNodes


async def test_a_key_comes_from_known_hosts_where_the_entry_has_none(tmp_path: Path) -> None:
    hosts = asys.KnownHosts(tmp_path / "hosts")
    async with FleetNodes("a", "b") as nodes:
        entries = [
            nodes.entry("a", key=None),
            nodes.entry("b", key=None, known_hosts=tmp_path / "own"),
        ]
        async with Fleet(entries, identity=nodes.identity, known_hosts=hosts) as fleet:
            rows = await fleet.status()
            kinds = {row.failure.kind for row in rows if row.failure}
            assert kinds == {"UnknownHost"}
            hosts.add(nodes["a"].host, nodes["a"].port, nodes["a"].key.public)
            asys.KnownHosts(tmp_path / "own").add(
                nodes["b"].host, nodes["b"].port, nodes["b"].key.public
            )
            assert all(row.ok for row in await fleet.status())


async def test_known_hosts_is_read_again_only_when_it_has_changed(tmp_path: Path) -> None:
    class Counted(asys.KnownHosts):
        reads = 0

        def entries(self) -> dict[str, bytes]:
            Counted.reads += 1
            return super().entries()

    hosts = Counted(tmp_path / "hosts")
    async with FleetNodes("a", "b") as nodes:
        keyring = Keyring(nodes.identity, hosts)
        a, b = (nodes.entry(name, key=None) for name in "ab")
        assert keyring.node_key(a) is None
        hosts.add(a.host, a.port, nodes["a"].key.public)
        Counted.reads = 0
        for _ in range(3):
            assert keyring.node_key(a) == nodes["a"].key.public
            assert keyring.node_key(b) is None
        assert Counted.reads == 1
        asys.KnownHosts(hosts.path).add(b.host, b.port, nodes["b"].key.public)
        assert keyring.node_key(b) == nodes["b"].key.public
        assert Counted.reads == 2


async def test_an_identity_that_cannot_be_used_concerns_its_nodes_alone(tmp_path: Path) -> None:
    async with FleetNodes("a", "b") as nodes:
        entries = [nodes.entry("a"), nodes.entry("b", identity=tmp_path / "nobody")]
        async with Fleet(entries, identity=nodes.identity) as fleet:
            rows = {row.node: row for row in await fleet.status()}
            assert rows["a"].ok
            failure = rows["b"].failure
            assert failure is not None
            assert failure.kind == "IdentityError"
            made = asys.Identity.create(tmp_path / "nobody")
            again = {row.node: row for row in await fleet.status()}
            assert again["b"].ok
        assert nodes["b"].peers[-1].link.agent_key == made.public
        assert nodes["a"].peers[-1].link.agent_key == nodes.identity.public


def test_an_identity_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    made = asys.Identity.create()
    keyring = Keyring(None, None)
    entry = asys.fleet.NodeEntry("a", "x")

    assert keyring.identity(entry).public == made.public
    assert keyring.identity(entry) is keyring.identity(entry)
    assert keyring.known_hosts(entry).path == tmp_path / ".asys/known_hosts"
