"""What an admin enables: `asyd --vendor DOMAIN[,OPTION...]`; see docs/vendors.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from asys.node.platform.cage import HOMES, SCRATCH
from asys.vendor.definition import VendorError, normal_domain

MEMORY: Final = 128 << 20
"""Bytes that a worker may write to, where the admin says nothing."""

LEAST_MEMORY: Final = 48 << 20
"""Less does not even take the interpreter and what it imports."""

MOST_MEMORY: Final = 1 << 40

_MEMORY: Final = re.compile(r"([1-9][0-9]{0,8})([KMG])")
_UNITS: Final = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_CPU: Final = re.compile(r"[1-9][0-9]{0,4}")
_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?")
_CONFIG: Final = re.compile(r"(/[A-Za-z0-9_.@+-]+)+")
_FORM: Final = "DOMAIN[,network][,memory=256M][,cpu=50][,user=NAME][,config=FILE]"

CONFIG_VARIABLE: Final = "ASYS_VENDOR_CONFIG"
"""What tells a worker where the file of `config=` is."""


@dataclass(frozen=True, slots=True)
class Enabled:
    """One vendor and what its worker gets.

    `memory` in bytes; `cpu` in percent of one core, 0 for no quota; `user` is whom it runs as, ''
    for a user that nobody else is; `config` a file for the vendor's own use, or ''.
    """

    domain: str
    network: bool = False
    memory: int = MEMORY
    cpu: int = 0
    user: str = ""
    config: str = ""


def parse_enabled(written: str) -> Enabled:
    """One `--vendor`. VendorError says what is wrong with it."""
    name, *options = written.split(",")
    domain = normal_domain(name)
    given: dict[str, str] = {}
    for option in options:
        word, _, value = option.partition("=")
        if word in given:
            raise VendorError(f"{domain}: {word} stands twice")
        given[word] = value if "=" in option else ""
    network = "network" in given
    if given.pop("network", ""):
        raise VendorError(f"{domain}: network has no value: it is granted, or left out")
    enabled = Enabled(
        domain,
        network,
        _memory(domain, given.pop("memory")) if "memory" in given else MEMORY,
        _cpu(domain, given.pop("cpu")) if "cpu" in given else 0,
        _user(domain, given.pop("user")) if "user" in given else "",
        _config(domain, given.pop("config")) if "config" in given else "",
    )
    if given:
        raise VendorError(f"{domain}: {next(iter(given))[:40]!r} is no option; write {_FORM}")
    return enabled


def parse_all(written: Sequence[str]) -> tuple[Enabled, ...]:
    """Every `--vendor`. VendorError: one cannot be, or stands twice."""
    enabled = tuple(map(parse_enabled, written))
    seen: set[str] = set()
    for one in enabled:
        if one.domain in seen:
            raise VendorError(f"{one.domain} is enabled twice; leave one --vendor")
        seen.add(one.domain)
    return enabled


def _memory(domain: str, value: str) -> int:
    found = _MEMORY.fullmatch(value)
    size = int(found[1]) * _UNITS[found[2]] if found else 0
    if not LEAST_MEMORY <= size <= MOST_MEMORY:
        raise VendorError(
            f"{domain}: memory={value[:40]} is no size from {LEAST_MEMORY >> 20}M on, such as 256M"
        )
    return size


def _cpu(domain: str, value: str) -> int:
    if not _CPU.fullmatch(value):
        raise VendorError(f"{domain}: cpu={value[:40]} is no percentage of one core, such as 50")
    return int(value)


def _user(domain: str, value: str) -> str:
    if not _USER.fullmatch(value):
        raise VendorError(f"{domain}: user={value[:40]} is no user's name")
    return value


def _config(domain: str, value: str) -> str:
    if not _CONFIG.fullmatch(value) or any(part in (".", "..") for part in value.split("/")):
        raise VendorError(
            f"{domain}: config={value[:80]} is no absolute path of A-Z a-z 0-9 _ . @ + - and /"
        )
    for place in (*SCRATCH, *HOMES):
        if value.startswith(place + "/"):
            raise VendorError(
                f"{domain}: config={value[:80]} lies in {place}, which a worker does not see; "
                "/etc/asys-vendors is a good place"
            )
    return value
