"""What a node answers to AGENT_ADD, AGENT_REMOVE and AGENT_LIST, for tests of agents."""

from __future__ import annotations

import hashlib
from typing import Final

from asys import isa
from asys.isa.security import PAGE_SIZE, AgentKey, NewAgent
from asys.protocol.apdu import Frame
from support.wire_node import OK, answer

NOBODY: Final = bytes(4)
NO_FLAGS: Final = isa.AgentFlags(0)


def key_hash(key: bytes) -> bytes:
    """What agents are called in lists."""
    return hashlib.blake2b(key).digest()[:4]


class AgentsBelow:
    """The agents that were added, in order; `answer` is for `serve_b`."""

    def __init__(self) -> None:
        self.agents: list[isa.ListedAgent] = []
        self.added: list[NewAgent] = []

    def put(
        self,
        key: bytes,
        caps: str,
        *,
        label: str = "",
        expires: int = 0,
        flags: isa.AgentFlags = NO_FLAGS,
        parent_hash: bytes = NOBODY,
    ) -> None:
        """An agent that is there from now on."""
        known = isa.CapabilityMap.of(caps)
        self.agents.append(isa.ListedAgent(key, parent_hash, known, expires, flags, label))

    def page(self, number: int) -> bytes:
        """AGENT_LIST."""
        shown = tuple(self.agents[PAGE_SIZE * number :][:PAGE_SIZE])
        reply = isa.Agents(total=len(self.agents), count=len(shown), page=number, agents=shown)
        return reply.pack() + OK

    def answer(self, frame: Frame) -> bytes | None:
        """An answer to a request in clear, its Seq in front."""
        payload = frame.data[4:]
        if frame.ins == isa.AGENT_ADD.code:
            new = NewAgent.unpack(payload)
            self.added.append(new)
            self.put(new.key, str(new.caps), label=new.label, expires=new.ttl_s)
            return key_hash(new.key) + OK
        if frame.ins == isa.AGENT_REMOVE.code:
            key = AgentKey.unpack(payload).key
            kept = [one for one in self.agents if one.key != key]
            if len(kept) == len(self.agents):
                return b"\x6a\x80"
            self.agents = kept
            return OK
        if frame.ins == isa.AGENT_LIST.code:
            return self.page(frame.p1)
        return answer(frame)
