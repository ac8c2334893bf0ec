"""The node's config directory: its key and the agents that it knows (docs/protocol.md, section 8).

id_curve25519       32 raw bytes, 0600, made at first start
id_curve25519.pub   32 raw bytes, 0644
authorized_agents   one agent a line

Where the key is when it is not here is in node_key.py.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

from asys.node.agents.book import AgentBook, parse_agents
from asys.node.disk.credentials import AGENTS, Credentials
from asys.node.disk.files import (
    NO_ROOM,
    ConfigError,
    is_there,
    locked,
    make_directory,
    quoted,
    read_private,
    require_private,
    write_atomically,
)
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import KEY_SIZE

MAX_AGENTS_FILE: Final = 16 << 20
"""Bytes of `authorized_agents` that are read at most: some 100,000 agents."""


_log = logging.getLogger("asyd")


def default_config_dir() -> Path:
    """/etc/asyd as root, else asyd in the user's config home. ConfigError when there is none."""
    if os.geteuid() == 0:
        return Path("/etc/asyd")
    home = os.environ.get("XDG_CONFIG_HOME")
    try:
        return (Path(home) if home else Path.home() / ".config") / "asyd"
    except RuntimeError as error:
        raise ConfigError(
            f"uid {os.geteuid()} has no home directory; name a directory with --config-dir"
        ) from error


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
        self.path: Final = directory / "id_curve25519"
        self.public_path: Final = directory / "id_curve25519.pub"

    def load(self) -> PrivateKey:
        """The key that is there. ConfigError for one that is damaged or that others can read."""
        raw = read_private(self.path, forbidden=0o077, mend="600", limit=KEY_SIZE)
        key = checked_key(raw, self.path)
        self._check_public(key)
        return key

    def make(self) -> None:
        """Makes a key, unless another process has just made one. OSError."""
        with locked(self._directory):
            if not is_there(self.path):
                write_atomically(self.path, PrivateKey.generate().raw(), 0o600)

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
                f"{self.public_path} is not the public key of {self.path}; if the private "
                f"key is the right one, run: rm {quoted(self.public_path)}"
            )


class ConfigDir:
    """A config directory whose permissions have been checked."""

    def __init__(
        self, path: Path, *, make: bool = True, credentials: Credentials | None = None
    ) -> None:
        """Makes the directory if it is not there and `make`. ConfigError when it is not to be had,
        or when others may look into it. `credentials` may have agents in place of the file.
        """
        self.path = path
        self.key_file: Final = KeyFile(path)
        self._credentials = credentials or Credentials()
        try:
            if make:
                make_directory(path)
            elif not path.is_dir():
                raise ConfigError(f"{path} is no directory; name the node's with --config-dir")
        except OSError as error:
            raise ConfigError(
                f"{path}: {error.strerror}; name another directory with --config-dir"
            ) from error
        require_private(path, forbidden=0o077, mend="700")

    @property
    def key_path(self) -> Path:
        """Where the node's private key is."""
        return self.key_file.path

    @property
    def public_path(self) -> Path:
        """Where the node's public key is, for whoever enrols agents."""
        return self.key_file.public_path

    @property
    def agents_path(self) -> Path:
        """Where the agents are listed."""
        return self.path / "authorized_agents"

    @property
    def agents_from(self) -> Path:
        """Where they are read: the credential, where there is one, goes before the file."""
        return self._credentials.path(AGENTS) or self.agents_path

    def load_key(self) -> PrivateKey:
        """The key in this directory; made at the first start.

        ConfigError for a key file that is damaged or that others can read: it is never replaced.
        """
        if not is_there(self.key_path):
            try:
                self.key_file.make()
            except OSError as error:
                raise ConfigError(f"{self.path}: no key could be made: {error.strerror}") from error
        return self.key_file.load()

    def read_agents(self) -> bytes:
        """The bytes of `authorized_agents`; none when there is no file.

        ConfigError when it cannot be read or others may write to it.
        """
        data = self._credentials.read(AGENTS, MAX_AGENTS_FILE)
        if data is None:
            if not is_there(self.agents_path):
                return b""
            data = read_private(
                self.agents_path, forbidden=0o022, mend="600", limit=MAX_AGENTS_FILE
            )
        if len(data) > MAX_AGENTS_FILE:
            raise ConfigError(f"{self.agents_from} is larger than {MAX_AGENTS_FILE} bytes")
        return data

    def load_agents(self) -> AgentBook:
        """The agents of the file. ConfigError as read_agents."""
        return parse_agents(self.read_agents().decode("utf-8", "replace"))
