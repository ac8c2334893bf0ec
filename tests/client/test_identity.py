"""The agent's key on disk."""

from __future__ import annotations

import errno
import os
import pickle
import stat
from pathlib import Path

import pytest

from asys.client.identity import Identity
from asys.errors import IdentityError
from asys.protocol.keys import PrivateKey


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_create_writes_what_the_protocol_says(tmp_path: Path) -> None:
    where = tmp_path / "deep" / "agent"

    identity = Identity.create(where)

    assert (where / "id_curve25519").read_bytes() == identity.key.raw()
    assert (where / "id_curve25519.pub").read_bytes() == identity.public.hex().encode() + b"\n"
    assert sorted(os.listdir(where)) == ["id_curve25519", "id_curve25519.pub"]
    assert [mode(where), mode(where / "id_curve25519")] == [0o700, 0o600]
    assert Identity.load(where).public == identity.public == identity.key.public


def test_the_home_directory_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))

    with pytest.raises(IdentityError, match=r"make one with: asys keygen$"):
        Identity.load()
    created = Identity.create()

    assert (tmp_path / ".asys" / "id_curve25519").read_bytes() == created.key.raw()
    assert Identity.load().public == created.public


def test_a_user_without_a_home_must_name_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(IdentityError, match="name a directory"):
        Identity.load()


@pytest.mark.parametrize("existing", ["id_curve25519", "id_curve25519.pub"])
def test_create_never_overwrites(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_bytes(b"precious")

    with pytest.raises(IdentityError, match="not overwritten"):
        Identity.create(tmp_path)

    assert (tmp_path / existing).read_bytes() == b"precious"
    assert os.listdir(tmp_path) == [existing]


def test_create_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "id_curve25519").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(IdentityError, match="not overwritten"):
        Identity.create(tmp_path)

    assert os.listdir(tmp_path) == ["id_curve25519"]


def test_create_leaves_nothing_behind_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(IdentityError, match="No space left"):
        Identity.create(tmp_path)

    assert os.listdir(tmp_path) == []


def test_a_missing_key_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match=f"asys keygen --identity {tmp_path}"):
        Identity.load(tmp_path)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_damaged_key_is_an_error_and_left_alone(tmp_path: Path, size: int) -> None:
    path = tmp_path / "id_curve25519"
    path.write_bytes(bytes(size))
    path.chmod(0o600)

    with pytest.raises(IdentityError, match=f"has {size} bytes, not 32"):
        Identity.load(tmp_path)

    assert path.read_bytes() == bytes(size)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("loose", [0o640, 0o604, 0o660, 0o610])
def test_a_key_that_others_may_use_is_refused(tmp_path: Path, loose: int) -> None:
    Identity.create(tmp_path)
    path = tmp_path / "id_curve25519"
    path.chmod(loose)

    with pytest.raises(IdentityError, match=f"chmod 600 {path}"):
        Identity.load(tmp_path)

    path.chmod(0o400)
    Identity.load(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_directory_that_others_may_write_is_refused(tmp_path: Path) -> None:
    where = tmp_path / "agent"
    Identity.create(where)
    where.chmod(0o770)

    with pytest.raises(IdentityError, match=f"chmod 700 {where}"):
        Identity.load(where)
    with pytest.raises(IdentityError, match=f"chmod 700 {where}"):
        Identity.create(where)


def test_what_is_no_directory_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(IdentityError, match="cannot make the directory"):
        Identity.create(tmp_path / "file" / "agent")


def test_an_unreadable_key_is_reported(tmp_path: Path) -> None:
    (tmp_path / "id_curve25519").mkdir(mode=0o700)

    with pytest.raises(IdentityError, match="cannot read"):
        Identity.load(tmp_path)


def test_an_identity_shows_its_public_half_only() -> None:
    secret = bytes(range(32))
    identity = Identity(PrivateKey(secret))

    assert identity.public.hex() in repr(identity)
    assert secret.hex() not in repr(identity)
    with pytest.raises(TypeError):
        pickle.dumps(identity)
