"""The node's config directory: its key and the agents that it knows (docs/protocol.md, section 8).

id_curve25519       32 raw bytes, 0600, made at first start
id_curve25519.pub   32 raw bytes, 0644
id_curve25519.next  see asys.node.disk.next_key
key_statements      text, 0644
authorized_agents   one agent a line

Where the key is when it is not here is in node_key.py.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from asys.node.agents.book import AgentBook, parse_agents
from asys.node.disk.credentials import AGENTS, Credentials
from asys.node.disk.files import (
    ConfigError,
    is_there,
    make_directory,
    read_private,
    require_private,
)
from asys.node.disk.key_file import KeyFile
from asys.node.disk.next_key import LoadedKeys
from asys.protocol.keys import PrivateKey

MAX_AGENTS_FILE: Final = 16 << 20
"""Bytes of `authorized_agents` that are read at most: some 100,000 agents."""


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
        return self.key_file.key_path

    @property
    def public_path(self) -> Path:
        """Where the node's public key is, for whoever enrols agents."""
        return self.key_file.public_path

    @property
    def next_path(self) -> Path:
        """Where the key is that takes the place of the present one, if there is one."""
        return self.key_file.next_path

    @property
    def statements_path(self) -> Path:
        """Where it stands what keys that have ended have stated."""
        return self.key_file.statements_path

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
        self._make_key()
        return self.key_file.load()

    def load_keys(self, now: int) -> LoadedKeys:
        """The same with the next key, if there is one; as KeyFile.load_keys."""
        self._make_key()
        return self.key_file.load_keys(now)

    def _make_key(self) -> None:
        if not is_there(self.key_path):
            try:
                self.key_file.make()
            except OSError as error:
                raise ConfigError(f"{self.path}: no key could be made: {error.strerror}") from error

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
