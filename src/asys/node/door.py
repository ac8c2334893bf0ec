"""What the door remembers of those who knock (docs/protocol.md, section 1): replays and floods.

Pure: time is an argument, in seconds of a monotonic clock. Whatever arrives, no table grows beyond
its bound.
"""

from __future__ import annotations

import heapq
import socket
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

GENERATION_SECONDS: Final = 150
"""An ephemeral key is remembered for longer than this, and for twice as long at most."""

GENERATION_KEYS: Final = 65_536
"""Ephemeral keys in one generation."""

SOURCES: Final = 65_536
"""Sources of handshakes that are counted at a time."""

UNCONFIRMED: Final = 256
"""Connections that have not yet sent a valid transport message."""

_NS: Final = 1_000_000_000
_MAPPED: Final = bytes(10) + b"\xff\xff"

_T = TypeVar("_T", bound=Hashable)


class Replays:
    """The ephemeral keys of handshakes that were genuine: an exact set in two generations.

    What is remembered is found for GENERATION_SECONDS and longer, and forgotten before or when
    twice that has passed. Only where more than `capacity` keys come within a generation, the
    older one goes early; the latest `capacity` keys are found all the same.
    """

    def __init__(self, capacity: int = GENERATION_KEYS) -> None:
        self._capacity = capacity
        self._current: set[bytes] = set()
        self._previous: set[bytes] = set()
        self._began = 0.0

    def __len__(self) -> int:
        return len(self._current) + len(self._previous)

    def seen(self, ephemeral: bytes, now: float) -> bool:
        """Whether this key was remembered. Nothing is stored."""
        self._age(now)
        return ephemeral in self._current or ephemeral in self._previous

    def remember(self, ephemeral: bytes, now: float) -> None:
        """Stores the key of a message 1 that has authenticated."""
        self._age(now)
        if ephemeral in self._current:
            return
        if not self:
            self._began = now
        if len(self._current) >= self._capacity:
            self._turn(now)
        self._current.add(ephemeral)

    def _age(self, now: float) -> None:
        if now - self._began >= 2 * GENERATION_SECONDS:
            self._turn(now)
            self._previous = set()
        elif now - self._began >= GENERATION_SECONDS:
            self._turn(self._began + GENERATION_SECONDS)

    def _turn(self, began: float) -> None:
        self._previous, self._current = self._current, set()
        self._began = began


class _Source:
    """One bucket: `full_at` is when it is full again, in nanoseconds; each token adds to it."""

    __slots__ = ("full_at", "gone", "peer")

    def __init__(self, peer: bytes | str, now: int) -> None:
        self.peer = peer
        self.full_at = now
        self.gone = False


class HandshakeRates:
    """A token bucket for each source of handshakes.

    `burst` is five times `per_second` where it is not given; with 0 per second there is no limit.
    A source whose bucket is full again needs no place. When all `capacity` places are taken by
    others, the source that was seen least recently loses its own.
    """

    def __init__(
        self, per_second: int = 20, burst: int | None = None, *, capacity: int = SOURCES
    ) -> None:
        self._interval = -(-_NS // per_second) if per_second else 0
        self._slack = ((5 * per_second if burst is None else burst) - 1) * self._interval
        self._capacity = capacity
        self._sources: OrderedDict[bytes | str, _Source] = OrderedDict()  # seen last: at the end
        # By a time at which the bucket was going to be full; it may have moved on since.
        self._filling: list[tuple[int, int, _Source]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._sources)

    def allow(self, peer: bytes | str, now: float) -> bool:
        """Takes a token of a source; False when it has none."""
        if not self._interval:
            return True
        at = round(now * _NS)
        # Two for each that may come: so the table shrinks, and there is never much to do at once.
        self._free_one(at)
        self._free_one(at)
        source = self._sources.get(peer)
        if source is None:
            source = self._admit(peer, at)
        else:
            self._sources.move_to_end(peer)
        full_at = max(source.full_at, at)
        if full_at - at > self._slack:
            return False
        source.full_at = full_at + self._interval
        return True

    def _admit(self, peer: bytes | str, at: int) -> _Source:
        if len(self._sources) >= self._capacity:
            while self._filling and self._filling[0][0] <= at and not self._free_one(at):
                pass
        if len(self._sources) >= self._capacity:
            _, least = self._sources.popitem(last=False)
            least.gone = True
        if len(self._filling) >= 2 * self._capacity:
            self._filling = [one for one in self._filling if not one[2].gone]
            heapq.heapify(self._filling)
        source = self._sources[peer] = _Source(peer, at)
        self._push(source, at + self._interval)
        return source

    def _free_one(self, at: int) -> bool:
        """Looks at the bucket that may be full first; True when it was, and is now forgotten."""
        if not self._filling or self._filling[0][0] > at:
            return False
        source = heapq.heappop(self._filling)[2]
        if source.gone:
            return False
        if source.full_at > at:
            self._push(source, source.full_at)
            return False
        del self._sources[source.peer]
        source.gone = True
        return True

    def _push(self, source: _Source, full_at: int) -> None:
        self._serial += 1
        heapq.heappush(self._filling, (full_at, self._serial, source))


class Unconfirmed(Generic[_T]):
    """Those that have not shown who they are, in order of arrival; a newcomer always finds room."""

    def __init__(self, capacity: int = UNCONFIRMED) -> None:
        self._capacity = capacity
        self._all: OrderedDict[_T, None] = OrderedDict()
        self._fresh: OrderedDict[_T, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, item: object) -> bool:
        return item in self._all

    def add(self, item: _T) -> _T | None:
        """Takes an item in. Returns the one that had to go for it: the oldest that has not
        advanced, else the oldest.
        """
        if item in self._all:
            return None
        evicted = self.pop() if len(self._all) >= self._capacity else None
        self._all[item] = self._fresh[item] = None
        return evicted

    def pop(self) -> _T | None:
        """Takes out the one that has to go first, as with `add`; None when there is none."""
        first = next(iter(self._fresh or self._all), None)
        if first is not None:
            self.discard(first)
        return first

    def advance(self, item: _T) -> None:
        """The item has shown the magic and paid its token. Nothing happens when it is not here."""
        self._fresh.pop(item, None)

    def discard(self, item: _T) -> None:
        """The item is confirmed or gone. Nothing happens when it is not here."""
        self._all.pop(item, None)
        self._fresh.pop(item, None)


def source(peername: object, uid: int | None = None) -> bytes | str:
    """What a peer is counted as.

    `peername` is what the transport calls it. An IPv4 address is 4 bytes, also where it is mapped
    into IPv6; of an IPv6 address the /64 counts, 8 bytes, and for link-local ones the interface.
    A peer on a Unix socket is its `uid`.
    """
    if not isinstance(peername, tuple):
        return "nobody" if uid is None else f"uid {uid}"
    host = str(peername[0]).partition("%")[0]
    if ":" not in host:
        return socket.inet_pton(socket.AF_INET, host)
    packed = socket.inet_pton(socket.AF_INET6, host)
    if packed.startswith(_MAPPED):
        return packed[len(_MAPPED) :]
    interface = int(peername[3]) if len(peername) > 3 else 0
    return packed[:8] + interface.to_bytes(4, "big") if interface else packed[:8]
