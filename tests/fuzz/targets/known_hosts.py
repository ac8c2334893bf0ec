"""`known_hosts`, addresses and the agent's own key: trust rests on what stands there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from unittest import mock

from asys.client import known_hosts
from asys.client.address import Address
from asys.client.identity import Identity
from asys.client.known_hosts import KnownHosts
from asys.errors import ArgumentError, IdentityError
from asys.protocol.keys import PrivateKey, is_low_order
from fuzz import scratch
from fuzz.choices import Choices, Script

COVERS = ("asys.client.known_hosts", "asys.client.address", "asys.client.identity")

KEYS: Final = [PrivateKey(bytes([number]) * 32).public for number in (1, 2, 3)]


def one(data: bytes) -> None:
    """A file is read as its lines say, or is a fault; changes touch the lines of one node alone."""
    choices = Choices(data)
    what = choices.below(5)
    if what == 4:
        _identity(choices.rest())
        return
    host = choices.pick(("node", "::1", "unix:/run/asys", "own"))
    host = choices.text() if host == "own" else host
    port = choices.u16() if choices.flag() else 7816
    key = choices.pick(KEYS) if choices.flag() else choices.take(32)
    text = _with_keys(choices.rest())
    path = scratch.file("known_hosts", text)
    # Nobody else writes here, so there is nobody to wait for.
    with (
        mock.patch.object(known_hosts, "APPENDING_SECONDS", 0.0),
        mock.patch("os.fsync", _no_disk),
    ):
        _change(KnownHosts(path), what, host, port, key)


def _change(hosts: KnownHosts, what: int, host: str, port: int, key: bytes) -> None:
    before = hosts.path.read_bytes()
    address = _address(host, port)
    try:
        entries = hosts.entries()
    except IdentityError as error:
        assert str(error)
        entries = None
    if entries is not None:
        _is_what_it_says(entries, before)
    try:
        if what == 0:
            found = hosts.lookup(host, port)
            assert entries is not None
            assert address is not None
            assert found == entries.get(str(address))
        elif what in (1, 2):
            hosts.add(host, port, key)
            assert entries is not None
            assert address is not None
            assert not is_low_order(key)
            assert hosts.entries() == {**entries, str(address): key}
            after = hosts.path.read_bytes()
            assert after.startswith(before)
            assert after[len(before) :].count(b"\n") <= 1 + (before[-1:] not in (b"", b"\n"))
        else:
            gone = hosts.remove(host, port)
            assert address is not None
            left = hosts.path.read_bytes()
            assert gone or left == before
            if entries is not None:
                assert gone is (str(address) in entries)
                entries.pop(str(address), None)
                assert hosts.entries() == entries
    except IdentityError as error:
        assert str(error)
        assert hosts.path.read_bytes() == before
    except ArgumentError as error:
        assert str(error)
        assert address is None or len(key) != 32 or is_low_order(key)
        assert hosts.path.read_bytes() == before


def _is_what_it_says(entries: dict[str, bytes], data: bytes) -> None:
    """Every node is written as it is called, and stands in a line of its own with its key."""
    text = data.decode()
    for name, key in entries.items():
        assert str(Address.parse(name)) == name
        assert name.isprintable()
        assert key.hex() in text.lower()


def _address(host: str, port: int) -> Address | None:
    try:
        address = Address.of(host, port)
    except ArgumentError as error:
        assert str(error)
        address = None
    else:
        assert Address.parse(str(address)) == address
        assert Address.of(address.host, address.port) == address
    try:
        parsed = Address.parse(host)
    except ArgumentError as error:
        assert str(error)
    else:
        assert Address.parse(str(parsed)) == parsed
    return address


def _identity(raw: bytes) -> None:
    (scratch.directory() / "identity").mkdir(mode=0o700, exist_ok=True)
    path = scratch.file("identity/id_curve25519", raw)
    try:
        identity = Identity.load(path.parent)
    except IdentityError as error:
        assert len(raw) != 32
        assert raw.hex() not in str(error) or len(raw) < 8
    else:
        assert identity.public == PrivateKey(raw).public
        assert raw.hex() not in repr(identity)


def _with_keys(data: bytes) -> bytes:
    for sign, key in zip("\u00a7\u00b6\u00a4", KEYS, strict=True):
        data = data.replace(sign.encode(), key.hex().encode())
    return data


def _no_disk(_descriptor: int) -> None:
    """In place of fsync."""


def seeds() -> Iterator[bytes]:
    """Each change of a file with a node of each kind; faults; a key."""
    text = (
        "# mine\nnode:7816  \u00a7\n[::1]:7816 \u00b6\r\nunix:/run/asys  \u00a4\n10.0.0.1:1 \u00a7"
    )
    for what in range(4):
        for host in range(3):
            yield bytes(Script().byte(what, host, 0, 1, 0).raw(text.encode()))
        own = Script().byte(what, 3).blob("Other.Example").byte(1).u16(80).byte(1, 1)
        yield bytes(own.raw(text.encode()))
    for bad in (
        "node:1 \u00a7\nnode:1 \u00b6\n",
        "node\n",
        "node:x \u00a7\n",
        "fe80::1%eth0 \u00a7\n",
    ):
        yield bytes(Script().byte(0, 0, 0, 1, 0).raw(bad.encode()))
    yield bytes(Script().byte(4).raw(bytes(range(32))))
    yield bytes(Script().byte(4).raw(bytes(31)))
