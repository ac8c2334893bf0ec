"""Rows of the dark path: does its time tell why an instruction does not exist for an agent?

A node of this process, real sessions of several agents with different maps, and no socket: the
bytes that a record would hold go into the session, the bytes of the answer come out of it, and the
clock runs between the two. So all is timed that asyd does between opening a record and sealing the
answer, by its own code.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, repeat
from random import SystemRandom
from typing import Any, Final

from asys.isa import REGISTRY
from asys.node.agents.book import parse_agents
from asys.node.audit.log import AuditLog
from asys.node.audit.ring import READING, Ring
from asys.node.clock import LoopClock
from asys.node.dispatch import Answer, Entry, dark
from asys.node.platform import choose_platform
from asys.node.server import Node
from asys.node.session import Session
from asys.protocol.apdu import Frame, encode_plain
from asys.protocol.channel import Channel
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import AEAD_TAG_SIZE, KEY_SIZE, MAX_RECORD, RECORD_PREFIX_SIZE
from asys.protocol.link import AgentLink
from asys.protocol.status import SW
from benchmarks.bench import Bench, Unavailable
from benchmarks.line import Target
from benchmarks.loop import undisturbed
from benchmarks.plan import BenchmarkError
from benchmarks.stats import Bootstrap, Interval, trimmed_mean
from benchmarks.table import Bound, Row, Side

LIMIT_NS: Final = 100
"""What the kinds may differ by."""

PLANTED_NS: Final = 200
"""A difference that has to be found."""

CONFIDENCE: Final = 0.99

EACH: Final = 7
"""How often a round asks for each kind in each session."""

AGENTS: Final = (
    "ops caps=core,PROC_THROTTLE,diagnostics,9A users=0 rate=PROC_THROTTLE:9/h",
    "deploy caps=core,ABANDON,SVC_RESTART,storage,95 services=web-* expires=2100-01-01",
    "lead caps=core,security,9B,C0 vendors=0x401 role=admin",
)
"""Each lacks what another has, each is granted codes that mean nothing."""

LATE_CODES: Final = range(0xA0, 0xA8)
"""Reserved codes, which no kind uses: the planted delay is behind these."""

TRIED_LOOPS: Final = 64
TRIED_ROUNDS: Final = 40
"""How it is found out how many loops take PLANTED_NS."""

RECORDS: Final = 1 << 19
"""Room for the records of a run: nobody writes them to a disk here."""

UNKNOWN: Final = "unknown"
AGAIN: Final = "unknown again"
LATE: Final = "unknown and late"

DATA: Final = bytes(range(16))
_DARK: Final = SW.NO_SUCH_INSTRUCTION.wire
_clock = time.perf_counter_ns
_random: Final = SystemRandom()


def _record(message: bytes) -> bytes:
    """A record of the right size around a message that is not sealed."""
    return bytes(RECORD_PREFIX_SIZE) + message + bytes(AEAD_TAG_SIZE)


class _Clear(Channel):
    """Opens what `_record` makes: what the cipher takes is not asked here."""

    __slots__ = ("_arrived",)

    def __init__(self) -> None:
        super().__init__(bytes(KEY_SIZE), bytes(KEY_SIZE))
        self._arrived: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """A message arrives."""
        self._arrived.append(data[RECORD_PREFIX_SIZE:-AEAD_TAG_SIZE])

    def open_alone(self, record: bytes) -> bytes:
        """The message in a record that came alone."""
        return record[RECORD_PREFIX_SIZE:-AEAD_TAG_SIZE]

    def receive(self, limit: int = MAX_RECORD) -> list[bytes]:
        """The messages that have arrived."""
        arrived, self._arrived = self._arrived, []
        return arrived

    def seal(self, messages: Iterable[bytes]) -> bytes:
        """The answers one after the other."""
        return b"".join(messages)

    @property
    def buffered(self) -> int:
        """Nothing is ever left over."""
        return 0


class _Wire(asyncio.Transport):
    """Keeps what a session writes."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 4711)})
        self.written: list[Any] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """An answer."""
        self.written.append(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer."""

    def write_eof(self) -> None:
        """The session has refused something: its last answer says so."""

    def abort(self) -> None:
        """There is nothing to cut."""


class _Agent:
    """An agent with an open session."""

    def __init__(self, node: Node, key: PrivateKey) -> None:
        self.session = Session(node)
        self.wire = _Wire()
        self.written = self.wire.written
        self.session.connection_made(self.wire)
        self.link = AgentLink(key)
        self._exchange()
        self.link.begin_handshake()
        self._exchange()
        self.session._channel = _Clear()

    def _exchange(self) -> None:
        self.session.data_received(self.link.data_to_send())
        self.link.receive_data(b"".join(self.written))
        self.written.clear()


@dataclass(frozen=True, slots=True)
class Shape:
    """A form in which a request for a code can arrive."""

    name: str
    frame: Callable[[AgentLink, int], bytes]


SHAPES: Final = (
    Shape("bare", lambda _link, code: encode_plain(code)),
    Shape("with data", lambda _link, code: encode_plain(code, 1, 2, DATA)),
    Shape("signed", lambda link, code: link.signer.sign(code, 1, 2, DATA)),
    Shape("encrypted", lambda link, code: link.signer.seal(code, 1, 2, DATA)),
)


class _Room:
    """A node and its agents. `kinds` has the codes, for each agent, that are dark for a reason."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        keys = [PrivateKey.generate() for _ in AGENTS]
        lines = [f"{key.public.hex()} {rest}\n" for key, rest in zip(keys, AGENTS, strict=True)]
        book = parse_agents("".join(lines))
        if book.faults:
            raise BenchmarkError(f"the agents are not understood: {book.faults}")
        clock = LoopClock(loop)
        self.node = Node(
            key=PrivateKey.generate(),
            book=book,
            platform=choose_platform(),
            clock=clock,
            audit=AuditLog(clock, Ring.create("dark", RECORDS), Ring.create("dark-reads", READING)),
        )
        self.agents = [_Agent(self.node, key) for key in keys]
        self.kinds = _kinds([book.agents[key.public].caps for key in keys])

    def plant(self) -> None:
        """Makes LATE_CODES late by PLANTED_NS, as it is measured here and now."""
        at_least = self._late_by(0)
        each = (self._late_by(TRIED_LOOPS) - at_least) / TRIED_LOOPS
        if each <= 0:
            raise BenchmarkError("the machine is too busy: a longer loop took less time")
        loops, late = 0, at_least
        for _ in range(3):  # few loops take less for each than many
            loops = max(loops + round((PLANTED_NS - late) / each), 0)
            late = self._late_by(loops)

    def _late_by(self, loops: int) -> float:
        """Puts an entry behind LATE_CODES that does `loops` loops more than `dark`; ns they take.

        Everything else of the sessions stays as it is.
        """
        late = _late(loops)
        for agent in self.agents:
            table = agent.session.grant.table.copy()
            for code in LATE_CODES:
                table[code] = late
            agent.session.grant = replace(agent.session.grant, table=table)
        means = self.measure(SHAPES[0], TRIED_ROUNDS, (UNKNOWN, LATE))
        return trimmed_mean(means[LATE]) - trimmed_mean(means[UNKNOWN])

    def measure(
        self, shape: Shape, rounds: int, names: Sequence[str] = ()
    ) -> dict[str, list[float]]:
        """The 10 %-trimmed mean of each kind in each round, in ns; a first round warms up."""
        names = names or list(self.kinds)
        means: dict[str, list[float]] = {name: [] for name in names}
        for number in range(rounds + 1):
            times = self._round(shape, names)
            if number:
                for name in names:
                    means[name].append(trimmed_mean(times[name]))
        return means

    def _round(self, shape: Shape, names: Sequence[str]) -> dict[str, list[int]]:
        """Times in ns: every kind in every session, EACH times, in random order."""
        order = [
            (name, number)
            for name in names
            for number in range(len(self.agents))
            for _ in range(EACH)
        ]
        _random.shuffle(order)
        times: dict[str, list[int]] = {name: [] for name in names}
        asked = []
        for name, number in order:
            agent = self.agents[number]
            frame = shape.frame(agent.link, _random.choice(self.kinds[name][number]))
            receive = agent.session.data_received
            asked.append((times[name], receive, agent.written, _record(frame)))
        for taken, receive, written, record in asked:
            began = _clock()
            receive(record)
            taken.append(_clock() - began)
            if written != [_DARK]:
                raise BenchmarkError(f"a dark instruction was answered with {written}")
            written.clear()
        return times


def _kinds(maps: Sequence[int]) -> dict[str, list[list[int]]]:
    """Codes that do not exist, by why, and then by the agent whose map it is."""
    declared = {instruction.code for instruction in REGISTRY}
    anybody = 0
    for caps in maps:
        anybody |= caps
    rest = [code for code in range(256) if code not in declared and code not in LATE_CODES]
    standard = [code for code in rest if code < 0x90]
    unknown = [[code for code in standard if not caps >> code & 1] for caps in maps]
    return {
        UNKNOWN: unknown,
        "ungranted": [
            [code for code in declared if not caps >> code & 1 and anybody >> code & 1]
            for caps in maps
        ],
        "granted in vain": [
            [code for code in rest if caps >> code & 1 and code < 0xC0] for caps in maps
        ],
        "reserved": [[code for code in rest if 0x90 <= code < 0xC0]] * len(maps),
        "vendor": [list(range(0xC1, 0x100))] * len(maps),
        AGAIN: unknown,
        LATE: [list(LATE_CODES)] * len(maps),
    }


def _late(loops: int) -> Entry:
    """Answers as `dark` does, after so many loops."""

    def late(session: Session, frame: Frame) -> Answer:
        for _ in repeat(None, loops):
            pass
        return dark(session, frame)

    return late


def one_path(bench: Bench, target: Target) -> Iterator[Row]:
    """What does not exist, for whatever reason, takes the same time; and that would be noticed."""
    if target is not bench.own:
        raise Unavailable("it is measured inside of the node")
    with asyncio.Runner() as runner:
        room = _Room(runner.get_loop())
        try:
            with undisturbed():
                room.plant()
            for shape in SHAPES:
                with undisturbed():
                    means = room.measure(shape, bench.plan.dark_rounds)
                yield from _rows(shape, means)
        finally:
            runner.run(room.node.close())


def _rows(shape: Shape, means: dict[str, list[float]]) -> Iterator[Row]:
    """The two kinds that are farthest apart, the control, and what was planted."""
    bootstrap = Bootstrap(len(means[UNKNOWN]))

    def apart(one: str, other: str) -> Interval:
        differences = [a - b for a, b in zip(means[one], means[other], strict=True)]
        return bootstrap.interval(differences, CONFIDENCE)

    kinds = [name for name in means if name not in (AGAIN, LATE)]
    pairs = {pair: apart(*pair).farthest for pair in combinations(kinds, 2)}
    worst = max(pairs, key=lambda pair: pairs[pair].high)
    within = Bound(LIMIT_NS, Side.ALL_BELOW, " ns")
    beyond = Bound(LIMIT_NS, Side.ALL_ABOVE, " ns")
    for name, (one, other), interval, bound in (
        (f"worst of {len(pairs)} pairs, {worst[0]}", worst, pairs[worst], within),
        ("A/A", (AGAIN, UNKNOWN), apart(AGAIN, UNKNOWN).farthest, within),
        (f"planted {PLANTED_NS} ns", (LATE, UNKNOWN), apart(LATE, UNKNOWN), beyond),
    ):
        yield Row(
            "dark",
            f"{shape.name}, {name}",
            "in process",
            trimmed_mean(means[one]),
            "ns",
            other,
            trimmed_mean(means[other]),
            interval=interval,
            bound=bound,
        )
