"""From the directory of asyd 0.3.1 into one of ours: only read there, nothing written over here."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from asys.node.disk import migration
from asys.node.disk.config_dir import MAX_AGENTS_FILE, ConfigDir
from asys.node.disk.files import ConfigError, write_atomically
from asys.node.disk.migration import OldDir, Placed, check_places, place
from asys.protocol.keys import PrivateKey

KEY = PrivateKey(b"\x07" * 32)
AGENTS = "# of ours\n"


def snapshot(directory: Path) -> dict[str, tuple[bytes, int, int]]:
    """What is in a directory: bytes, mode and time of change."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns)
        for path in [*directory.iterdir()]
    } | {".": (b"", directory.stat().st_mode, directory.stat().st_mtime_ns)}


@pytest.fixture
def old(tmp_path: Path) -> OldDir:
    path = tmp_path / "old"
    path.mkdir(mode=0o700)
    for name, data, mode in (
        ("id_curve25519", KEY.raw(), 0o600),
        ("id_curve25519.pub", KEY.public, 0o644),
        ("authorized_agents", b"# of 0.3.1: \xff\n", 0o600),
    ):
        (path / name).write_bytes(data)
        (path / name).chmod(mode)
    return OldDir(path)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "new"


def test_key_and_agents_are_there_and_the_old_directory_is_as_it_was(
    old: OldDir, new: Path
) -> None:
    before = snapshot(old.path)
    text = old.read_agents()
    assert place(old, new, text) == Placed(KEY.public, copied=True)
    assert snapshot(old.path) == before
    config = ConfigDir(new, make=False)
    assert config.load_key().public == KEY.public
    assert config.read_agents() == b"# of 0.3.1: \xff\n"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in new.iterdir()}
    assert modes == {"id_curve25519": 0o600, "id_curve25519.pub": 0o644, "authorized_agents": 0o600}
    assert stat.S_IMODE(new.stat().st_mode) == 0o700


def test_a_dry_run_writes_nothing(old: OldDir, new: Path) -> None:
    assert place(old, new, AGENTS, dry_run=True) == Placed(KEY.public, copied=True)
    assert place(old, new, AGENTS, dry_run=True, new_key=True) == Placed(None, copied=False)
    assert not new.parent.exists()
    new.mkdir(mode=0o700, parents=True)
    assert place(old, new, AGENTS, dry_run=True) == Placed(KEY.public, copied=True)
    assert place(old, new, AGENTS, dry_run=True, new_key=True) == Placed(None, copied=False)
    assert list(new.iterdir()) == []
    mine = ConfigDir(new).load_key().public
    assert place(old, new, AGENTS, dry_run=True, new_key=True) == Placed(mine, copied=False)
    with pytest.raises(ConfigError, match="is there and says something else"):
        place(old, new, AGENTS, dry_run=True)


def test_the_same_again_changes_nothing(old: OldDir, new: Path) -> None:
    place(old, new, AGENTS)
    before = snapshot(new)
    assert place(old, new, AGENTS) == Placed(KEY.public, copied=True)
    assert snapshot(new) == before
    (new / "authorized_agents").unlink()  # as if it had been cut off there
    place(old, new, AGENTS)
    assert (new / "authorized_agents").read_text() == AGENTS


def test_a_key_of_its_own(old: OldDir, new: Path) -> None:
    made = place(old, new, AGENTS, new_key=True)
    assert made == Placed(ConfigDir(new).load_key().public, copied=False)
    assert made.public != KEY.public
    assert place(old, new, AGENTS, new_key=True) == made
    (old.path / "id_curve25519").unlink()
    assert place(old, new, AGENTS, new_key=True) == made


@pytest.mark.parametrize("name", ["id_curve25519", "id_curve25519.pub", "authorized_agents"])
def test_nothing_is_written_over(old: OldDir, new: Path, name: str) -> None:
    new.mkdir(mode=0o700, parents=True)
    (new / name).write_bytes(KEY.raw()[:-1])
    before = snapshot(new)
    with pytest.raises(ConfigError, match="it is never written over") as raised:
        place(old, new, AGENTS)
    assert ("--new-key" in str(raised.value)) == (name != "authorized_agents")
    assert snapshot(new) == before


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_disk_that_fails_leaves_nothing_half_done(
    old: OldDir, new: Path, nth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def failing(path: Path, data: bytes, mode: int) -> None:
        calls.append(path)
        if len(calls) == nth:
            raise OSError(28, os.strerror(28))
        write_atomically(path, data, mode)

    monkeypatch.setattr(migration, "write_atomically", failing)
    with pytest.raises(ConfigError, match="No space left on device; nothing is migrated"):
        place(old, new, AGENTS)
    assert len(calls) == nth
    assert calls[-1].name == ("id_curve25519", "id_curve25519.pub", "authorized_agents")[nth - 1]
    assert not new.exists()
    new.mkdir(mode=0o700)
    calls.clear()
    with pytest.raises(ConfigError, match="nothing is migrated"):
        place(old, new, AGENTS)
    assert list(new.iterdir()) == []


@pytest.mark.parametrize(
    ("break_it", "fault"),
    [
        (lambda path: (path / "id_curve25519").unlink(), "no asyd has run with this directory"),
        (lambda path: (path / "id_curve25519").write_bytes(b"\x01" * 31), "is damaged"),
        (lambda path: (path / "id_curve25519").write_bytes(b"\x01" * 33), "is damaged"),
        (lambda path: (path / "id_curve25519").write_bytes(bytes(32)), "is damaged"),
        (lambda path: (path / "id_curve25519").chmod(0o640), "permissions 0640, .*: chmod 600 "),
    ],
)
def test_a_key_that_is_not_taken_over(old: OldDir, new: Path, break_it: object, fault: str) -> None:
    assert callable(break_it)
    break_it(old.path)
    with pytest.raises(ConfigError, match=fault) as raised:
        place(old, new, AGENTS)
    assert "01" * 8 not in str(raised.value)
    assert not new.exists()


def test_agents_that_others_may_have_written(old: OldDir) -> None:
    (old.path / "authorized_agents").chmod(0o620)
    with pytest.raises(ConfigError, match="permissions 0620, which let others in; if nobody has"):
        old.read_agents()
    (old.path / "authorized_agents").unlink()
    assert old.read_agents() == ""
    os.mkfifo(old.path / "authorized_agents", 0o600)
    with pytest.raises(ConfigError, match="is no regular file"):
        old.read_agents()
    (old.path / "authorized_agents").unlink()
    (old.path / "authorized_agents").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="No such file"):
        old.read_agents()


def test_agents_that_are_too_many(old: OldDir, new: Path) -> None:
    with pytest.raises(ConfigError, match="would be larger than"):
        place(old, new, "#" * (MAX_AGENTS_FILE + 1))
    with (old.path / "authorized_agents").open("r+b") as file:
        file.truncate(MAX_AGENTS_FILE + 1)
    with pytest.raises(ConfigError, match="is larger than"):
        old.read_agents()


def test_a_directory_that_is_none_or_is_open(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no directory; name that of asyd 0"):
        OldDir(tmp_path / "nothing")
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match="permissions 0777"):
        OldDir(tmp_path)


def test_the_old_directory_stays_as_it_is(old: OldDir, tmp_path: Path) -> None:
    (tmp_path / "other").symlink_to(old.path)
    for new, how in ((old.path, "is the"), (tmp_path / "other", "is the"), (old.path / "n", "in")):
        with pytest.raises(ConfigError, match=rf"{how}.* directory of asyd 0\.3\.1.*--config-dir"):
            place(old, new, AGENTS)
    check_places(old.path, tmp_path / "old-new")
    assert sorted(path.name for path in old.path.iterdir()) == [
        "authorized_agents",
        "id_curve25519",
        "id_curve25519.pub",
    ]
