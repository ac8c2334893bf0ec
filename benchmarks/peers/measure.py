"""Measures peers: latency in interleaved rounds, bytes through a relay, CPU at leisure."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Final

from benchmarks.loop import undisturbed
from benchmarks.peers.accounts import Account, Accounts
from benchmarks.peers.jobs import Job
from benchmarks.peers.peer import Ask, Peer, Rig
from benchmarks.peers.registry import REFERENCE, Entry
from benchmarks.peers.relay import Relay
from benchmarks.peers.results import JobResult, PeerResult
from benchmarks.peers.tokens import tokens
from benchmarks.plan import BenchmarkError
from benchmarks.stats import Ratio, quantile

BATCH_SECONDS: Final = 0.1
MOST_BATCH: Final = 20
"""A turn of a peer in a round is so many questions, or as many as fit in the time; at least one."""

SLOW_SECONDS: Final = 0.5
SLOW_EVERY: Final = 4
"""A peer that takes longer for an answer has its turn in every fourth round."""

PACE_SECONDS: Final = 1.0
PACED_SECONDS: Final = 0.25
"""A peer that takes longer than this is not asked once a second beside others, but by itself."""


SLOW_PACED: Final = 2
"""Questions of such a peer: what it uses does not depend on the pace."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    rounds: int = 40
    connects: int = 10
    """New clients of each peer."""

    relayed: int = 20
    """Questions whose bytes are counted, of each job."""

    paced: int = 10
    """Questions at one a second, of each job."""


QUICK: Final = Sizes(rounds=8, connects=3, relayed=5, paced=3)


@dataclass(slots=True)
class _Side:
    """A peer that is running."""

    result: PeerResult
    peer: Peer
    account: Account | None
    stack: contextlib.ExitStack
    port: int
    ask: Ask
    usual: float = 0.0
    """Seconds that an answer took at first."""

    times: dict[Job, list[float]] = field(default_factory=lambda: defaultdict(list))
    rounds: dict[Job, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    firsts: list[float] = field(default_factory=list)
    sizes: dict[Job, list[int]] = field(default_factory=lambda: defaultdict(list))
    busy: dict[Job, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    paced: dict[Job, float] = field(default_factory=dict)
    passed: dict[Job, tuple[float, float]] = field(default_factory=dict)

    def used(self) -> float:
        """CPU time of its server so far."""
        return 0.0 if self.account is None else self.account.seconds()

    def turns_in(self, number: int) -> bool:
        """Whether it has a turn in that round."""
        return self.usual < SLOW_SECONDS or number % SLOW_EVERY == 0


class Measurement:
    """One run over several peers."""

    def __init__(
        self,
        directory: Path,
        sizes: Sizes,
        jobs: Sequence[Job],
        accounts: Accounts | None,
        say: Callable[[str], None],
    ) -> None:
        self._directory = directory
        self._sizes = sizes
        self._jobs = jobs
        self._accounts = accounts
        self._say = say
        self._sides: list[_Side] = []

    def run(self, entries: Sequence[Entry]) -> list[PeerResult]:
        """Measures them; one that is missing or breaks down has that in its result."""
        results = [PeerResult(entry, entry.missing()) for entry in entries]
        (reference,) = (one for one in results if one.entry.name == REFERENCE)
        try:
            for result in results:
                if result.measured:
                    self._say(f"starting {result.entry.label}")
                    self._start(result)
            self._say(f"{self._sizes.rounds} rounds of questions")
            for number in range(self._sizes.rounds):
                self._each(partial(self._turn, number), number)
            self._say("connecting anew")
            for number in range(self._sizes.connects):
                self._each(self._connect, number)
            self._say("counting bytes")
            self._each(self._count_bytes)
            if self._accounts is not None:
                self._say("CPU at one question a second")
                for job in self._jobs:
                    self._pace(job)
            if reference.missing:
                raise BenchmarkError(f"{reference.entry.label}: {reference.missing}")
            (beside,) = (one for one in self._sides if one.result is reference)
            for side in self._sides:
                if side.result.measured:
                    self._conclude(side, beside)
        finally:
            for side in self._sides:
                with _guarded(side.result):
                    side.stack.close()
        return results

    def _start(self, result: PeerResult) -> None:
        name = result.entry.name
        account = None if self._accounts is None else self._accounts.open(name)
        directory = self._directory / name
        directory.mkdir(mode=0o700)
        with contextlib.ExitStack() as stack, _guarded(result):
            peer = result.entry.peer(Rig(directory, account.launcher if account else ()))
            port = stack.enter_context(peer.serve())
            ask = stack.enter_context(peer.connect(port))
            side = _Side(result, peer, account, contextlib.ExitStack(), port, ask)
            for job in self._jobs:
                ask(job)  # the first one connects, compiles, looks things up
                side.usual = max(side.usual, _timed(ask, job))
            side.stack = stack.pop_all()
            self._sides.append(side)

    def _each(self, visit: Callable[[_Side], None], number: int = 0) -> None:
        """Visits every side that still works, each time in another order."""
        ready = [side for side in self._sides if side.result.measured]
        if not ready:
            return
        start = number % len(ready)
        order = ready[start:] + ready[:start]
        for side in reversed(order) if number % 2 else order:
            with _guarded(side.result):
                visit(side)

    def _turn(self, number: int, side: _Side) -> None:
        if not side.turns_in(number):
            return
        count = min(max(int(BATCH_SECONDS / side.usual), 1), MOST_BATCH)
        for job in self._jobs:
            texts: list[str] = []
            if count > 1:
                side.ask(job)  # what has gone to sleep or cold meanwhile is not what is compared
            with undisturbed():
                client, node = self._client_used(), side.used()
                times = [_timed(side.ask, job, texts) for _ in range(count)]
                client, node = self._client_used() - client, side.used() - node
            side.times[job] += times
            side.rounds[job][number] = median(times)
            side.busy[job].append((node / count, client / count))
            side.sizes[job].append(tokens(texts[-1]))

    def _client_used(self) -> float:
        """CPU time so far of this process, and of what clients have started."""
        return 0.0 if self._accounts is None else self._accounts.client.seconds()

    def _connect(self, side: _Side) -> None:
        began = time.perf_counter()
        with side.peer.connect(side.port) as ask:
            ask(self._jobs[0])
            side.firsts.append(time.perf_counter() - began)

    def _count_bytes(self, side: _Side) -> None:
        with Relay(side.port) as relay, side.peer.connect(relay.port) as ask:
            ask(self._jobs[0])
            before = relay.settled()
            side.result.first_to_node, side.result.first_from_node = before
            count = 2 if side.usual > SLOW_SECONDS else self._sizes.relayed
            for job in self._jobs:
                for _ in range(count):
                    ask(job)
                after = relay.settled()
                side.passed[job] = (
                    (after.to_node - before.to_node) / count,
                    (after.from_node - before.from_node) / count,
                )
                before = after

    def _pace(self, job: Job) -> None:
        """One question a second, all that are fast enough beside each other."""
        fast = [side for side in self._sides if side.usual < PACED_SECONDS]
        slow = [side for side in self._sides if side.usual >= PACED_SECONDS]
        for group in (fast, *([side] for side in slow)):
            with contextlib.ExitStack() as stack:
                asks = [(side, ask) for side in group if (ask := self._fresh(stack, side, job))]
                self._paced(asks, job, self._sizes.paced if group is fast else SLOW_PACED)

    def _fresh(self, stack: contextlib.ExitStack, side: _Side, job: Job) -> Ask | None:
        """A client that has asked once: a node may have closed one that was silent for long."""
        if side.result.measured:
            with _guarded(side.result):
                ask = stack.enter_context(side.peer.connect(side.port))
                ask(job)
                return ask
        return None

    @staticmethod
    def _paced(asks: Sequence[tuple[_Side, Ask]], job: Job, count: int) -> None:
        before = [side.used() for side, _ in asks]
        due = time.perf_counter()
        for _ in range(count):
            for side, ask in asks:
                with _guarded(side.result):
                    ask(job)
            due += PACE_SECONDS
            time.sleep(max(due - time.perf_counter(), 0))
        for (side, _), used in zip(asks, before, strict=True):
            side.paced[job] = (side.used() - used) / count

    def _conclude(self, side: _Side, reference: _Side) -> None:
        """From what was collected to what is shown."""
        counted = self._accounts is not None
        side.result.first_ms = 1000 * median(side.firsts)
        for job in self._jobs:
            rounds, beside = side.rounds[job], reference.rounds[job]
            side.result.jobs[job] = JobResult(
                asks=len(side.times[job]),
                p50_ms=1000 * median(side.times[job]),
                p95_ms=1000 * quantile(side.times[job], 0.95),
                ratio=Ratio.of([rounds[number] / beside[number] for number in rounds]),
                to_node=side.passed[job][0],
                from_node=side.passed[job][1],
                tokens=median(side.sizes[job]),
                paced_node_ms=1000 * side.paced[job] if counted else None,
                node_ms=1000 * fmean(node for node, _ in side.busy[job]) if counted else None,
                client_ms=1000 * fmean(client for _, client in side.busy[job]) if counted else None,
            )


def _timed(ask: Ask, job: Job, texts: list[str] | None = None) -> float:
    began = time.perf_counter()
    text = ask(job)
    took = time.perf_counter() - began
    if texts is not None:
        texts.append(text)
    return took


@contextlib.contextmanager
def _guarded(result: PeerResult) -> Iterator[None]:
    """Whatever a peer raises ends its own part alone: each library has exceptions of its own."""
    try:
        yield
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        result.missing, result.broken = f"it broke down: {said}", True
