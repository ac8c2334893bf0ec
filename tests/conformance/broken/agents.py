"""Level 6: agents that agents add."""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b

from conformance.broken.core import with_byte
from conformance.model import Node
from conformance.parts import INVALID, OK, Agent, Connection, Frame, public


class ShortKeyHash(Node):
    """BLAKE2b with 4 bytes of output."""

    caught_by = ("agents.add", "agents.list")

    def key_hash(self, key: bytes) -> bytes:
        return blake2b(key, digest_size=4).digest()


class HandsOnEverything(Node):
    """An added agent has all that its parent has."""

    caught_by = ("agents.add", "agents.again")

    def exists(self, one: Connection, code: int) -> bool:
        known = self.knows(one.agent)
        if known is not None and known.parent:
            return code in self.agents[known.parent].lit
        return super().exists(one, code)


class OnlyOnce(Node):
    """A key that is there cannot be added again."""

    caught_by = ("agents.again",)

    def may_be_added(self, one: Connection, key: bytes) -> bool:
        return key not in self.agents and super().may_be_added(one, key)


class MoreThanMine(Node):
    """Hands on what the caller does not have."""

    caught_by = ("agents.no-more-than-mine",)

    def within(self, wanted: tuple[int, ...], mine: tuple[int, ...]) -> bool:
        return True


class AnyLength(Node):
    """Does not compare the length with that of the label."""

    caught_by = ("agents.length",)

    def addition_length(self, payload: bytes) -> bool:
        return len(payload) >= 69


class AnyLabel(Node):
    """Takes any label."""

    caught_by = ("agents.label",)

    def is_label(self, label: bytes) -> bool:
        return True


class OwnKey(Node):
    """Can be an agent of its own."""

    caught_by = ("agents.key",)

    def may_be_added(self, one: Connection, key: bytes) -> bool:
        return key == public(self.private) or super().may_be_added(one, key)


class LowOrderKey(Node):
    """Takes a key that everybody has."""

    caught_by = ("agents.key",)

    def may_be_added(self, one: Connection, key: bytes) -> bool:
        return not any(key) or super().may_be_added(one, key)


class NeverConnected(Node):
    """Its list does not say who is connected."""

    caught_by = ("agents.list",)

    def list_entry(self, key: bytes, agent: Agent, connected: bool) -> bytes:
        return super().list_entry(key, agent, False)


class ReservedInEntry(Node):
    """Reserved bytes of its list are not zero."""

    caught_by = ("agents.list",)

    def list_entry(self, key: bytes, agent: Agent, connected: bool) -> bytes:
        return with_byte(super().list_entry(key, agent, connected), 74, 1)


class ShortEntry(Node):
    """107 bytes for an agent."""

    caught_by = ("agents.list", "agents.list-end")

    def list_entry(self, key: bytes, agent: Agent, connected: bool) -> bytes:
        return super().list_entry(key, agent, connected)[:-1]

    def list_page(self, below: list[tuple[bytes, Agent]], page: int) -> list[tuple[bytes, Agent]]:
        return super().list_page(below, 0)


class FirstPageForEver(Node):
    """Shows the first page, whatever is asked."""

    caught_by = ("agents.list-end",)

    def list_page(self, below: list[tuple[bytes, Agent]], page: int) -> list[tuple[bytes, Agent]]:
        return super().list_page(below, 0)


class KeepsSessions(Node):
    """A removed agent may go on."""

    caught_by = ("agents.remove",)

    def close_sessions(self, key: bytes) -> None:
        return

    def exists(self, one: Connection, code: int) -> bool:
        return self.knows(one.agent) is None or super().exists(one, code)


class RemovesNobody(Node):
    """Success for a key that is not there."""

    caught_by = ("agents.remove",)

    def do_61(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        answer = super().do_61(one, frame, payload)
        return OK if answer == INVALID else answer


class RemovesLines(Node):
    """Success for a key of the file."""

    caught_by = ("agents.remove-line",)

    def remove_line(self, key: bytes) -> bytes:
        return OK


class NoEnd(Node):
    """Does not look at the TTL."""

    caught_by = ("agents.end", "agents.list")

    def keep(self, key: bytes, agent: Agent) -> None:
        super().keep(key, replace(agent, expires=0.0))
