"""Which key the node has: a credential, its own in the config directory, its own in its state."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from asys.node.disk import config_dir, key_file, node_key
from asys.node.disk.config_dir import ConfigDir
from asys.node.disk.credentials import AGENTS, KEY, Credentials, take_credentials
from asys.node.disk.files import ConfigError, is_there, write_atomically
from asys.node.disk.key_file import KeyFile
from asys.node.disk.next_key import NextKey, beginning, do_all
from asys.node.disk.node_key import (
    GIVEN,
    given_key,
    known_public,
    load_node_keys,
    shown_key,
    stored_keys,
)
from asys.protocol.keys import PrivateKey
from support.disk import fail
from support.users import give_away, run_remedy

NONE = Credentials()

NOW = 1_900_000_000
"""Unix seconds."""


def load_node_key(config: ConfigDir, state: Path, given: Credentials) -> PrivateKey:
    """The key that asyd has."""
    return load_node_keys(config, state, given, NOW)[0].key


def load_stored_key(config: ConfigDir, state: Path) -> PrivateKey:
    """The key that is on the disk."""
    return stored_keys(config, state).load()


@pytest.fixture
def config(tmp_path: Path) -> ConfigDir:
    return ConfigDir(tmp_path / "asyd")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def given(tmp_path: Path) -> Credentials:
    """As systemd makes them."""
    path = tmp_path / "credentials"
    path.mkdir(mode=0o700)
    return Credentials(path)


def give(credentials: Credentials, name: str, data: bytes) -> Path:
    assert credentials.directory is not None
    path = credentials.directory / name
    path.write_bytes(data)
    path.chmod(0o400)
    return path


def read_only(monkeypatch: pytest.MonkeyPatch, *directories: Path) -> None:
    """As a unit with ProtectSystem=strict sees these."""

    def refuse(path: Path, *rest: Any) -> None:
        if path.parent in directories:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        write_atomically(path, *rest)

    monkeypatch.setattr(key_file, "write_atomically", refuse)
    monkeypatch.setattr(node_key, "write_atomically", refuse)


# -- the environment


def test_where_they_are_is_taken_out_of_the_environment(tmp_path: Path) -> None:
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path), "OTHER": "x"}
    assert take_credentials(environ).directory == tmp_path
    assert environ == {"OTHER": "x"}
    assert take_credentials(environ).directory is None
    assert take_credentials({"CREDENTIALS_DIRECTORY": ""}).directory is None


def test_what_was_not_given(given: Credentials) -> None:
    for one in (NONE, given, Credentials(Path("/no/such/directory"))):
        assert one.path(KEY) is None
        assert one.read(KEY, 32) is None


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600])
def test_modes_that_systemd_gives(given: Credentials, mode: int) -> None:
    """0440 is that of a file with an access list."""
    give(given, KEY, b"text").chmod(mode)
    assert given.directory is not None
    given.directory.chmod(0o500 | mode >> 3 & 0o050)
    assert given.read(KEY, 32) == b"text"
    assert given.read(KEY, 2) == b"tex"


@pytest.mark.parametrize("mode", [0o444, 0o404, 0o460, 0o602])
def test_what_others_could_read_or_change(given: Credentials, mode: int) -> None:
    give(given, KEY, b"text").chmod(mode)
    with pytest.raises(ConfigError, match="which let others in") as caught:
        given.read(KEY, 32)
    run_remedy(str(caught.value))
    assert given.read(KEY, 32) == b"text"


def test_a_directory_that_others_could_read_or_change(given: Credentials) -> None:
    give(given, KEY, b"text")
    assert given.directory is not None
    for mode in (0o777, 0o720, 0o701):
        given.directory.chmod(mode)
        with pytest.raises(ConfigError, match="which let others in"):
            given.read(KEY, 32)


def test_another_users(given: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
    _, me = give_away(give(given, KEY, b"text"))
    monkeypatch.setattr(os, "geteuid", lambda: me)
    with pytest.raises(ConfigError, match="belongs to another user"):
        given.read(KEY, 32)


# -- the key


def test_a_credential_goes_first(
    config: ConfigDir, state: Path, given: Credentials, caplog: pytest.LogCaptureFixture
) -> None:
    own = load_stored_key(config, state)
    KeyFile(state).make()
    key = PrivateKey.generate()
    give(given, KEY, key.raw())
    for _ in range(2):  # at the second start what is shown is written down
        assert load_node_key(config, state, given).public == key.public
        assert (state / GIVEN).read_bytes() == key.public
    assert stat.S_IMODE((state / GIVEN).stat().st_mode) == 0o644
    assert f"{config.key_path} is not used: the node's key is a credential" in caplog.text
    assert f"{state}/id_curve25519 is not used" in caplog.text
    assert shown_key(config, state, NOW) == known_public(config, state) == key.public

    assert load_node_key(config, state, NONE).public == own.public
    assert not (state / GIVEN).exists()
    assert shown_key(config, state, NOW) == known_public(config, state) == own.public


def test_the_same_key_twice_is_no_news(
    config: ConfigDir, state: Path, given: Credentials, caplog: pytest.LogCaptureFixture
) -> None:
    give(given, KEY, load_stored_key(config, state).raw())
    load_node_key(config, state, given)
    assert not caplog.text


def test_another_key_as_a_credential_is_shown(
    config: ConfigDir, state: Path, given: Credentials
) -> None:
    for _ in range(2):
        key = PrivateKey.generate()
        assert given.directory is not None
        (given.directory / KEY).unlink(missing_ok=True)
        give(given, KEY, key.raw())
        load_node_key(config, state, given)
        assert shown_key(config, state, NOW) == key.public
    assert os.listdir(config.path) == []


@pytest.mark.parametrize("damaged", [b"", bytes(31), b"x" * 33, bytes(32)])
def test_a_damaged_credential(
    config: ConfigDir, state: Path, given: Credentials, damaged: bytes
) -> None:
    """No other key takes its place."""
    load_stored_key(config, state)
    path = give(given, KEY, damaged)
    with pytest.raises(ConfigError, match="it is damaged") as caught:
        load_node_key(config, state, given)
    assert str(path) in str(caught.value)


def test_a_unit_that_may_not_look_into_the_config_directory(
    config: ConfigDir, state: Path, given: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = PrivateKey.generate()
    give(given, KEY, key.raw())

    def refuse(path: Path) -> bool:
        if path.parent == config.path:
            raise ConfigError("Permission denied")
        return os.path.lexists(path)

    monkeypatch.setattr(node_key, "is_there", refuse)
    assert load_node_key(config, state, given).public == key.public
    with pytest.raises(ConfigError, match="Permission denied"):
        load_node_key(config, state, NONE)


def test_no_room_to_write_down_which_it_is(
    config: ConfigDir,
    state: Path,
    given: Credentials,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = PrivateKey.generate()
    give(given, KEY, key.raw())
    monkeypatch.setattr(node_key, "write_atomically", fail)
    assert load_node_key(config, state, given).public == key.public
    assert f"{state / GIVEN} cannot be made, and `asyd pubkey` knows no better" in caplog.text
    (state / GIVEN).mkdir()
    with pytest.raises(ConfigError, match=GIVEN):
        load_node_key(config, state, given)
    assert load_node_key(config, state, NONE)  # a command may be told the wrong one; asyd is not


def test_where_the_config_directory_is_read_only_it_is_made_in_the_state_directory(
    config: ConfigDir,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert known_public(config, state) == b""
    with monkeypatch.context() as patched:
        read_only(patched, config.path)
        key = load_node_key(config, state, NONE)
        assert load_node_key(config, state, NONE).public == key.public
    assert os.listdir(config.path) == []
    assert sorted(os.listdir(state)) == ["id_curve25519", "id_curve25519.pub"]
    assert stat.S_IMODE((state / "id_curve25519").stat().st_mode) == 0o600
    # A command that may write there makes no other one.
    assert shown_key(config, state, NOW) == known_public(config, state) == key.public
    assert os.listdir(config.path) == []
    # Who puts a key into the config directory means that one.
    config.key_file.make()
    own = config.key_file.load()
    assert load_node_key(config, state, NONE).public == own.public != key.public
    assert f"{state}/id_curve25519 is not used: there is {config.key_path}" in caplog.text


@pytest.mark.parametrize("lack", ["neither", "no state", "no room"])
def test_nowhere_to_make_it(
    config: ConfigDir, state: Path, monkeypatch: pytest.MonkeyPatch, lack: str
) -> None:
    if lack == "no room":
        monkeypatch.setattr(key_file, "write_atomically", fail)
    else:
        read_only(monkeypatch, config.path, *([state] if lack == "neither" else []))
    if lack == "no state":
        state.rmdir()
    with pytest.raises(ConfigError, match="no key could be made"):
        load_node_key(config, state, NONE)


# -- the agents


def test_agents_as_a_credential(config: ConfigDir, given: Credentials) -> None:
    config.agents_path.write_bytes(b"of the file")
    config.agents_path.chmod(0o600)
    with_them = ConfigDir(config.path, credentials=given)
    assert with_them.read_agents() == b"of the file"
    assert with_them.agents_from == config.agents_path
    path = give(given, AGENTS, b"of the credential")
    assert with_them.read_agents() == b"of the credential"
    assert with_them.agents_from == path
    assert config.read_agents() == b"of the file"  # as a command reads it


def test_too_many_agents_as_a_credential(
    config: ConfigDir, given: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_dir, "MAX_AGENTS_FILE", 8)
    path = give(given, AGENTS, b"123456789")
    with pytest.raises(ConfigError, match=f"{path} is larger than 8 bytes"):
        ConfigDir(config.path, credentials=given).read_agents()


def test_a_key_in_the_state_directory_has_its_next_key_there(
    config: ConfigDir, state: Path
) -> None:
    KeyFile(state).make()
    place = stored_keys(config, state)
    key = place.load()
    made = NextKey.make(key, NOW, 60)
    do_all(iter([beginning(place, made)]))
    loaded, where = load_node_keys(config, state, NONE, NOW + 59)
    assert where is not None
    assert where.next_path.parent == state
    assert loaded.next is not None
    assert loaded.next.key.public == made.key.public
    assert shown_key(config, state, NOW + 59) == key.public
    assert shown_key(config, state, NOW + 60) == made.key.public
    assert not is_there(place.next_path)


def test_a_credential_has_no_next_key(config: ConfigDir, state: Path, given: Credentials) -> None:
    key = PrivateKey.generate()
    give(given, KEY, key.raw())
    loaded, where = load_node_keys(config, state, given, NOW)
    assert (loaded.key.public, loaded.next, where) == (key.public, None, None)
    assert given_key(state) == key.public
    with pytest.raises(
        ConfigError, match=r"is a credential of systemd.* run: rm .*credential\.pub"
    ):
        stored_keys(config, state)
