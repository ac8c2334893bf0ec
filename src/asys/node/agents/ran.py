"""Which instruction sets have run on a node, so that an upgrade cannot light anything unseen.

    {"version": 1, "ran": [{"asyd": "0.1.0", "codes": 64 hex digits}, {...}]}

`instructions.json` in the state directory has the set that asyd started with last, and before it
the one that ran until the last upgrade. Words of `caps=` stand for the same codes for ever
(docs/protocol.md, section 9), so the codes that a version knew are all there is to remember.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asys import __version__
from asys.isa import REGISTRY
from asys.isa.capmap import bits, from_wire, to_wire
from asys.isa.definition import Registry
from asys.node.disk import state
from asys.node.disk.files import ConfigError, is_there, quoted, read_private

VERSION: Final = 1
MAX_SIZE: Final = 4096
"""Bytes of the file at most; two sets take some 250."""

_NUMBERS: Final = re.compile(r"(?:[0-9]+:)?([0-9]{1,6}(?:\.[0-9]{1,6}){0,3})(|[~+-].*|[.]?[a-z].*)")
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_NAME: Final = re.compile(r"[!-~]{1,64}")
_BEFORE: Final = re.compile(r"~|[.-]?(?:a|b|rc|dev)[0-9]")
"""How a version goes on that comes before the release whose numbers it has."""


@dataclass(frozen=True, slots=True)
class InstructionSet:
    """What a version of asyd knows: its name, and a map of its instructions."""

    asyd: str
    codes: int


def this_set(registry: Registry = REGISTRY) -> InstructionSet:
    """What this asyd knows. CONTINUE is left out: no line lights it by itself."""
    return InstructionSet(__version__, _codes(registry))


def set_of(version: str, registry: Registry = REGISTRY) -> InstructionSet:
    """What a version knew, by what the declarations say. ValueError: it is no version.

    Versions may have what Debian puts around them: 1:0.2.0~rc1-3.
    """
    asked = _order(version)
    if asked is None:
        raise ValueError(f"{version!r} is no version, such as {__version__}")
    codes = bits(one.code for one in registry if not one.carrier and _is_in(one.since, asked))
    return InstructionSet(version, codes)


def before(ran: Sequence[InstructionSet], now: InstructionSet) -> InstructionSet | None:
    """What ran before `now`, be it that `now` has been started already or not. None: nothing."""
    others = ran[:-1] if ran and ran[-1] == now else ran
    return others[-1] if others else None


class RanStore:
    """The file in the node's state directory."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "instructions.json"

    def load(self) -> tuple[InstructionSet, ...]:
        """What was saved last, the newest at the end; nothing when there is no file.

        ConfigError when it cannot be read, is not private or not as `save` writes it.
        """
        if not is_there(self.path):
            return ()
        data = read_private(self.path, forbidden=0o022, mend="600", limit=MAX_SIZE)
        try:
            return _decode(data)
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ConfigError(
                f"{self.path} is damaged; to go on without it, run: rm {quoted(self.path)}"
            ) from None

    async def save(self, ran: Sequence[InstructionSet]) -> None:
        """Writes the last two, on the disk when this returns. OSError, TimeoutError."""
        kept = [{"asyd": one.asyd, "codes": to_wire(one.codes).hex()} for one in ran[-2:]]
        data = json.dumps({"version": VERSION, "ran": kept}) + "\n"
        await state.replace(self.path, data.encode("ascii"), 0o600)


def _codes(registry: Registry) -> int:
    return bits(one.code for one in registry if not one.carrier)


def _is_in(since: str, asked: tuple[tuple[int, ...], bool]) -> bool:
    """Whether a version has what is there since another."""
    first = _order(since)
    return first is not None and first <= asked


def _order(version: str) -> tuple[tuple[int, ...], bool] | None:
    """Something that compares as versions do: numbers without zeros behind, and a release last."""
    found = _NUMBERS.fullmatch(version)
    if found is None:
        return None
    numbers = [int(one) for one in found[1].split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers), not _BEFORE.match(found[2])


def _decode(data: bytes) -> tuple[InstructionSet, ...]:
    """ValueError, TypeError, KeyError, RecursionError: it is none of ours."""
    whole = json.loads(data.decode("ascii"))
    if whole["version"] != VERSION or not isinstance(whole["ran"], list) or len(whole["ran"]) > 2:
        raise ValueError("not of this version")
    return tuple(_one(entry) for entry in whole["ran"])


def _one(entry: dict[str, str]) -> InstructionSet:
    if not _NAME.fullmatch(entry["asyd"]) or not _HEX.fullmatch(entry["codes"]):
        raise ValueError("no instruction set")
    return InstructionSet(entry["asyd"], from_wire(bytes.fromhex(entry["codes"])))
