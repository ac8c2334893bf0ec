"""Which key the node has (docs/protocol.md, section 8.1): that of the credential, of the config
directory, or of the state directory, in this order.

It is made in the config directory. Where that may not be written to, as by a unit for which /etc is
read-only, it is made in the state directory.
"""

from __future__ import annotations

import errno
import logging
from contextlib import suppress
from pathlib import Path
from typing import Final

from asys.node.disk.config_dir import ConfigDir
from asys.node.disk.credentials import KEY, Credentials
from asys.node.disk.files import NO_ROOM, ConfigError, is_there, quoted, write_atomically
from asys.node.disk.key_file import KeyFile, checked_key
from asys.node.disk.next_key import LoadedKeys
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import KEY_SIZE

GIVEN: Final = "credential.pub"
"""In the state directory while the node's key is a credential: its public key, 32 raw bytes. Nobody
outside of the unit sees the credential, and an admin asks what the node's key is.
"""

_log = logging.getLogger("asyd")


def load_node_keys(
    config: ConfigDir, state_dir: Path, credentials: Credentials, now: int
) -> tuple[LoadedKeys, KeyFile | None]:
    """The node's key, for asyd itself, and the next one, if there is one; made at the first start.
    And where they are: None for a credential, which has no next key.

    ConfigError for a key that is damaged or that others can read: it is never replaced, and no
    other one is taken in its place.
    """
    raw = credentials.read(KEY, KEY_SIZE)
    path = credentials.path(KEY)
    if raw is None or path is None:
        if given_key(state_dir):  # not removed unasked: a disk that hangs holds up that as well
            with suppress(OSError):  # what cannot be removed cannot be written to either
                (state_dir / GIVEN).unlink()
        place = _stored(config, state_dir)
        return place.load_keys(now), place
    key = checked_key(raw, path)
    _note(state_dir, key)
    for other in (config.key_file, KeyFile(state_dir)):
        with suppress(ConfigError):  # a unit with a user of its own may not look
            if is_there(other.key_path) and other.load().public != key.public:
                _log.warning("%s is not used: the node's key is a credential", other.key_path)
    return LoadedKeys(key), None


def stored_keys(config: ConfigDir, state_dir: Path) -> KeyFile:
    """Where the node's key is, for a command that changes it; made where there is none.

    ConfigError as load_node_keys, and when the key is a credential.
    """
    if given_key(state_dir):
        raise ConfigError(
            "the node's key is a credential of systemd: it is changed where systemd has it; "
            f"if it is none any more, start asyd once, or run: rm {quoted(state_dir / GIVEN)}"
        )
    return _stored(config, state_dir)


def _stored(config: ConfigDir, state_dir: Path) -> KeyFile:
    made = KeyFile(state_dir)
    if not is_there(config.key_path):
        if is_there(made.key_path):
            return made
        try:
            config.key_file.make()
        except OSError as error:
            if error.errno != errno.EROFS or not is_there(state_dir):
                raise ConfigError(
                    f"{config.path}: no key could be made: {error.strerror}"
                ) from error
            _make(made)
            return made
    elif is_there(made.key_path):
        _log.warning("%s is not used: there is %s", made.key_path, config.key_path)
    return config.key_file


def _make(file: KeyFile) -> None:
    try:
        file.make()
    except OSError as error:
        raise ConfigError(
            f"{file.key_path.parent}: no key could be made: {error.strerror}"
        ) from error


def _note(state_dir: Path, key: PrivateKey) -> None:
    """Writes down which key the credential is of."""
    path = state_dir / GIVEN
    try:
        with suppress(FileNotFoundError):
            if path.read_bytes() == key.public:
                return
        write_atomically(path, key.public, 0o644)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise ConfigError(f"{path}: {error.strerror}") from error
        _log.warning(
            "%s cannot be made, and `asyd pubkey` knows no better: %s", path, error.strerror
        )


def given_key(state_dir: Path) -> bytes:
    """The public key of the credential that asyd started with last; b'' where it has none."""
    return _read(state_dir / GIVEN)


def shown_key(config: ConfigDir, state_dir: Path, now: int) -> bytes:
    """The public key that the node shows, for a command; the key is made where there is none yet.

    ConfigError as load_node_keys.
    """
    return given_key(state_dir) or _stored(config, state_dir).load_keys(now).key.public


def known_public(config: ConfigDir, state_dir: Path) -> bytes:
    """The same where nothing may be made; b'' where there is none yet."""
    for path in (state_dir / GIVEN, config.public_path, KeyFile(state_dir).public_path):
        if key := _read(path):
            return key
    return b""


def _read(path: Path) -> bytes:
    with suppress(OSError):
        key = path.read_bytes()
        return key if len(key) == KEY_SIZE else b""
    return b""
