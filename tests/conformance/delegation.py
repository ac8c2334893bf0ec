"""Agents that agents add, as the model node has them."""

from __future__ import annotations

import time

from asys.conformance.delegate import wire_map
from conformance.instructions import Instructions
from conformance.parts import (
    DENIED,
    INVALID,
    OK,
    WRONG_LENGTH,
    Agent,
    Connection,
    Frame,
    codes_in,
    public,
)


class Delegation(Instructions):
    """AGENT_ADD, AGENT_REMOVE and AGENT_LIST."""

    # -- agents

    def do_60(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        """AGENT_ADD."""
        if not self.addition_length(payload):
            return WRONG_LENGTH
        key, caps, label = payload[:32], payload[32:64], payload[69:]
        ttl = int.from_bytes(payload[64:68], "big")
        if not self.is_label(label) or not self.may_be_added(one, key):
            return INVALID
        known = self.knows(one.agent)
        mine = known.lit if known is not None else ()
        wanted = codes_in(caps)
        if not self.within(wanted, mine):
            return DENIED
        self.keep(key, Agent(wanted, one.agent, time.monotonic() + ttl if ttl else 0.0, label))
        return self.key_hash(key) + OK

    def addition_length(self, payload: bytes) -> bool:
        """69 bytes and the label."""
        return len(payload) >= 69 and len(payload) == 69 + payload[68]

    def is_label(self, label: bytes) -> bool:
        """Letters, digits and three more characters."""
        return all((chr(octet).isalnum() and octet < 128) or octet in b"._-" for octet in label)

    def may_be_added(self, one: Connection, key: bytes) -> bool:
        """Not of low order, not the node's, not a line's, not somebody else's."""
        if not any(key) or key == public(self.private):
            return False
        there = self.agents.get(key)
        return there is None or there.parent == one.agent

    def within(self, wanted: tuple[int, ...], mine: tuple[int, ...]) -> bool:
        """Nobody hands on what it does not have."""
        return set(wanted) <= set(mine)

    def keep(self, key: bytes, agent: Agent) -> None:
        """It is an agent from now on."""
        self.agents[key] = agent

    def do_61(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        """AGENT_REMOVE."""
        if len(payload) != 32:
            return WRONG_LENGTH
        there = self.agents.get(payload)
        if there is not None and not there.parent:
            return self.remove_line(payload)
        if there is None:
            return INVALID
        del self.agents[payload]
        self.close_sessions(payload)
        return OK

    def remove_line(self, key: bytes) -> bytes:
        """A key of the file is not removed."""
        return DENIED

    def close_sessions(self, key: bytes) -> None:
        """Those of an agent that has gone."""
        with self.lock:
            for other in self.connections:
                if other.agent == key:
                    other.end()

    def do_62(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        """AGENT_LIST."""
        if payload:
            return WRONG_LENGTH
        below = [(key, one_) for key, one_ in self.agents.items() if one_.parent]
        page = self.list_page(below, frame.p1)
        with self.lock:
            live = {other.agent for other in self.connections if other.confirmed}
        rows = b"".join(self.list_entry(key, found, key in live) for key, found in page)
        head = len(below).to_bytes(2, "big") + bytes((len(page), frame.p1))
        return head + rows + OK

    def list_page(self, below: list[tuple[bytes, Agent]], page: int) -> list[tuple[bytes, Agent]]:
        """The agents of one page."""
        return below[32 * page : 32 * page + 32]

    def list_entry(self, key: bytes, agent: Agent, connected: bool) -> bytes:
        """108 bytes."""
        ends = int(time.time() + agent.expires - time.monotonic()) if agent.expires else 0
        return (
            key
            + self.key_hash(agent.parent)
            + wire_map(*agent.lit)
            + ends.to_bytes(4, "big")
            + bytes((connected, 0, 0, 0))
            + agent.label.ljust(32, b"\0")
        )
