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

from asys.node.disk.config_dir import ConfigDir, KeyFile, checked_key
from asys.node.disk.credentials import KEY, Credentials
from asys.node.disk.files import NO_ROOM, ConfigError, is_there, write_atomically
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import KEY_SIZE

GIVEN: Final = "credential.pub"
"""In the state directory while the node's key is a credential: its public key, 32 raw bytes. Nobody
outside of the unit sees the credential, and an admin asks what the node's key is.
"""

_log = logging.getLogger("asyd")


def load_node_key(config: ConfigDir, state_dir: Path, credentials: Credentials) -> PrivateKey:
    """The node's key, for asyd itself; made at the first start.

    ConfigError for a key that is damaged or that others can read: it is never replaced, and no
    other one is taken in its place.
    """
    raw = credentials.read(KEY, KEY_SIZE)
    path = credentials.path(KEY)
    if raw is None or path is None:
        with suppress(OSError):  # what cannot be removed cannot be written to either
            (state_dir / GIVEN).unlink(missing_ok=True)
        return load_stored_key(config, state_dir)
    key = checked_key(raw, path)
    _note(state_dir, key)
    for other in (config.key_file, KeyFile(state_dir)):
        with suppress(ConfigError):  # a unit with a user of its own may not look
            if is_there(other.path) and other.load().public != key.public:
                _log.warning("%s is not used: the node's key is a credential", other.path)
    return key


def load_stored_key(config: ConfigDir, state_dir: Path) -> PrivateKey:
    """The key that is on the disk; made where there is none. ConfigError as load_node_key."""
    made = KeyFile(state_dir)
    if not is_there(config.key_path):
        if is_there(made.path):
            return made.load()
        try:
            config.key_file.make()
        except OSError as error:
            if error.errno != errno.EROFS or not is_there(state_dir):
                raise ConfigError(
                    f"{config.path}: no key could be made: {error.strerror}"
                ) from error
            _make(made)
            return made.load()
    elif is_there(made.path):
        _log.warning("%s is not used: there is %s", made.path, config.key_path)
    return config.key_file.load()


def _make(file: KeyFile) -> None:
    try:
        file.make()
    except OSError as error:
        raise ConfigError(f"{file.path.parent}: no key could be made: {error.strerror}") from error


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


def shown_key(config: ConfigDir, state_dir: Path) -> bytes:
    """The public key that the node shows, for a command; the key is made where there is none yet.

    ConfigError as load_node_key.
    """
    return _read(state_dir / GIVEN) or load_stored_key(config, state_dir).public


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
