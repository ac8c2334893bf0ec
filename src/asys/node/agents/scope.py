"""What an agent may touch with the instructions that it holds (docs/protocol.md, section 8).

Written as `services=`, `users=` and `vendors=`. What stands outside an agent's scope is answered
with 6982.
"""

from __future__ import annotations

import pwd
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, TypeAlias

from asys.node.agents.words import BadOption, cut, elements

MAX_UID: Final = 0xFFFFFFFE
"""The largest uid; the one above it means nobody at all to the kernel."""

# What the Id of a unit, or of a program of another service manager, is made of; `\` is left to `?`.
_GLOB: Final = re.compile(r"[A-Za-z0-9_.:@*?-]{1,64}")
_UID: Final = re.compile(r"0|[1-9][0-9]{0,9}")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,62}\$?")
_VENDOR: Final = re.compile(r"0[xX][0-9A-Fa-f]{1,8}")
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN: Final = re.compile(rf"(?=.{{1,254}}$){_LABEL}(?:\.{_LABEL})+\.?")


UidOf: TypeAlias = Callable[[str], int | None]
"""Finds the uid of a user name; None where there is no such user."""


def uid_here(name: str) -> int | None:
    """The uid of a user of this machine; None when there is none of that name."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


@dataclass(frozen=True, slots=True)
class Scope:
    """Services by glob, owners of processes by uid, vendors by id. None is every one."""

    services: tuple[str, ...] | None = None
    users: frozenset[int] | None = None
    vendors: frozenset[int] = frozenset()

    def allows_service(self, name: str) -> bool:
        """Whether a glob matches the whole name, which has no `.service`; case matters."""
        return self.services is None or any(
            # Brackets mean something to fnmatch; here only * and ? do.
            fnmatchcase(name, glob.replace("[", "[[]"))
            for glob in self.services
        )

    def allows_user(self, uid: int) -> bool:
        """Whether the processes of the user may be touched."""
        return self.users is None or uid in self.users

    def allows_vendor(self, vendor_id: int) -> bool:
        """Whether the vendor's instructions may be used; without `vendors=` nobody's may."""
        return vendor_id in self.vendors

    def describe(self) -> str:
        """The options that mean this scope, separated by blanks; '' where none is needed."""
        words = []
        if self.services is not None:
            words.append("services=" + ",".join(self.services))
        if self.users is not None:
            words.append("users=" + ",".join(map(str, sorted(self.users))))
        if self.vendors:
            words.append("vendors=" + ",".join(f"0x{one:X}" for one in sorted(self.vendors)))
        return " ".join(words)


def parse_services(written: str) -> tuple[str, ...]:
    """Globs of 1 to 64 characters: `*` is any text, `?` any character. BadOption."""
    globs = elements(written)
    for glob in globs:
        if not _GLOB.fullmatch(glob):
            raise BadOption(
                f"{cut(glob)} is not 1 to 64 of A-Z a-z 0-9 _ . : @ - and the wildcards * ?"
            )
        if glob.endswith(".service"):
            raise BadOption(f"{cut(glob)} must be written without its .service")
    return tuple(globs)


def parse_users(written: str, uid_of: UidOf) -> frozenset[int]:
    """Uids of user names and decimal uids; what is all digits is a uid. BadOption."""
    return frozenset(_parse_user(word, uid_of) for word in elements(written))


def _parse_user(word: str, uid_of: UidOf) -> int:
    if _UID.fullmatch(word) and int(word) <= MAX_UID:
        return int(word)
    if word.isdigit() or not _USER.fullmatch(word):
        raise BadOption(f"{cut(word)} is no user name, and no uid from 0 to {MAX_UID}")
    uid = uid_of(word)
    if uid is None:
        raise BadOption(
            f"this machine has no user {cut(word)}; make the user first, or write a uid"
        )
    return uid


def parse_vendors(written: str) -> frozenset[int]:
    """Vendor ids: hex digits behind 0x, or a domain name, which has a dot. BadOption.

    The id of a domain is CRC-32(its name in lower case, no final dot) OR 00010000.
    """
    return frozenset(map(_parse_vendor, elements(written)))


def _parse_vendor(word: str) -> int:
    if _VENDOR.fullmatch(word):
        return int(word, 16)
    if not _DOMAIN.fullmatch(word):
        raise BadOption(
            f"{cut(word)} is no vendor: write an id as 0x and 1 to 8 hex digits, or a domain "
            "name such as example.com"
        )
    return zlib.crc32(word.lower().removesuffix(".").encode("ascii")) | 0x0001_0000
