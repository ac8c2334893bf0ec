"""One line of `authorized_agents`, and the agents below it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from asys.protocol.keys import PrivateKey
from support.daemon import Daemon
from support.delegates import (
    CORE,
    add,
    key_hash,
    listing,
    sealed,
)
from support.frames import (
    OK,
)
from support.raw_agent import RawAgent

SECURITY = {0x60, 0x61, 0x62}
GROUP_6 = set(range(0x60, 0x70))
PROCESS = set(range(0x20, 0x30))
LINE = "caps=core,process,security"
HELD = CORE | PROCESS | SECURITY

NO_MORE: Mapping[PrivateKey, str] = {}


class Tree:
    """A node with one line that nobody knew before, and an admin."""

    def __init__(self, node: Daemon, stack: ExitStack) -> None:
        self.node = node
        self._stack = stack
        self.root_key = PrivateKey.generate()
        self.admin_key = PrivateKey.generate()
        self.write()
        self.root = self.connect(self.root_key)

    def write(self, options: str = LINE, more: Mapping[PrivateKey, str] = NO_MORE) -> None:
        """Writes the file, and has it read."""
        admin = "admin caps=core,security role=admin"
        lines = {self.root_key: f"root {options}", self.admin_key: admin}
        self.node.reload({**lines, **more})

    def connect(self, key: PrivateKey) -> RawAgent:
        """A session that ends with the test."""
        agent = self._stack.enter_context(self.node.connect(key))
        assert agent.alive()
        return agent

    def below(self, parent: RawAgent, codes: set[int] | frozenset[int] = HELD) -> PrivateKey:
        """Another agent below this one."""
        key = PrivateKey.generate()
        assert add(parent, key.public, codes) == key_hash(key.public) + OK
        return key

    def chain(self, depth: int) -> list[tuple[PrivateKey, RawAgent]]:
        """An agent, one below that, and so on, each with a session."""
        found: list[tuple[PrivateKey, RawAgent]] = []
        parent = self.root
        for _ in range(depth):
            key = self.below(parent)
            parent = self.connect(key)
            found.append((key, parent))
        return found


def refused(agent: RawAgent, ins: int, payload: bytes, answer: bytes) -> None:
    """The answer; the session goes on, and nobody was added or removed."""
    before = listing(agent)
    assert agent.ask(sealed(agent, ins, payload)) == answer
    assert listing(agent) == before
