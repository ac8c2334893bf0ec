"""A private key of the node in a directory, and what belongs to it (docs/protocol.md, 8.1 and 8.4).

id_curve25519       32 raw bytes, 0600
id_curve25519.pub   32 raw bytes, 0644
id_curve25519.next  see asys.node.disk.next_key
key_statements      text, 0644
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from asys.node.disk.files import (
    NO_ROOM,
    ConfigError,
    is_there,
    locked,
    quoted,
    read_private,
    write_atomically,
)
from asys.node.disk.next_key import LoadedKeys, settle
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import KEY_SIZE
from asys.protocol.statement import KeyStatement

_log = logging.getLogger("asyd")


def checked_key(raw: bytes, path: Path) -> PrivateKey:
    """The key that was read from `path`. ConfigError: it is damaged."""
    if len(raw) != KEY_SIZE or not any(raw):
        fault = (
            "has nothing but zeros"
            if len(raw) == KEY_SIZE
            else f"has {path.stat().st_size} bytes, not {KEY_SIZE}"
        )
        raise ConfigError(
            f"{path} {fault}: it is damaged. Restore it from a backup, or move it "
            "away to get a new key (every agent must then trust it anew)"
        )
    return PrivateKey(raw)


class KeyFile:
    """A private key in a directory, and a copy of the public one beside it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.key_path: Final = directory / "id_curve25519"
        self.public_path: Final = directory / "id_curve25519.pub"
        self.next_path: Final = directory / "id_curve25519.next"
        self.statements_path: Final = directory / "key_statements"

    def load(self) -> PrivateKey:
        """The key that is there. ConfigError for one that is damaged or that others can read."""
        raw = read_private(self.key_path, forbidden=0o077, mend="600", limit=KEY_SIZE)
        key = checked_key(raw, self.key_path)
        self._check_public(key)
        return key

    def load_keys(self, now: int) -> LoadedKeys:
        """The key that is there and the next one, if there is one; one that is due at `now`, in
        Unix seconds, or was interrupted in it, takes over first.

        ConfigError as `load`, and for a next key that does not belong to this one.
        """
        next_key = settle(self, now)
        key = self.load()
        if next_key is None or isinstance(next_key, KeyStatement):
            return LoadedKeys(key, ended=next_key)
        if next_key.statement.old_key != key.public:
            raise ConfigError(
                f"{self.next_path} is about another key than {self.key_path}; restore both from "
                f"one backup, or do without the next key: rm {quoted(self.next_path)}"
            )
        return LoadedKeys(key, next_key)

    def make(self) -> None:
        """Makes a key, unless another process has just made one. OSError."""
        with locked(self._directory):
            if not is_there(self.key_path):
                write_atomically(self.key_path, PrivateKey.generate().raw(), 0o600)

    def _check_public(self, key: PrivateKey) -> None:
        """The public file is only a copy for people and tools; it must not tell another key."""
        try:
            try:
                shown = self.public_path.read_bytes()
            except FileNotFoundError:
                write_atomically(self.public_path, key.public, 0o644)
                return
        except OSError as error:
            if error.errno in NO_ROOM:  # nothing but the copy is missing
                _log.warning("%s cannot be made: %s", self.public_path, error.strerror)
                return
            raise ConfigError(f"{self.public_path}: {error.strerror}") from error
        if shown != key.public:
            raise ConfigError(
                f"{self.public_path} is not the public key of {self.key_path}; if the private "
                f"key is the right one, run: rm {quoted(self.public_path)}"
            )
