"""The directory of a collector: its key, its nodes, and a directory for each (docs/audit.md, 11).

id_curve25519       32 raw bytes, 0600, made at first start
id_curve25519.pub   64 hex digits and a newline, 0644
authorized_nodes    one node a line
lock                held by the collector that works here
<label>/<generation>/audit-00000001.seg, ...
"""

from __future__ import annotations

from pathlib import Path

from asys.audit.collector.nodes import (
    KEY_FILE,
    MAX_NODES_FILE,
    NODES_FILE,
    admitted,
    parse_label,
)
from asys.client.identity import Identity
from asys.node.disk.files import (
    ConfigError,
    is_there,
    locked,
    read_private,
    require_private,
    write_atomically,
)
from asys.protocol.keys import PrivateKey


class CollectorDir:
    """A directory whose permissions have been checked."""

    def __init__(self, path: Path, *, make: bool = False) -> None:
        """Makes the directory if it is not there and `make`.

        ConfigError when it is not to be had, or when others may look into it.
        """
        self.path = path
        try:
            if make and not path.is_dir():  # making it again would wait for a disk that hangs
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{path}: {error.strerror}; name another directory with --dir"
            ) from error
        require_private(path, forbidden=0o077, mend="700")
        if not path.is_dir():
            raise ConfigError(f"{path} is no directory; name the collector's")

    @property
    def nodes_path(self) -> Path:
        """Where the nodes are listed."""
        return self.path / NODES_FILE

    def load_key(self) -> PrivateKey:
        """The collector's key; made at the first start.

        IdentityError for one that is damaged or that others can read: it is never replaced.
        """
        if not is_there(self.path / KEY_FILE):
            return Identity.create(self.path).key
        return Identity.load(self.path).key

    def read_nodes(self) -> bytes:
        """The bytes of `authorized_nodes`; none when there is no file.

        ConfigError when it cannot be read or others may write to it.
        """
        if not is_there(self.nodes_path):
            return b""
        data = read_private(self.nodes_path, forbidden=0o022, mend="600", limit=MAX_NODES_FILE)
        if len(data) > MAX_NODES_FILE:
            raise ConfigError(f"{self.nodes_path} is larger than {MAX_NODES_FILE} bytes")
        return data

    def admit(self, key: bytes, label: str) -> bool:
        """Adds a node, whole or not at all; False when it is there already.

        ValueError for a label that is none, or one that contradicts another line; ConfigError.
        """
        parse_label(label)
        try:
            with locked(self.path):  # two who admit at a time
                text = self.read_nodes().decode("utf-8", "surrogateescape")
                new = admitted(text, key, label)
                if new == text:
                    return False
                data = new.encode("utf-8", "surrogateescape")
                write_atomically(self.nodes_path, data, 0o600)
        except OSError as error:
            raise ConfigError(f"{self.nodes_path}: {error.strerror}") from error
        return True
