"""Which key belongs to which node: `known_hosts` (docs/protocol.md, section 8).

One node a line: `host:port  <64 hex digits>`, `[::1]:7816` for IPv6, `unix:/path` for a unix
socket. Blank lines and lines that begin with # are skipped. Nothing here adds a key by itself, but
that a key on record may state the one that takes its place (section 8.4); the key that was stays in
a comment: `#superseded  host:port  <64 hex digits>`.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from asys.client.address import Address
from asys.client.identity import OTHERS_WRITE, check_mode, default_directory, make_directory
from asys.errors import ArgumentError, IdentityError
from asys.protocol.keys import is_low_order
from asys.protocol.limits import DEFAULT_PORT, KEY_SIZE
from asys.protocol.statement import KeyStatement, follow

_LINE: Final = re.compile(r"\s*(?P<name>\S.*?)\s+(?P<key>[0-9A-Fa-f]{64})\s*")

_SUPERSEDED: Final = re.compile(r"\s*#superseded\s+(?P<name>\S.*?)\s+(?P<key>[0-9A-Fa-f]{64})\s*")

REWRITES: Final = 20
"""How often a file is written anew, where others write it at the same time."""

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
        return self._parsed(self._lines())

    def _parsed(self, lines: list[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        lines_of: dict[str, int] = {}
        for number, line in enumerate(lines, start=1):
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

    def superseded(self, host: str, port: int = DEFAULT_PORT) -> frozenset[bytes]:
        """Keys that a node had on record here, until each stated the next. IdentityError."""
        return self.all_superseded().get(str(Address.of(host, port)), frozenset())

    def all_superseded(self) -> dict[str, frozenset[bytes]]:
        """The same for every node that has had another key. IdentityError."""
        found: dict[str, frozenset[bytes]] = {}
        for name, key in map(_superseded_in, self._lines()):
            if name:
                found[name] = found.get(name, frozenset()) | {key}
        return found

    def carry(self, host: str, port: int, statements: Iterable[KeyStatement]) -> bytes:
        """Goes from the key of a node to the one that it states, and on as far as the statements
        lead; gives the key that the node has on record then. All other lines stay as they are.

        BadStatement: one of the way is bad, and nothing has changed. IdentityError when there is no
        key on record, or the file cannot be read or written.
        """
        name = str(Address.of(host, port))
        stated = tuple(statements)
        reached = b""

        def carried(lines: list[str]) -> list[str] | None:
            nonlocal reached
            known = self._parsed(lines).get(name)
            if known is None:
                raise IdentityError(f"{self.path} has no key for {name} that could state another")
            before = {key for whose, key in map(_superseded_in, lines) if whose == name}
            way = follow(known, stated, before)
            reached = way[-1].new_key if way else known
            if not way:
                return None
            at = next(number for number, line in enumerate(lines) if _name_in(line) == name)
            others = [line for line in lines[at:] if _name_in(line) != name]
            theirs = [f"#superseded  {name}  {one.old_key.hex()}" for one in way]
            return [*lines[:at], *theirs, f"{name}  {reached.hex()}", *others]

        self._rewrite(carried)
        return reached

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

        def without(lines: list[str]) -> list[str] | None:
            if all(_name_in(line) != name for line in lines):
                return None
            return [line for line in lines if name not in (_name_in(line), _superseded_in(line)[0])]

        return self._rewrite(without)

    def _rewrite(self, change: Callable[[list[str]], list[str] | None]) -> bool:
        """Puts what `change` makes of the lines in their place, whole; False: it made nothing.

        Where somebody else has written meanwhile, it begins anew. IdentityError.
        """
        for _ in range(REWRITES):
            state = self._state()
            lines = change(self._lines())
            if lines is None:
                return False
            if self._replace(lines, state):
                return True
        raise IdentityError(f"cannot write {self.path}: others write it all the time; try again")

    def _state(self) -> tuple[int, int, int] | None:
        """What tells one writing of the file from another; None: there is none."""
        try:
            found = self.path.stat()
        except OSError:
            return None  # reading says what is wrong
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _replace(self, lines: list[str], state: tuple[int, int, int] | None) -> bool:
        """Puts these lines in the place of the file, where that is as it was. IdentityError."""
        temporary = ""
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=".known_hosts-", dir=self.path.parent)
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{line}\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())
            if self._state() != state:
                os.unlink(temporary)
                return False
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


def _superseded_in(line: str) -> tuple[str, bytes]:
    """The node and the key that a line says was superseded; an empty name for any other line."""
    match = _SUPERSEDED.fullmatch(line)
    if match is None:
        return "", b""
    try:
        return str(Address.parse(match["name"])), bytes.fromhex(match["key"])
    except ArgumentError:
        return "", b""
