"""Agents come, go, expire and are edited in any order: nobody ever holds more than its chain.

The file is text that the node's own parser reads. What should hold is worked out from scratch by
`Model`, which shares no code with the directory: it keeps what was said, and takes the dead out at
once, where the directory does so when it is asked.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from asys.isa.capmap import describe
from asys.node.agents.book import AgentBook, parse_agents
from asys.node.agents.delegated_store import DelegatedStore
from asys.node.agents.directory import Directory, DirectoryRefusal
from asys.node.disk import state
from asys.protocol.status import SW

DAY = 86_400
START = 19_000 * DAY + 12_345
U32 = 0xFFFFFFFF


def key(number: int) -> bytes:
    return bytes([5, number]) * 16


ROOTS = [key(number) for number in range(4)]
OTHERS = [key(number) for number in range(10, 18)]
CROWD = [key(number) for number in range(100, 170)]
NODE = key(255)

ROOT_KEYS = st.sampled_from(ROOTS)
PEOPLE = st.sampled_from(ROOTS + OTHERS)
FULL = 0b1111 | 0b111 << 0x60
CAPS = st.sampled_from([FULL, FULL, FULL, FULL & ~1, FULL & ~2, 1 << 0x60])
OFTEN = st.sampled_from([True, True, True, False])
SECONDS = st.sampled_from([1, 5, DAY, DAY])


@dataclass(frozen=True)
class Line:
    """What a person has written about a key. `copies`: a key that stands twice is refused."""

    caps: int
    services: str = ""
    days: int = 0
    admin: bool = False
    copies: int = 1
    broken: bool = False

    def written(self, name: bytes) -> str:
        words = [name.hex(), f"caps={describe(self.caps) or 'FF'}"]
        if self.services:
            words.append(f"services={self.services}")
        if self.days:
            last = datetime.fromtimestamp((self.days - 1) * DAY, UTC)
            words.append(f"expires={last:%Y-%m-%d}")
        if self.admin:
            words.append("role=admin")
        if self.broken:
            words.append("colour=red")
        return (" ".join(words) + "\n") * self.copies

    @property
    def good(self) -> bool:
        return self.copies == 1 and not self.broken

    @property
    def map(self) -> int:
        return self.caps or 1 << 0xFF


@dataclass
class Entry:
    """What somebody has handed on."""

    parent: bytes
    caps: int
    label: str
    expires: int


@dataclass
class Model:
    """Who should hold what, from what was said alone."""

    lines: dict[bytes, Line] = field(default_factory=dict)
    entries: dict[bytes, Entry] = field(default_factory=dict)
    now: int = START
    untold: set[bytes] = field(default_factory=set)

    def line_holds(self, name: bytes) -> bool:
        line = self.lines.get(name)
        return line is not None and line.good and (not line.days or self.now < line.days * DAY)

    def chain(self, name: bytes) -> list[bytes] | None:
        """From a key up to its line; None when a link is missing or has ended."""
        links: list[bytes] = []
        while name not in self.lines:
            entry = self.entries.get(name)
            if entry is None or (entry.expires and self.now >= entry.expires) or len(links) > 9:
                return None
            links.append(name)
            name = entry.parent
        return [*links, name] if self.line_holds(name) else None

    def map_of(self, name: bytes) -> int:
        return self.lines[name].map if name in self.lines else self.entries[name].caps

    def end_of(self, name: bytes) -> int:
        if name in self.lines:
            return self.lines[name].days * DAY
        return self.entries[name].expires

    def effective(self, chain: list[bytes]) -> int:
        lit = -1
        for link in chain:
            lit &= self.map_of(link)
        return lit

    def below(self, name: bytes) -> list[bytes]:
        found = []
        for one in self.entries:
            chain = self.chain(one)
            if chain is not None and name in chain[1:]:
                found.append(one)
        return found

    def bury(self) -> set[bytes]:
        """Takes out who no longer holds, and says who that was."""
        dead = {one for one in self.entries if self.chain(one) is None}
        for one in dead:
            del self.entries[one]
        return dead

    def pass_time(self, seconds: int) -> None:
        self.now += seconds
        self.untold |= self.bury()

    def new_lines(self, lines: dict[bytes, Line]) -> set[bytes]:
        overridden = [one for one in self.entries if one in lines]
        gone = {*overridden, *(below for one in overridden for below in self.below(one))}
        for one in gone:
            del self.entries[one]
        self.lines = dict(lines)
        return gone | self.bury()

    def verdict(self, parent: bytes, child: bytes, caps: int, ttl: int) -> SW | None:
        """What AGENT_ADD answers; None for success."""
        chain = self.chain(parent)
        if chain is None:
            return SW.NO_SUCH_INSTRUCTION
        if child == NODE or (ttl and self.now + ttl > U32):
            return SW.INVALID_PAYLOAD
        if caps | self.effective(chain) != self.effective(chain):
            return SW.DENIED
        replaces = child in self.entries and self.entries[child].parent == parent
        if len(chain) > 4:
            return SW.BLOCKED
        if not replaces and len(self.below(chain[-1])) >= 64:
            return SW.BLOCKED
        if not replaces and (child in self.lines or child in self.entries):
            return SW.INVALID_PAYLOAD
        return None


def free() -> None:
    """A rate that is not used up."""


def put(path: Path, data: bytes, mode: int) -> None:
    path.write_bytes(data)
    path.chmod(mode)


class Agents(RuleBasedStateMachine):
    """The directory and the model side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.file: dict[bytes, Line] = {}
        self.place = Path(tempfile.mkdtemp(prefix="asys-directory-"))
        self.store = DelegatedStore(self.place)
        self.directory = Directory(AgentBook(), node_key=NODE)

    def teardown(self) -> None:
        shutil.rmtree(self.place)

    def book(self) -> AgentBook:
        text = "".join(line.written(name) for name, line in self.file.items())
        book = parse_agents(text)
        assert book.agents.keys() == {name for name, line in self.file.items() if line.good}
        return book

    @initialize(data=st.data())
    def a_file_and_a_forest(self, data: st.DataObject) -> None:
        self.file = {ROOTS[1]: Line(FULL, admin=True)}
        self.plant(data, ROOTS[0], ends=False)

    @rule(data=st.data(), root=ROOT_KEYS, ends=st.booleans())
    def plant(self, data: st.DataObject, root: bytes, ends: bool) -> None:
        """A good line again, and some below it: more is lost than found otherwise."""
        tomorrow = self.model.now // DAY + 1
        self.edit(root, Line(FULL, days=tomorrow if ends else 0), at_once=True)
        parents = [root]
        for child in data.draw(st.permutations(OTHERS))[:5]:
            self.try_to_add(data.draw(st.sampled_from(parents)), child, data.draw(CAPS), 0)
            parents = [*parents[-1:], child]

    # Edits of the file: nothing changes before a SIGHUP, which mostly comes at once

    def edit(self, name: bytes, line: Line | None, at_once: bool) -> None:
        self.file.pop(name, None)
        if line is not None:
            self.file[name] = line
        if at_once:
            self.sighup()

    @rule(
        name=PEOPLE,
        caps=CAPS,
        days=st.sampled_from([0, 0, 19_001, 19_003, 19_000]),
        at_once=OFTEN,
    )
    def write_a_line(self, name: bytes, caps: int, days: int, at_once: bool) -> None:
        self.edit(name, Line(caps, days=days), at_once)

    @precondition(lambda self: self.file)
    @rule(
        data=st.data(),
        change=st.one_of(
            st.fixed_dictionaries({"caps": CAPS}),
            st.fixed_dictionaries({"caps": CAPS}),
            st.fixed_dictionaries({"days": st.just(19_001)}),
            st.fixed_dictionaries({"days": st.sampled_from([0, 19_002, 19_005])}),
            st.fixed_dictionaries({"services": st.sampled_from(["", "web-*", "db"])}),
            st.fixed_dictionaries({"admin": st.booleans()}),
            st.fixed_dictionaries({"copies": st.sampled_from([1, 2])}),
            st.fixed_dictionaries({"broken": st.booleans()}),
        ),
        at_once=OFTEN,
    )
    def change_a_line(self, data: st.DataObject, change: dict[str, Any], at_once: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.file)))
        self.edit(name, replace(self.file[name], **change), at_once)

    @precondition(lambda self: any(line.days for line in self.file.values()))
    @rule(data=st.data())
    def extend_a_line_at_or_after_its_end(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([one for one, line in self.file.items() if line.days]))
        self.model.pass_time(max(0, self.file[name].days * DAY - self.model.now))
        self.edit(name, replace(self.file[name], days=0), at_once=True)

    @precondition(lambda self: len(self.file) > 1)
    @rule(data=st.data(), at_once=OFTEN)
    def strike_a_line(self, data: st.DataObject, at_once: bool) -> None:
        self.edit(data.draw(st.sampled_from(sorted(self.file))), None, at_once)

    @rule()
    def sighup(self) -> None:
        went = self.directory.replace_book(self.book(), self.model.now)
        expected = self.model.new_lines(self.file) | self.model.untold
        assert set(went) == expected
        self.model.untold.clear()

    # What agents do

    @rule(
        parent=PEOPLE,
        child=st.sampled_from([*OTHERS, *OTHERS, *ROOTS, NODE]),
        caps=CAPS,
        ttl=st.sampled_from([0, 0, 1, 30, DAY, U32]),
    )
    def add(self, parent: bytes, child: bytes, caps: int, ttl: int) -> None:
        self.try_to_add(parent, child, caps, ttl)

    @precondition(lambda self: self.model.entries)
    @rule(data=st.data(), child=st.sampled_from(OTHERS), ttl=st.sampled_from([0, 0, 5, DAY]))
    def add_deeper(self, data: st.DataObject, child: bytes, ttl: int) -> None:
        there = sorted(self.model.entries, key=lambda one: len(self.model.chain(one) or ()))
        parent = data.draw(st.sampled_from([*there, *there[-1:] * len(there)]))
        chain = self.model.chain(parent)
        assert chain is not None
        self.try_to_add(parent, child, self.model.effective(chain), ttl)

    @precondition(lambda self: self.directory.delegates)
    @rule(data=st.data(), caps=CAPS, ttl=st.sampled_from([0, 5, DAY]))
    def add_again(self, data: st.DataObject, caps: int, ttl: int) -> None:
        """Also those that have ended, of whom the directory may not have noticed."""
        before = data.draw(st.sampled_from(self.directory.delegates))
        self.try_to_add(before.parent, before.key, caps, ttl)

    @precondition(lambda self: any(one.expires for one in self.model.entries.values()))
    @rule(data=st.data(), caps=CAPS)
    def add_again_at_the_end(self, data: st.DataObject, caps: int) -> None:
        """Before anybody has looked: what was below does not come back."""
        ending = sorted(name for name, one in self.model.entries.items() if one.expires)
        child = data.draw(st.sampled_from(ending))
        before = self.model.entries[child]
        self.model.pass_time(before.expires - self.model.now)
        self.try_to_add(before.parent, child, caps, 0)

    @rule(parent=PEOPLE, many=st.sampled_from([2, 70]), ttl=st.sampled_from([0, DAY]))
    def add_a_crowd(self, parent: bytes, many: int, ttl: int) -> None:
        for child in CROWD[:many]:
            self.try_to_add(parent, child, 0, ttl)

    def try_to_add(self, parent: bytes, child: bytes, caps: int, ttl: int) -> None:
        now, label = self.model.now, "x" * (ttl % 3)
        expected = self.model.verdict(parent, child, caps, ttl)
        answer = None
        try:
            self.directory.add(parent, child, caps, ttl, label, now, charge=free)
        except DirectoryRefusal as refusal:
            answer = refusal.sw
        assert answer == expected
        if expected is None:
            self.model.entries[child] = Entry(parent, caps, label, now + ttl if ttl else 0)

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        there = sorted(self.model.entries)
        victim = data.draw(st.sampled_from([*there, *there, *OTHERS, *ROOTS]))
        above = self.model.chain(victim) or []
        admins = [name for name, line in self.model.lines.items() if line.admin]
        caller = data.draw(st.sampled_from([*above, *above, *admins, *admins, *ROOTS, *OTHERS]))
        model = self.model
        expected: SW | set[bytes]
        if model.chain(caller) is None:
            expected = SW.NO_SUCH_INSTRUCTION
        elif victim in model.lines:
            expected = SW.DENIED
        elif victim in model.below(caller) or (
            victim in model.entries and caller in model.lines and model.lines[caller].admin
        ):
            expected = {victim, *model.below(victim)}
        else:
            expected = SW.INVALID_PAYLOAD
        answer: SW | set[bytes]
        try:
            answer = set(self.directory.remove(caller, victim, model.now, charge=free))
        except DirectoryRefusal as refusal:
            answer = refusal.sw
        assert answer == expected
        if isinstance(expected, set):
            for one in expected:
                del model.entries[one]

    # Time and restarts

    @rule(seconds=SECONDS)
    def pass_time(self, seconds: int) -> None:
        self.model.pass_time(seconds)

    @rule()
    def prune(self) -> None:
        assert set(self.directory.prune(self.model.now)) == self.model.untold
        self.model.untold.clear()
        assert [one.key for one in self.directory.delegates] == list(self.model.entries)
        ends = [
            self.model.end_of(one)
            for one in (*self.model.entries, *self.model.lines)
            if one in self.model.entries or self.model.line_holds(one)
        ]
        expected = min((end for end in ends if end), default=0)
        assert self.directory.next_expiry(self.model.now) == expected
        assert expected == 0 or expected > self.model.now

    @rule()
    def crash(self) -> None:
        """What was saved last comes back, under the lines that were in force."""
        self.save()
        self.directory = Directory(self.directory.book, self.store.load(), node_key=NODE)
        left = {one.key for one in self.directory.delegates}
        self.model.untold = left - self.model.entries.keys()

    @rule(data=st.data(), override=OFTEN)
    def stop_edit_start(self, data: st.DataObject, override: bool) -> None:
        """Down in good order, and up again with whatever the file says by then."""
        parents = sorted({one.parent for one in self.model.entries.values()} - self.file.keys())
        if override and parents:
            self.edit(data.draw(st.sampled_from(parents)), Line(FULL), at_once=False)
        self.directory.prune(self.model.now)
        self.save()
        self.model.untold.clear()
        before = set(self.model.entries)
        self.directory = Directory(self.book(), self.store.load(), node_key=NODE)
        self.model.new_lines(self.file)
        left = {one.key for one in self.directory.delegates}
        assert left <= before
        self.model.untold = left - self.model.entries.keys()

    def save(self) -> None:
        """As the store does it, without the process that it takes."""

        async def write(path: Path, data: bytes, mode: int) -> None:
            put(path, data, mode)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(state, "replace", write)
            asyncio.run(self.store.save(self.directory.delegates))

    # What always holds

    @invariant()
    def whoever_ended_is_told_of(self) -> None:
        due = self.directory.next_expiry(self.model.now)
        assert (0 < due <= self.model.now) == bool(self.model.untold)

    @invariant()
    def nobody_holds_more_than_its_chain(self) -> None:
        now, model = self.model.now, self.model
        per_line = dict.fromkeys(model.lines, 0)
        for name in (*ROOTS, *OTHERS, *CROWD, NODE):
            chain = model.chain(name)
            holding = self.directory.holding(name, now)
            if chain is None:
                assert holding is None
                continue
            assert holding is not None
            assert holding.caps == model.effective(chain)
            assert all(holding.caps & ~model.map_of(link) == 0 for link in chain)
            assert holding.depth == len(chain) - 1 <= 4
            assert holding.parent == (chain[1] if len(chain) > 1 else b"")
            line = model.lines[chain[-1]]
            assert holding.root.key == chain[-1]
            assert holding.root.scope.services == ((line.services,) if line.services else None)
            assert holding.admin == (line.admin and len(chain) == 1)
            ends = [model.end_of(link) for link in chain if model.end_of(link)]
            assert holding.expires == min(ends, default=0)
            assert all(now < end and holding.expires <= end for end in ends)
            above = self.directory.holding(holding.parent, now)
            assert (above is None) == (holding.depth == 0)
            if above is not None:
                assert holding.caps & ~above.caps == 0
                assert not above.expires or 0 < holding.expires <= above.expires
                per_line[chain[-1]] += 1
        assert max(per_line.values(), default=0) <= 64

    @invariant()
    def everybody_sees_what_is_below(self) -> None:
        for name in (*ROOTS, *OTHERS):
            shown = [one.key for one in self.directory.listing(name, self.model.now)]
            line = self.model.lines.get(name)
            if self.model.chain(name) is None:
                assert shown == []
            elif line is not None and line.admin:
                lines = [one for one in self.model.lines if self.model.line_holds(one)]
                assert shown == [*lines, *self.model.entries]
            else:
                assert shown == self.model.below(name)


TestAgents = Agents.TestCase
TestAgents.settings = settings(max_examples=200, stateful_step_count=30)
