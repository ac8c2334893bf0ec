"""The agent's own key on disk (docs/protocol.md, section 8).

~/.asys                     0700
~/.asys/id_curve25519       0600  32 raw bytes, the private key
~/.asys/id_curve25519.pub   0644  64 hex digits and a newline, the public key
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from asys.errors import IdentityError
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import KEY_SIZE

KEY_FILE: Final = "id_curve25519"
PUBLIC_FILE: Final = "id_curve25519.pub"

OTHERS: Final = 0o077
"""Mode bits that a private key must not have."""

OTHERS_WRITE: Final = 0o022
"""Mode bits that nothing must have on which trust rests."""


def default_directory() -> Path:
    """`~/.asys`. IdentityError when this user has no home directory."""
    try:
        return Path.home() / ".asys"
    except RuntimeError as error:
        raise IdentityError(f"{error}; name a directory for the agent's key") from None


def check_mode(path: Path, forbidden: int, remedy: str) -> None:
    """IdentityError when `path` has one of the mode bits in `forbidden`; POSIX only.

    `remedy` is the mode for chmod that mends it. OSError when there is no `path`.
    """
    if os.name != "posix":
        return  # elsewhere the mode says nothing; the user's profile directory is private
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & forbidden:
        raise IdentityError(
            f"{path} has mode {mode:04o}, so others could use or replace it; "
            f"mend it with: chmod {remedy} {path}"
        )


def make_directory(path: Path) -> None:
    """Makes `path`, 0700, where it does not exist. IdentityError when it cannot be made or used."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_mode(path, OTHERS_WRITE, "700")
    except OSError as error:
        raise IdentityError(f"cannot make the directory {path}: {error.strerror}") from error


class Identity:
    """Who an agent is: its key. It shows the public half only."""

    __slots__ = ("key",)

    def __init__(self, key: PrivateKey) -> None:
        self.key: Final = key

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes: what a node's admin adds to `authorized_agents`."""
        return self.key.public

    @classmethod
    def generate(cls) -> Identity:
        """A new identity that is nowhere on disk."""
        return cls(PrivateKey.generate())

    @classmethod
    def load(cls, directory: str | os.PathLike[str] | None = None) -> Identity:
        """The identity in `directory`, by default `~/.asys`.

        IdentityError when it is missing, damaged, or open to others; the message mends it.
        """
        where = default_directory() if directory is None else Path(directory)
        path = where / KEY_FILE
        try:
            check_mode(where, OTHERS_WRITE, "700")
            check_mode(path, OTHERS, "600")
            raw = path.read_bytes()
        except FileNotFoundError:
            raise IdentityError(
                f"there is no key {path}; make one with: {_keygen(directory)}"
            ) from None
        except OSError as error:
            raise IdentityError(f"cannot read {path}: {error.strerror}") from error
        if len(raw) != KEY_SIZE:
            raise IdentityError(
                f"{path} has {len(raw)} bytes, not {KEY_SIZE}: it is damaged. Restore it from a "
                f"backup, or remove it and make a new key with: {_keygen(directory)}"
            )
        return cls(PrivateKey(raw))

    @classmethod
    def create(cls, directory: str | os.PathLike[str] | None = None) -> Identity:
        """Makes a new identity in `directory`, by default `~/.asys`, and returns it.

        IdentityError when there is one already (it is left alone) or it cannot be written.
        """
        where = default_directory() if directory is None else Path(directory)
        make_directory(where)
        identity = cls.generate()
        files = (
            (where / KEY_FILE, identity.key.raw(), 0o600),
            (where / PUBLIC_FILE, identity.public.hex().encode() + b"\n", 0o644),
        )
        for path, _, _ in files:
            if path.exists():
                raise _taken(path)
        for path, content, mode in files:
            try:
                _write_new(path, content, mode)
            except FileExistsError:
                raise _taken(path) from None
            except OSError as error:
                raise IdentityError(f"cannot write {path}: {error.strerror}") from error
        return identity

    def __repr__(self) -> str:
        return f"<Identity {self.public.hex()}>"


def _keygen(directory: str | os.PathLike[str] | None) -> str:
    return "asys keygen" if directory is None else f"asys keygen --identity {os.fspath(directory)}"


def _taken(path: Path) -> IdentityError:
    return IdentityError(
        f"{path} exists and is not overwritten; move it away first if you really want a new key"
    )


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Writes a file that did not exist, and leaves none behind when that fails. OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise
