"""Keys that systemd hands to packaging/systemd/asyd.service: in clear and encrypted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import asys
from asys.protocol.keys import PrivateKey
from support.caged import FULL, SECONDS, Caged, caged, drop_in
from support.systemd_box import SystemdBox

pytestmark = pytest.mark.root

KEY = "asyd.id_curve25519"
AGENTS = "asyd.authorized_agents"
ENCRYPTED = "/etc/credstore.encrypted"
PLAIN = "/etc/credstore"
OWN = "/etc/asyd/own"
"""Where an admin may have a key in clear."""


@pytest.fixture
def asyd(systemd_box: SystemdBox) -> Iterator[Caged]:
    box = systemd_box
    box.run("mkdir", "-p", ENCRYPTED, PLAIN)
    with caged(box, FULL) as [made]:
        made.admit()
        yield made
    box.run("sh", "-c", f"rm -f {ENCRYPTED}/asyd.* {PLAIN}/asyd.* /var/lib/systemd/credential.*")


def shown(asyd: Caged) -> bytes:
    """The key that it shows to whoever connects; and what its admin learns outside is the same."""
    with asys.sync.connect(
        f"unix:{asyd.address}", identity=asyd.identity, node_key=asyd.key, timeout=SECONDS
    ) as node:
        assert node.sys_hello().magic == b"ASYS"
    return asyd.key


def test_encrypted_and_in_clear_and_none(asyd: Caged) -> None:
    box = asyd.box
    key, other = PrivateKey.generate(), PrivateKey.generate()
    (box.share / "key").write_bytes(key.raw())
    words = ("--with-key=host", f"--name={KEY}", "/run/box/key", f"{ENCRYPTED}/{KEY}")
    box.run("systemd-creds", "encrypt", *words)  # all that an admin does
    (box.share / "key").unlink()
    asyd.do("start")
    assert shown(asyd) == key.public
    state = box.path("/var/lib/asyd")
    assert (state / "credential.pub").read_bytes() == key.public
    assert not (state / "id_curve25519").exists()
    for written in [one for one in state.rglob("*") if one.is_file()]:
        assert key.raw() not in written.read_bytes()
    assert box.run("asyd", "agents", "list").stdout

    # A file of the admin's own goes before the store.
    box.path(OWN).write_bytes(other.raw())
    asyd.drop_in("key", drop_in({"LoadCredential": f"{KEY}:{OWN}"}))
    asyd.do("restart")
    assert shown(asyd) == other.public

    # Without any, it makes its own, and says that this is what it has.
    asyd.drop_in("key", "")
    box.path(f"{ENCRYPTED}/{KEY}").unlink()
    asyd.do("restart")
    assert shown(asyd) not in (key.public, other.public)
    assert not (state / "credential.pub").exists()
    made = asyd.key

    # And one in /etc/asyd goes before that.
    box.path("/etc/asyd/id_curve25519").write_bytes(key.raw())
    box.path("/etc/asyd/id_curve25519").chmod(0o600)
    asyd.do("restart")
    assert shown(asyd) == key.public != made
    assert "/var/lib/asyd/id_curve25519 is not used" in asyd.log


def test_a_key_that_asyd_may_not_change_is_moved_to_where_it_may(asyd: Caged) -> None:
    box = asyd.box
    key = PrivateKey.generate()
    box.path("/etc/asyd/id_curve25519").write_bytes(key.raw())
    box.path("/etc/asyd/id_curve25519").chmod(0o600)
    asyd.do("start")
    assert shown(asyd) == key.public
    refused = box.run("asyd", "key", "rotate", check=False)
    assert refused.returncode
    said, _, remedy = refused.stderr.strip().rpartition("start asyd anew: ")
    assert said.endswith(
        "asyd may not write to /etc/asyd, which holds its key; move the key to where it may, and "
    )
    box.run("sh", "-c", remedy)
    asyd.do("restart")
    assert shown(asyd) == key.public
    assert key.public.hex() in box.run("asyd", "key", "rotate").stdout
    with asyd.connect() as agent:
        assert agent.next_key is not None
        moved = agent.next_key
    box.run("asyd", "key", "finish")
    asyd.do("restart")
    assert shown(asyd) == moved != key.public
    for place in ("/etc/asyd", "/var/lib/asyd"):
        for path in box.path(place).rglob("*"):
            assert not path.is_file() or key.raw() not in path.read_bytes()


def test_a_credential_is_changed_where_systemd_has_it(asyd: Caged) -> None:
    asyd.box.path(OWN).write_bytes(PrivateKey.generate().raw())
    asyd.drop_in("key", drop_in({"LoadCredential": f"{KEY}:{OWN}"}))
    for verb in ("start", "stop"):  # it is refused whether asyd runs or not
        asyd.do(verb)
        refused = asyd.box.run("asyd", "key", "rotate", check=False)
        assert refused.returncode
        assert "the node's key is a credential of systemd" in refused.stderr


def test_a_damaged_one_is_not_replaced(asyd: Caged) -> None:
    asyd.box.path(OWN).write_bytes(bytes(31))
    asyd.drop_in("key", drop_in({"LoadCredential": f"{KEY}:{OWN}", "Restart": "no"}))
    assert asyd.box.run("systemctl", "start", FULL, check=False).returncode
    assert f"/run/credentials/{FULL}/{KEY} has 31 bytes, not 32: it is damaged" in asyd.log
    assert not asyd.box.path("/var/lib/asyd/id_curve25519").exists()


def test_agents_as_a_credential(asyd: Caged) -> None:
    """They go before the file, as an image that nobody edits would have it."""
    guest = asys.Identity.generate()
    Path(asyd.box.path(f"{PLAIN}/{AGENTS}")).write_text(f"{guest.public.hex()} guest\n")
    asyd.do("start")
    with asys.sync.connect(
        f"unix:{asyd.address}", identity=guest, node_key=asyd.key, timeout=SECONDS
    ) as node:
        assert node.sys_hello().magic == b"ASYS"
    with pytest.raises(asys.AsysError):
        asyd.connect()
    assert f"1 agents in /run/credentials/{FULL}/{AGENTS}" in asyd.log
    assert "/etc/asyd/authorized_agents is not read" in asyd.log
