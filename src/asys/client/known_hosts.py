"""Which key belongs to which node: `known_hosts` (docs/protocol.md, section 8).

One node a line: `host:port  <64 hex digits>`, `[::1]:7816` for IPv6, `unix:/path` for a unix
socket. Blank lines and lines that begin with # are skipped. Nothing here adds a key by itself.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from pathlib import Path
from typing import Final

from asys.client.address import Address
from asys.client.identity import OTHERS_WRITE, check_mode, default_directory, make_directory
from asys.errors import ArgumentError, IdentityError
from asys.protocol.keys import is_low_order
from asys.protocol.limits import DEFAULT_PORT, KEY_SIZE

_LINE: Final = re.compile(r"\s*(?P<name>\S.*?)\s+(?P<key>[0-9A-Fa-f]{64})\s*")

READ_AGAIN: Final = 5
APPENDING_SECONDS: Final = 0.01
"""How often, and how far apart, a file is read again that ends in the middle of a line: a system
may show an append piece by piece."""


class KnownHosts:
    """The keys of the nodes that somebody has confirmed. The file is read anew at each question."""

    __slots__ = ("path",)

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """`path` is the file, by default `~/.asys/known_hosts`; it need not exist."""
        self.path: Final = default_directory() / "known_hosts" if path is None else Path(path)

    def entries(self) -> dict[str, bytes]:
        """Every node and its key, in the order of the file.

        IdentityError when the file cannot be read, others may write it, a line is not what it
        should be, or two lines give one node different keys; the message names the line.
        """
        found: dict[str, bytes] = {}
        lines_of: dict[str, int] = {}
        for number, line in enumerate(self._lines(), start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name, key = self._parse(number, line)
            if found.setdefault(name, key) != key:
                raise IdentityError(
                    f"{self.path}, lines {lines_of[name]} and {number}: two different keys for "
                    f"{name}; find out which is right with `asyd pubkey` on the node, and remove "
                    "the other line"
                )
            lines_of.setdefault(name, number)
        return found

    def lookup(self, host: str, port: int = DEFAULT_PORT) -> bytes | None:
        """The key of a node, 32 bytes, or None for an unknown one. IdentityError as `entries`."""
        return self.entries().get(str(Address.of(host, port)))

    def add(self, host: str, port: int, key: bytes) -> None:
        """Adds a node whose key somebody has confirmed. The same again changes nothing.

        ArgumentError for a key that is none; IdentityError when the file has another key for the
        node, or cannot be written.
        """
        if len(key) != KEY_SIZE or is_low_order(key):
            raise ArgumentError(f"a node's key is {KEY_SIZE} bytes of a usable X25519 key")
        name = str(Address.of(host, port))
        known = self.entries().get(name)
        if known == key:
            return
        if known is not None:
            raise IdentityError(
                f"{self.path} has another key for {name}: {known.hex()}; remove that line first "
                "if the node really has a new key"
            )
        make_directory(self.path.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        try:
            with os.fdopen(os.open(self.path, flags, 0o600), "r+b", buffering=0) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(size - 1, 0))
                gap = b"" if file.read(1) in (b"", b"\n") else b"\n"
                # One write in append mode: two agents that add at a time do not mix their lines.
                file.write(gap + f"{name}  {key.hex()}\n".encode())
                os.fsync(file.fileno())
        except OSError as error:
            raise IdentityError(f"cannot write {self.path}: {error.strerror}") from error

    def remove(self, host: str, port: int = DEFAULT_PORT) -> bool:
        """Removes every line of a node and keeps all others as they are; False: there was none.

        IdentityError when the file cannot be read or written.
        """
        name = str(Address.of(host, port))
        lines = self._lines()
        kept = [line for line in lines if _name_in(line) != name]
        if len(kept) == len(lines):
            return False
        temporary = ""
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=".known_hosts-", dir=self.path.parent)
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{line}\n" for line in kept)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except OSError as error:
            if temporary:
                Path(temporary).unlink(missing_ok=True)
            raise IdentityError(f"cannot write {self.path}: {error.strerror}") from error
        return True

    def _lines(self) -> list[str]:
        try:
            check_mode(self.path, OTHERS_WRITE, "600")
            text = self.path.read_text("utf-8")
            for _ in range(READ_AGAIN):
                last = text.rpartition("\n")[2]
                if not last.strip() or last.lstrip().startswith("#") or _LINE.fullmatch(last):
                    break
                time.sleep(APPENDING_SECONDS)  # somebody may be in the middle of a line
                text = self.path.read_text("utf-8")
            return text.removesuffix("\n").split("\n")
        except FileNotFoundError:
            return []
        except UnicodeDecodeError:
            raise IdentityError(f"{self.path} is not a text file in UTF-8") from None
        except OSError as error:
            raise IdentityError(f"cannot read {self.path}: {error.strerror}") from error

    def _parse(self, number: int, line: str) -> tuple[str, bytes]:
        match = _LINE.fullmatch(line)
        try:
            if match is None:
                raise ArgumentError("it must be host:port, spaces, and 64 hex digits")
            return str(Address.parse(match["name"])), bytes.fromhex(match["key"])
        except ArgumentError as error:
            raise IdentityError(
                f"{self.path}, line {number}: {error}; correct or remove this line"
            ) from None

    def __repr__(self) -> str:
        return f"<KnownHosts {self.path}>"


def _name_in(line: str) -> str:
    """The node that a line is about; empty for any line that is about none."""
    match = _LINE.fullmatch(line)
    if match is None or line.lstrip().startswith("#"):
        return ""
    try:
        return str(Address.parse(match["name"]))
    except ArgumentError:
        return ""
