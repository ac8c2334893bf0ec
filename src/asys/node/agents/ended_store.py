"""`ended.json`: the lines of `authorized_agents` that have ended, over restarts of the node.

    {"version": 1, "ended": [
    {"key": 64 hex digits, "expires": Unix seconds},
    ...
    ]}

A clock that is set back must not let them in again, also not an asyd that is started after that.
Added agents that have ended are not here: they are taken out of `delegated_agents.json`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from asys.node.agents.directory import LAST_SECOND
from asys.node.agents.ended import Mark
from asys.node.disk import state
from asys.node.disk.files import ConfigError, is_there, quoted, read_private

VERSION: Final = 1

MAX_SIZE: Final = 16 << 20
"""Bytes of the file at most: some 100,000 lines."""

_HEX: Final = re.compile(r"[0-9a-f]{64}")


class EndedStore:
    """The file in the node's state directory."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "ended.json"

    def load(self) -> frozenset[Mark]:
        """What was saved last; nothing when there is no file.

        ConfigError when it cannot be read, is not private or not as `save` writes it.
        """
        if not is_there(self.path):
            return frozenset()
        data = read_private(self.path, forbidden=0o022, mend="600", limit=MAX_SIZE)
        try:
            return _decode(data)
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ConfigError(
                f"{self.path} is damaged; to go on without it, run: "
                f"mv {quoted(self.path)} {quoted(self.path.with_suffix('.damaged'))}"
            ) from None

    async def save(self, marks: frozenset[Mark]) -> None:
        """Writes them, on the disk when this returns. OSError and TimeoutError as state.replace."""
        lines = ",\n".join(
            json.dumps({"key": key.hex(), "expires": expires}) for key, expires in sorted(marks)
        )
        data = f'{{"version": {VERSION}, "ended": [\n{lines}\n]}}\n'.encode("ascii")
        await state.replace(self.path, data, 0o600)


def _decode(data: bytes) -> frozenset[Mark]:
    """ValueError, TypeError, KeyError, RecursionError: it is none of ours."""
    if len(data) > MAX_SIZE:
        raise ValueError("too large")
    whole = json.loads(data.decode("ascii"))
    if whole["version"] != VERSION or not isinstance(whole["ended"], list):
        raise ValueError("not of this version")
    return frozenset(_mark(one) for one in whole["ended"])


def _mark(written: Any) -> Mark:
    key, expires = written["key"], written["expires"]
    if not _HEX.fullmatch(key) or type(expires) is not int or not 0 < expires <= LAST_SECOND:
        raise ValueError("no mark")
    return bytes.fromhex(key), expires
