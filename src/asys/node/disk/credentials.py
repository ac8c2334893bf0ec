"""What systemd hands to asyd as credentials: LoadCredential= and SetCredential= of its unit, and
the encrypted forms of both (docs/protocol.md, section 8.1).

They are files in a directory that systemd makes at each start of the unit, for its user alone, in
memory where it can, and names in the environment.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

from asys.node.disk.files import is_there, read_private, require_private

VARIABLE: Final = "CREDENTIALS_DIRECTORY"

KEY: Final = "asyd.id_curve25519"
AGENTS: Final = "asyd.authorized_agents"
"""Names of credentials; with a prefix, as all units of a machine may look in one store for them."""


class Credentials:
    """Those in a directory; none without one."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory: Final = directory

    def path(self, name: str) -> Path | None:
        """Where a credential is; None: there is none of that name. ConfigError."""
        if self.directory is None or not is_there(self.directory / name):
            return None
        return self.directory / name

    def read(self, name: str, limit: int) -> bytes | None:
        """What it says, cut behind `limit` + 1 bytes; None: there is none of that name.

        ConfigError when others could read or change it. For a unit that does not run as root
        systemd may give it to that user by an access list; then what stands for the group in its
        mode is the list's mask, and nobody is in the group.
        """
        path = self.path(name)
        if path is None:
            return None
        require_private(path.parent, forbidden=0o027, mend="500")
        return read_private(path, forbidden=0o037, mend="400", limit=limit)


def take_credentials(environ: MutableMapping[str, str]) -> Credentials:
    """Those that the environment names. It is taken out: no child of asyd has use for them."""
    named = environ.pop(VARIABLE, "")
    return Credentials(Path(os.path.abspath(named)) if named else None)
