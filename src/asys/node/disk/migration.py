"""From the config directory of asyd 0.3.1 into one of ours; the old one is only read.

Both have the same files (docs/protocol.md, section 8.1), so what 0.3.1 has is copied beside it.
Nothing that is there is written over. `authorized_agents` comes last: until it is there, nobody
gets in, and the same command can be given again.
"""

from __future__ import annotations

import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asys.node.disk.config_dir import MAX_AGENTS_FILE, ConfigDir
from asys.node.disk.files import ConfigError, is_there, locked, quoted, write_atomically
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import KEY_SIZE

_KEY: Final = "id_curve25519"
_AGENTS: Final = "authorized_agents"


class OldDir:
    """A config directory of asyd 0.3.1, which nothing here writes to."""

    def __init__(self, path: Path) -> None:
        """ConfigError when there is none, or when anybody may put files into it."""
        self.path = path
        if not path.is_dir():
            raise ConfigError(f"{path} is no directory; name that of asyd 0.3.1 with --from")
        self._check(path, forbidden=0o022, mend="700")

    @property
    def agents_path(self) -> Path:
        """Where its agents are listed."""
        return self.path / _AGENTS

    def read_key(self) -> PrivateKey:
        """The node's key. ConfigError when it is not there, is damaged, or others could read it."""
        path = self.path / _KEY
        data = self._read(path, forbidden=0o077, limit=KEY_SIZE)
        if data is None:
            raise ConfigError(
                f"{path} is not there: no asyd has run with this directory; name the right one "
                "with --from, or let the new node have a key of its own with --new-key"
            )
        if len(data) != KEY_SIZE or not any(data):
            raise ConfigError(
                f"{path} is damaged: a key has {KEY_SIZE} bytes that are not all zero; restore it "
                "from a backup, or let the new node have a key of its own with --new-key"
            )
        return PrivateKey(data)

    def read_agents(self) -> str:
        """The text of `authorized_agents`; '' where there is none.

        What is no UTF-8 comes as surrogates. ConfigError when it cannot be read, or others could
        have written it.
        """
        data = self._read(self.agents_path, forbidden=0o022, limit=MAX_AGENTS_FILE)
        if data is not None and len(data) > MAX_AGENTS_FILE:
            raise ConfigError(f"{self.agents_path} is larger than {MAX_AGENTS_FILE} bytes")
        return (data or b"").decode("utf-8", "surrogateescape")

    def _read(self, path: Path, *, forbidden: int, limit: int) -> bytes | None:
        if not is_there(path):
            return None
        self._check(path, forbidden=forbidden, mend="600")
        try:
            with path.open("rb") as file:
                return file.read(limit + 1)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error

    def _check(self, path: Path, *, forbidden: int, mend: str) -> None:
        """Whose it is does not matter, as asyd 0.3.1 may have a user of its own."""
        try:
            info = path.stat()
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error
        if not stat.S_ISDIR(info.st_mode) and not stat.S_ISREG(info.st_mode):
            raise ConfigError(f"{path} is no regular file")  # reading a pipe would wait for ever
        if stat.S_IMODE(info.st_mode) & forbidden:
            raise ConfigError(
                f"{path} has the permissions {stat.S_IMODE(info.st_mode):04o}, which let others "
                f"in; if nobody has used that, run: chmod {mend} {quoted(path)}"
            )


@dataclass(frozen=True, slots=True)
class Placed:
    """The key that the new node has; None: one that is yet to be made. `copied`: it is the old."""

    public: bytes | None
    copied: bool


def check_places(old: Path, new: Path) -> None:
    """ConfigError when the new directory is the old one, or lies in it."""
    was, will = old.resolve(), new.resolve()
    if was == will or was in will.parents:
        raise ConfigError(
            f"{new} is {'' if was == will else 'in '}the directory of asyd 0.3.1, which stays as "
            f"it is; name another one with --config-dir, such as {old.parent / (old.name + '-new')}"
        )


def place(
    old: OldDir, new: Path, agents: str, *, new_key: bool = False, dry_run: bool = False
) -> Placed:
    """Writes the key of `old` and the text of `authorized_agents` into a config directory.

    With `new_key` the node keeps the key that it has there, or gets one. With `dry_run` nothing is
    written. What is there and the same is left; ConfigError, and nothing is written, when something
    else is there. When the disk fails on the way, what this call has written is taken away.
    """
    check_places(old.path, new)
    data = agents.encode("utf-8", "surrogateescape")
    if len(data) > MAX_AGENTS_FILE:
        raise ConfigError(f"{new / _AGENTS} would be larger than {MAX_AGENTS_FILE} bytes")
    key = None if new_key else old.read_key()
    if dry_run and not is_there(new):
        return Placed(key.public if key is not None else None, copied=key is not None)
    made = not is_there(new)
    config = ConfigDir(new, make=not dry_run)
    written: list[Path] = []
    try:
        with locked(new):
            missing = _missing(config, key, data)
            if not dry_run:
                for path, content, mode in missing:
                    written.append(path)
                    write_atomically(path, content, mode)
    except (OSError, ConfigError) as error:
        with suppress(OSError):
            for path in written:
                path.unlink(missing_ok=True)
            if made:
                new.rmdir()
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{new}: {error.strerror}; nothing is migrated") from error
    if key is None and (not dry_run or is_there(config.key_path)):
        key = config.load_key()
    return Placed(key.public if key is not None else None, copied=not new_key)


def _missing(
    config: ConfigDir, key: PrivateKey | None, agents: bytes
) -> list[tuple[Path, bytes, int]]:
    """What is to be written, in order. ConfigError when something else is there."""
    wanted = [(config.agents_path, agents, 0o600)]
    if key is not None:
        wanted = [
            (config.key_path, key.raw(), 0o600),
            (config.public_path, key.public, 0o644),
            *wanted,
        ]
    missing = []
    for path, content, mode in wanted:
        if not is_there(path):
            missing.append((path, content, mode))
            continue
        with path.open("rb") as file:
            there = file.read(len(content) + 1)
        if there != content:
            instead = (
                "" if path == config.agents_path else ", or let the node keep its key: --new-key"
            )
            raise ConfigError(
                f"{path} is there and says something else; it is never written over: name an empty "
                f"directory with --config-dir, or move it away{instead}"
            )
    return missing
