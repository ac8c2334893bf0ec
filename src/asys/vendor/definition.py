"""What a vendor declares: who it is and which instructions it adds (docs/protocol.md, 7.19).

Nothing here runs a handler; that is the business of a worker (docs/vendors.md).
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Final

from asys.isa import REGISTRY, AnyInstruction, Instruction, Level, Mode
from asys.isa.capmap import bits
from asys.protocol.limits import MAX_RECORD

FIRST_CODE: Final = 0xC0
CODES: Final = range(FIRST_CODE, 0x100)
"""The codes that vendors have, each vendor all of them."""

ID_SIZE: Final = 4
"""Bytes of the Vendor_ID, which stands in front of every body."""

MAX_BODY: Final = 16_384
"""Bytes of the body in one frame."""

MAX_JOINED_BODY: Final = 256 * 1024 - ID_SIZE
"""Bytes of a body that came in fragments: the Vendor_ID counts in the chain."""

MAX_REPLY: Final = MAX_RECORD - 16 - 2
"""Bytes of a reply: what one message takes beside the status word."""

LAST_ASSIGNED: Final = 0x3FF
LAST_REGISTERED: Final = 0xFFFF
"""Vendor_IDs that are given out, by number; above are those that follow from a domain."""

_DERIVED: Final = 0x0001_0000

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})+")
_NAME: Final = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*")
_MODULE: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_MAX_NAME: Final = 48


class VendorError(ValueError):
    """A vendor that cannot be, or cannot be had; the message says why, and what would be right."""


def normal_domain(written: str) -> str:
    """A domain name as ids are made of it: lower case, no final dot. VendorError: it is none."""
    domain = written.lower().removesuffix(".") if written.isascii() else ""
    if not _DOMAIN.fullmatch(domain):
        raise VendorError(
            f"{written[:80]!r} is no domain name with a dot in it, such as example.com"
        )
    return domain


def id_of_domain(domain: str) -> int:
    """The Vendor_ID that follows from a domain. VendorError: it is no domain name."""
    return zlib.crc32(normal_domain(domain).encode("ascii")) | _DERIVED


@dataclass(frozen=True, slots=True)
class Vendor:
    """A vendor and its instructions. VendorError where the declaration cannot hold.

    `domain` is kept in lower case and without a final dot. `vendor_id` is for who has a number
    from 0 to FFFF; without it the id follows from the domain. `handlers` names the module that
    does the instructions: it is imported in a worker and nowhere else.
    """

    domain: str
    title: str
    instructions: tuple[AnyInstruction, ...]
    handlers: str
    vendor_id: int | None = None

    def __post_init__(self) -> None:
        """Checks all that can be told without the handlers."""
        object.__setattr__(self, "domain", normal_domain(self.domain))
        object.__setattr__(self, "instructions", tuple(self.instructions))
        check_id(self.domain, self.id)
        if not self.title.isprintable() or not 1 <= len(self.title) <= 80:
            raise VendorError(f"{self.domain}: the title is not 1 to 80 characters that print")
        if not _MODULE.fullmatch(self.handlers):
            raise VendorError(f"{self.domain}: handlers={self.handlers!r} is no module's name")
        if not self.instructions:
            raise VendorError(f"{self.domain} declares no instruction")
        codes: dict[int, str] = {}
        names: set[str] = set()
        for one in self.instructions:
            fault = _fault(one)
            if fault:
                raise VendorError(f"{self.domain}: {one!r} {fault}")
            if one.code in codes:
                raise VendorError(
                    f"{self.domain}: {one.name} and {codes[one.code]} have the code {one.code:02X}"
                )
            if one.name in names:
                raise VendorError(f"{self.domain}: two instructions are called {one.name}")
            if one.vendor_id not in (None, self.id):
                raise VendorError(f"{self.domain}: {one.name} is another vendor's instruction")
            codes[one.code] = one.name
            names.add(one.name)
        for one in self.instructions:
            one.vendor_id = self.id

    @property
    def id(self) -> int:
        """The Vendor_ID, as it stands in front of every body."""
        return id_of_domain(self.domain) if self.vendor_id is None else self.vendor_id

    @property
    def bits(self) -> int:
        """The map of the codes that it has."""
        return bits(one.code for one in self.instructions)

    def get(self, code: int) -> AnyInstruction | None:
        """Its instruction with that code."""
        return next((one for one in self.instructions if one.code == code), None)

    def named(self, name: str) -> AnyInstruction | None:
        """Its instruction with that name, in any case, with - or _."""
        wanted = name.upper().replace("-", "_")
        return next((one for one in self.instructions if one.name == wanted), None)

    def __repr__(self) -> str:
        return f"<Vendor {self.id:08X} {self.domain}>"


def check_id(domain: str, vendor_id: int) -> None:
    """VendorError: a vendor with that domain cannot have that id."""
    if isinstance(vendor_id, bool) or not isinstance(vendor_id, int):
        raise VendorError(f"{domain}: vendor_id={vendor_id!r} is no number")
    if not 0 <= vendor_id <= LAST_REGISTERED and vendor_id != id_of_domain(domain):
        raise VendorError(
            f"{domain}: the id {vendor_id:#x} is neither 0 to FFFF, which are given out, nor "
            f"{id_of_domain(domain):08X}, which follows from the domain"
        )


def same_id(first: str, second: str, vendor_id: int) -> str:
    """What is to be said of two vendors with one id."""
    return (
        f"{first} and {second} have the same id {vendor_id:08X}; {second} is left out: "
        "uninstall one, or give one another vendor_id"
    )


def _fault(instruction: object) -> str:
    """Why something is no instruction of a vendor, or ''."""
    if not isinstance(instruction, Instruction):
        return "is no asys.isa.Instruction"
    if instruction.code not in CODES:
        return "has a code outside of C0 to FF"
    if not _NAME.fullmatch(instruction.name) or len(instruction.name) > _MAX_NAME:
        return f"has a name that is not up to {_MAX_NAME} of A-Z 0-9 _, such as BACKUP_START"
    if REGISTRY.named(instruction.name) is not None:
        return "has the name of a standard instruction"
    if instruction.level < Level.SIGNED:
        return "must be at least signed: set level=Level.SIGNED"
    if instruction.mode is not Mode.SYNC:
        return "must be synchronous: a worker has no task handles"
    most = MAX_JOINED_BODY if getattr(instruction, "chainable", False) else MAX_BODY
    size = instruction.request.SIZE
    if size > most:
        return f"has a request of {size} bytes; {most} are the most"
    size = instruction.reply.SIZE
    if size > MAX_REPLY:
        return f"has a reply of {size} bytes; {MAX_REPLY} go in one message"
    return ""
