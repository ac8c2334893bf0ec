"""`isolations.json`: who has cut which process off the network, over restarts of asyd.

    {"version": 1, "boot": "...", "isolations": [
    {"pid": 4711, "start": 90210, "name": "java", "key": 64 hex digits, "label": "web",
     "since": Unix seconds, "ttl_s": seconds or 0, "keep_loopback": false,
     "made": seconds of the monotonic clock},
    ...
    ]}

The isolations themselves are in the kernel, and count whatever stands here. PID and start name one
process within one boot: a file of another boot is void.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from asys.node.disk import state
from asys.node.disk.files import ConfigError, is_there, quoted, read_private

VERSION: Final = 1

MAX_SIZE: Final = 1 << 20
"""Bytes of the file at most."""

_KEY: Final = re.compile(r"([0-9a-f]{64})?")
_KINDS: Final = {
    "pid": int,
    "start": int,
    "name": str,
    "key": str,
    "label": str,
    "since": int,
    "ttl_s": int,
    "keep_loopback": bool,
    "made": int,
}


class Entry(NamedTuple):
    """A process that is cut off the network."""

    pid: int
    start: int
    """When it was started, as in ProcessHandle.start."""
    name: str
    """What it was called then."""
    key: str
    """The agent that had it isolated, as hex digits; '': it is not known who."""
    label: str
    since: int
    """Unix time in seconds at which it was isolated last."""
    ttl_s: int
    """Seconds from then until it is released; 0: never."""
    keep_loopback: bool
    made: int = 0
    """Seconds of the monotonic clock, which starts with the machine, at that time; 0: not known."""

    @property
    def until(self) -> int:
        """Unix time in seconds at which it is released; 0: never."""
        return self.since + self.ttl_s if self.ttl_s else 0


class IsolationsStore:
    """The file in the node's state directory. `boot` names the time since the machine started."""

    def __init__(self, directory: Path, boot: str) -> None:
        self.path = directory / "isolations.json"
        self.boot = boot

    def load(self) -> tuple[Entry, ...]:
        """What was saved last in this boot; nothing where there is no such file.

        ConfigError when it cannot be read, is not private or not as `save` writes it.
        """
        if not is_there(self.path):
            return ()
        data = read_private(self.path, forbidden=0o022, mend="600", limit=MAX_SIZE)
        try:
            boot, entries = _decode(data)
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ConfigError(
                f"{self.path} is damaged; to go on without it, run: "
                f"mv {quoted(self.path)} {quoted(self.path.with_suffix('.damaged'))}"
            ) from None
        return entries if boot == self.boot else ()

    async def save(self, entries: Iterable[Entry]) -> None:
        """Writes them, on the disk when this returns. OSError and TimeoutError as state.replace."""
        lines = ",\n".join(json.dumps(one._asdict()) for one in entries)
        head = f'{{"version": {VERSION}, "boot": {json.dumps(self.boot)}, "isolations": ['
        await state.replace(self.path, f"{head}\n{lines}\n]}}\n".encode("ascii"), 0o600)


def _decode(data: bytes) -> tuple[str, tuple[Entry, ...]]:
    """Boot and entries. ValueError, TypeError, KeyError, RecursionError: it is none of ours."""
    if len(data) > MAX_SIZE:
        raise ValueError("too large")
    whole = json.loads(data.decode("ascii"))
    if whole["version"] != VERSION or not isinstance(whole["boot"], str):
        raise ValueError("not of this version")
    return whole["boot"], tuple(_entry(one) for one in whole["isolations"])


def _entry(written: object) -> Entry:
    if not isinstance(written, dict):
        raise ValueError("not an entry")
    for name, value in written.items():
        if type(value) is not _KINDS[name] or (isinstance(value, int) and value < 0):
            raise ValueError(name)
    entry = Entry(**written)
    if not _KEY.fullmatch(entry.key):
        raise ValueError("key")
    return entry
