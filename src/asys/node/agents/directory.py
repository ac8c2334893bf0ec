"""Who may do what: the lines of `authorized_agents`, and the agents that agents have added.

An added agent, a delegate, holds the intersection along its chain up to a line, at every use
(docs/protocol.md, section 7). Nothing here waits or touches a file; time is an argument, in whole
Unix seconds.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from asys.node.agents.book import LABEL, Agent, AgentBook
from asys.node.agents.ended import Ended, Mark
from asys.protocol.keys import is_low_order
from asys.protocol.status import SW

MAX_DEPTH: Final = 4
"""Levels of delegates below a line."""

MAX_DELEGATES: Final = 64
"""Delegates below one line, on all levels together."""

LAST_SECOND: Final = 0xFFFFFFFF
"""The last moment at which a delegate can expire: AGENT_LIST has a u32 for it."""


@dataclass(frozen=True, slots=True)
class Delegate:
    """An agent that another agent has added.

    `caps` is the map that was asked for; what it holds of that is a `Holding`. `expires` is the
    Unix second from which on it no longer holds, 0 for never.
    """

    key: bytes
    parent: bytes
    caps: int
    label: str
    expires: int


@dataclass(frozen=True, slots=True)
class Holding:
    """What one key holds now. Scopes and rates are those of `root`, the line it comes from.

    `parent` is empty and `depth` 0 for a line itself, the only one that can be `admin`. `expires`
    is the earliest moment along the chain, 0 for never.
    """

    key: bytes
    label: str
    caps: int
    root: Agent
    parent: bytes
    expires: int
    admin: bool
    depth: int

    @property
    def name(self) -> str:
        """What logs call it: its label, or the first 8 digits of its key."""
        return self.label or self.key.hex()[:8]


class DirectoryRefusal(Exception):
    """A change that is refused: nothing has changed. `sw` is the answer, the message why."""

    def __init__(self, sw: SW, reason: str) -> None:
        super().__init__(reason)
        self.sw = sw


def key_hash(key: bytes) -> bytes:
    """The 4 bytes that stand for a key: a cut of its 64-byte BLAKE2b."""
    return hashlib.blake2b(key).digest()[:4]


def _nothing() -> None:
    """Nobody wants to know that every check has passed."""


class Directory:
    """All agents of a node. A key that a line is about, be it a bad one, is never a delegate's."""

    def __init__(
        self,
        book: AgentBook,
        delegates: Iterable[Delegate] = (),
        *,
        node_key: bytes,
        ended: Iterable[Mark] = (),
    ) -> None:
        """Takes delegates in order of registration, and leaves out whoever may not be there:
        without a parent before it, with a line of its own, too deep or too many.

        What is in `ended` has ended, whatever the clock says.
        """
        self._node_key = node_key
        self._ended = Ended(ended)
        # A parent always stands before its children, as nobody ever changes parents.
        self._delegates: dict[bytes, Delegate] = {}
        self._untold: list[bytes] = []
        self._set_book(book)
        places: dict[bytes, tuple[bytes, int]] = {}
        below: Counter[bytes] = Counter()
        left_out: set[bytes] = set()
        for one in delegates:
            root, depth = places.get(one.parent, (one.parent, 0))
            if (
                one.parent not in left_out  # it may have got a line of its own
                and root in book.agents
                and depth < MAX_DEPTH
                and below[root] < MAX_DELEGATES
                and one.key not in places
                and one.key not in self._named
                and one.key != node_key
            ):
                places[one.key] = root, depth + 1
                below[root] += 1
                self._delegates[one.key] = one
            else:
                left_out.add(one.key)

    @property
    def book(self) -> AgentBook:
        """The lines."""
        return self._book

    @property
    def delegates(self) -> tuple[Delegate, ...]:
        """All delegates in order of registration, also those that have ended since `prune`."""
        return tuple(self._delegates.values())

    @property
    def ended(self) -> frozenset[Mark]:
        """The lines that were seen to have ended, as long as any line is about their key."""
        return self._ended.of(self._named)

    # What holds

    def holding(self, key: bytes, now: int) -> Holding | None:
        """What a key holds; None when it holds nothing: not known, expired, or without a chain."""
        agent = self._book.agents.get(key)
        if agent is not None:
            if self._ended.look(agent, now):
                return None
            return Holding(
                key, agent.label, agent.caps, agent, b"", agent.expires, agent.admin, depth=0
            )
        own = self._delegates.get(key)
        if own is None:
            return None
        caps, expires, depth, link = own.caps, own.expires, 1, own
        while not self._ended.look(link, now):
            root = self._book.agents.get(link.parent)
            if root is not None:
                if self._ended.look(root, now):
                    return None
                caps &= root.caps
                expires = _earlier(expires, root.expires)
                return Holding(key, own.label, caps, root, own.parent, expires, False, depth)
            link = self._delegates[link.parent]
            caps &= link.caps
            expires = _earlier(expires, link.expires)
            depth += 1
        return None

    def listing(self, caller: bytes, now: int) -> list[Holding]:
        """What AGENT_LIST shows: all below the caller, for an admin the lines and all delegates.

        In order of registration, lines first; empty for a caller that holds nothing.
        """
        asking = self.holding(caller, now)
        if asking is None:
            return []
        if asking.admin:
            return self.known(now)
        found = (self.holding(key, now) for key in self._below(caller))
        return [one for one in found if one is not None]

    def known(self, now: int) -> list[Holding]:
        """Everybody who holds something, in order of registration, lines first."""
        found = (self.holding(key, now) for key in (*self._book.agents, *self._delegates))
        return [one for one in found if one is not None]

    # Changes

    def add(
        self,
        parent: bytes,
        key: bytes,
        caps: int,
        ttl: int,
        label: str,
        now: int,
        *,
        charge: Callable[[], None],
        passed: Callable[[], None] = _nothing,
    ) -> None:
        """AGENT_ADD: `parent` hands `caps` on to `key` for `ttl` seconds, 0 for good.

        Added again by the same parent, the map, label and expiry are replaced. `charge` is called
        where the rate is checked, `passed` when every check has passed and nothing has changed yet;
        both may raise. DirectoryRefusal.
        """
        self._drop_ended(now)
        above = self._caller(parent, now)
        if is_low_order(key):
            raise DirectoryRefusal(SW.INVALID_PAYLOAD, "the key is of low order")
        if key == self._node_key:
            raise DirectoryRefusal(SW.INVALID_PAYLOAD, "the key is the node's own")
        if label and not LABEL.fullmatch(label):
            raise DirectoryRefusal(SW.INVALID_PAYLOAD, "the label is not 1 to 31 of A-Za-z0-9._-")
        expires = now + ttl if ttl else 0
        if expires > LAST_SECOND:
            raise DirectoryRefusal(SW.INVALID_PAYLOAD, "it would expire after the year 2106")
        if caps & ~above.caps:
            raise DirectoryRefusal(SW.DENIED, "the map is not within the caller's")
        charge()
        before = self._delegates.get(key)
        replaces = before is not None and before.parent == parent
        if above.depth >= MAX_DEPTH:
            raise DirectoryRefusal(SW.BLOCKED, f"more than {MAX_DEPTH} levels below a line")
        if not replaces:
            if len(self._below(above.root.key)) >= MAX_DELEGATES:
                raise DirectoryRefusal(SW.BLOCKED, f"{MAX_DELEGATES} agents below a line already")
            if before is not None or key in self._named:
                raise DirectoryRefusal(SW.INVALID_PAYLOAD, "the key is known already")
            if self._hash_is_taken(key):
                raise DirectoryRefusal(SW.INVALID_PAYLOAD, "another key has the same key hash")
        passed()
        self._delegates[key] = Delegate(key, parent, caps, label, expires)

    def remove(
        self,
        caller: bytes,
        key: bytes,
        now: int,
        *,
        charge: Callable[[], None],
        passed: Callable[[], None] = _nothing,
    ) -> tuple[bytes, ...]:
        """AGENT_REMOVE: takes out a delegate and all below it, and returns their keys.

        `charge` and `passed` as in `add`. DirectoryRefusal.
        """
        self._drop_ended(now)
        asking = self._caller(caller, now)
        if key in self._named:
            raise DirectoryRefusal(SW.DENIED, "the key stands in authorized_agents")
        charge()
        if key not in (self._delegates if asking.admin else self._below(caller)):
            raise DirectoryRefusal(SW.INVALID_PAYLOAD, "no agent below the caller has this key")
        passed()
        gone = (key, *self._below(key))
        for one in gone:
            self._ended.forget(self._delegates.pop(one))
        return gone

    def end(self, keys: Iterable[bytes]) -> None:
        """The time of these delegates is over, whatever the clock says: `prune` drops them."""
        for key in keys:
            if key in self._delegates:
                self._ended.end(self._delegates[key])

    def replace_book(self, book: AgentBook, now: int) -> tuple[bytes, ...]:
        """Takes new lines, and returns the delegates that went, with those that `prune` would.

        Who has a line now is no delegate any more. What was below it goes, and what was below a
        line that no longer holds: neither comes back with the line.
        """
        self._drop_ended(now)  # what ended under the old lines does not live on under new ones
        self._set_book(book)
        self._drop_ended(now)
        return self._tell()

    def prune(self, now: int) -> tuple[bytes, ...]:
        """Drops the delegates that have ended, with all below, and returns their keys.

        Also those that `add` or `remove` found to have ended before.
        """
        self._drop_ended(now)
        return self._tell()

    def next_expiry(self, now: int) -> int:
        """The earliest moment at which something ends, `now` where `prune` is due; 0 never."""
        if self._untold or any(self.holding(key, now) is None for key in self._delegates):
            return now
        ends = [one.expires for one in self._delegates.values() if one.expires]
        ends += [agent.expires for agent in self._ending if not self._ended.look(agent, now)]
        return min(ends, default=0)

    # How

    def _set_book(self, book: AgentBook) -> None:
        self._book = book
        self._named = book.named | book.agents.keys()
        self._ending = [agent for agent in book.agents.values() if agent.expires]
        self._book_hashes: frozenset[bytes] | None = None

    def set_node_key(self, node_key: bytes) -> None:
        """The node has another key. Who is in stays in."""
        self._node_key = node_key
        self._book_hashes = None

    def _hash_is_taken(self, key: bytes) -> bool:
        """Whether another key has the same hash. Those of the lines are made once for a book."""
        if self._book_hashes is None:
            self._book_hashes = frozenset(map(key_hash, (self._node_key, *self._named)))
        found = key_hash(key)
        return found in self._book_hashes or found in map(key_hash, self._delegates)

    def _caller(self, key: bytes, now: int) -> Holding:
        holding = self.holding(key, now)
        if holding is None:
            raise DirectoryRefusal(SW.NO_SUCH_INSTRUCTION, "the caller holds nothing any more")
        return holding

    def _below(self, key: bytes) -> list[bytes]:
        """The keys of all delegates below a key, in order of registration."""
        above = {key}
        found = []
        for one in self._delegates.values():
            if one.parent in above:
                above.add(one.key)
                found.append(one.key)
        return found

    def _drop_ended(self, now: int) -> None:
        for agent in self._ending:
            self._ended.look(agent, now)
        kept: dict[bytes, Delegate] = {}
        for key, one in self._delegates.items():
            root = self._book.agents.get(one.parent)
            if one.parent in self._delegates:  # even if that has a line by now
                alive = one.parent in kept
            else:
                alive = root is not None and not self._ended.look(root, now)
            if alive and key not in self._named and not self._ended.look(one, now):
                kept[key] = one
            else:
                self._untold.append(key)
                self._ended.forget(one)
        self._delegates = kept

    def _tell(self) -> tuple[bytes, ...]:
        told = tuple(self._untold)
        self._untold.clear()
        return told


def _earlier(first: int, second: int) -> int:
    """The earlier of two expiries, where 0 is never."""
    return min(first or second, second or first)
