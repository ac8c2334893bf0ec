"""`key_moved.json`: which agents know the node's next key, over restarts of the node.

    {"version": 1, "new_key": 64 hex digits, "moved": [64 hex digits, ...], "told": [...]}

It is for an admin's eyes: nothing is allowed or refused for what stands here.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Final

from asys.node.disk import state
from asys.node.disk.files import ConfigError, is_there, read_private

VERSION: Final = 1

MAX_SIZE: Final = 32 << 20
"""Bytes of the file at most: some 200,000 agents, each twice."""

_log = logging.getLogger("asyd.keys")


class MovedStore:
    """The file in the node's state directory."""

    def __init__(self, directory: Path) -> None:
        self.path: Final = directory / "key_moved.json"

    def load(self, new_key: bytes) -> tuple[set[bytes], set[bytes]]:
        """Who has used the next key, and who has been told; nobody where the file is about another
        key, is missing or damaged.
        """
        try:
            if not is_there(self.path):
                return set(), set()
            data = read_private(self.path, forbidden=0o022, mend="600", limit=MAX_SIZE)
            whole = json.loads(data)
            if whole["version"] != VERSION or whole["new_key"] != new_key.hex():
                return set(), set()
            return _keys(whole["moved"]), _keys(whole["told"])
        except (ConfigError, ValueError, TypeError, KeyError, RecursionError) as error:
            _log.warning("it is not known which agents have moved to the next key: %s", error)
            return set(), set()

    async def save(self, new_key: bytes, moved: set[bytes], told: set[bytes]) -> None:
        """Writes them, on the disk when this returns. OSError and TimeoutError as state.replace."""
        whole = {
            "version": VERSION,
            "new_key": new_key.hex(),
            "moved": sorted(key.hex() for key in moved),
            "told": sorted(key.hex() for key in told),
        }
        await state.replace(self.path, json.dumps(whole).encode("ascii") + b"\n")


def _keys(written: list[str]) -> set[bytes]:
    """ValueError, TypeError: these are no keys."""
    keys = {bytes.fromhex(one) for one in written}
    if any(len(key) != 32 for key in keys):
        raise ValueError("a key has 64 hex digits")
    return keys
