"""Frames in hex as the inspector shows them."""

from __future__ import annotations

from asys.isa import REGISTRY
from asys.isa.inspect import FAULT, Part, describe_request, describe_response


def request(text: str) -> list[tuple[int, str, str, str]]:
    """The parts of a request in hex, their bytes in hex too."""
    return plain(describe_request(bytes.fromhex(text)))


def response(text: str, name: str) -> list[tuple[int, str, str, str]]:
    """The parts of a response in hex."""
    return plain(describe_response(bytes.fromhex(text), REGISTRY.named(name)))


def plain(parts: list[Part]) -> list[tuple[int, str, str, str]]:
    return [(part.offset, part.raw.hex(), part.name, part.meaning) for part in parts]


def fault(text: str) -> str:
    """What the last part says, which must be the only fault."""
    parts = describe_request(bytes.fromhex(text))
    assert [part.name for part in parts].count(FAULT) == 1
    assert parts[-1].name == FAULT
    return parts[-1].meaning
