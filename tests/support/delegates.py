"""Enc+Sign, and the instructions about agents, as an agent of its own making would send them."""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from asys.protocol.signing import epoch_id
from support.frames import OK, Frames, header
from support.raw_agent import RawAgent

AGENT_ADD: Final = 0x60
AGENT_REMOVE: Final = 0x61
AGENT_LIST: Final = 0x62

CONNECTED: Final = 1
ADMIN: Final = 2

PAGE: Final = 32
ROW: Final = struct.Struct(">32s4s32sIB3s32s")

CORE: Final = frozenset({0x00, 0x01, 0x02, 0x03, 0x11, 0x13})


def map_of(codes: Iterable[int]) -> bytes:
    """A capability map with these codes."""
    words = [0] * 8
    for code in codes:
        words[code // 32] |= 1 << code % 32
    return struct.pack(">8I", *words)


def codes_of(data: bytes) -> set[int]:
    """The codes of a capability map."""
    words = struct.unpack(">8I", data)
    return {code for code in range(256) if words[code // 32] >> code % 32 & 1}


def key_hash(key: bytes) -> bytes:
    """What stands for a key."""
    return hashlib.blake2b(key).digest()[:4]


def sealed(
    agent: Frames,
    ins: int,
    payload: bytes = b"",
    p1: int = 0,
    p2: int = 0,
    *,
    seq: int | None = None,
    cla: int = 0x08,
    bad: str = "",
) -> bytes:
    """An Enc+Sign frame. `bad` is what is wrong: "tag", "c", or the name of an input of C.

    Whatever is wrong with C, the tag is the right one for it.
    """
    if seq is None:
        seq = agent.seq = agent.seq + 1
    assert agent.link.keys is not None
    key = agent.link.keys.agent_to_node
    head = header(ins, p1, p2, 4 + len(payload) + 16, cla)
    number = seq.to_bytes(4, "big")
    nonce = bytes(4) + (seq ^ (bad == "nonce")).to_bytes(8, "little")
    if bad == "endian":
        nonce = bytes(4) + seq.to_bytes(8, "big")
    epoch = bytes(4) if bad == "epoch" else epoch_id(key)
    covered = header(ins, p1 ^ 1, p2, len(payload) + 20, cla) if bad == "header" else head
    again = bytes(4) if bad == "seq" else number
    context = b"asys-epoch-v1" if bad == "key" else b"asys-enc-v1"
    cipher = ChaCha20Poly1305(hmac.digest(key, context, "blake2b")[:32])
    c = cipher.encrypt(nonce, payload, covered + epoch + again)
    if bad == "c":
        c = c[:-1] + bytes((c[-1] ^ 1,))
    return agent.tagged(ins, number + c, p1, p2, cla=cla, bad=bad == "tag")


def addition(
    key: bytes, codes: Iterable[int] | bytes = CORE, ttl: int = 0, label: bytes = b""
) -> bytes:
    """The payload of AGENT_ADD; `codes` may be a map that is ready."""
    lit = codes if isinstance(codes, bytes) else map_of(codes)
    return key + lit + ttl.to_bytes(4, "big") + bytes((len(label),)) + label


def add(
    agent: RawAgent,
    key: bytes,
    codes: Iterable[int] | bytes = CORE,
    ttl: int = 0,
    label: bytes = b"",
) -> bytes:
    """AGENT_ADD; the whole answer."""
    return agent.ask(sealed(agent, AGENT_ADD, addition(key, codes, ttl, label)))


def remove(agent: RawAgent, key: bytes) -> bytes:
    """AGENT_REMOVE; the whole answer."""
    return agent.ask(sealed(agent, AGENT_REMOVE, key))


@dataclass(frozen=True)
class Row:
    """One agent of AGENT_LIST."""

    key: bytes
    parent: bytes
    codes: frozenset[int]
    expires: int
    flags: int
    label: bytes


def page(agent: RawAgent, number: int) -> tuple[int, list[Row]]:
    """A page of AGENT_LIST: how many agents there are, and those on it."""
    answer = agent.ask(sealed(agent, AGENT_LIST, p1=number))
    assert answer[-2:] == OK, answer
    total, count, echoed = struct.unpack(">HBB", answer[:4])
    assert echoed == number
    assert len(answer) == 4 + count * ROW.size + 2
    rows = []
    for key, parent, lit, expires, flags, spare, label in ROW.iter_unpack(answer[4:-2]):
        assert spare == bytes(3)
        name = label.rstrip(b"\0")
        rows.append(Row(key, parent, frozenset(codes_of(lit)), expires, flags, name))
    return total, rows


def listing(agent: RawAgent) -> list[Row]:
    """All pages of AGENT_LIST."""
    rows: list[Row] = []
    while True:
        total, more = page(agent, len(rows) // PAGE)
        rows += more
        if len(more) < PAGE:
            assert len(rows) == total
            return rows
