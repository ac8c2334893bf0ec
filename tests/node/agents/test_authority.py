"""Who may do what over time: additions, removals, expiry, darkness, and what reaches the disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from asys.isa.capmap import ALL, CORE, parse_caps
from asys.node.agents.authority import LONGEST_WAIT, RETRY_SECONDS, Authority
from asys.node.agents.directory import Delegate
from asys.node.agents.grant import Charge, Grant
from asys.node.agents.rates import Bucket, RateLimit
from asys.node.refusal import Refused
from asys.protocol.keys import PrivateKey
from asys.protocol.status import SW
from support.clock import ManualClock
from support.node_rig import AGENT, NODE, OTHER, Rig, book

NOW = 1_700_000_000
"""Unix seconds at which a ManualClock begins."""

MIDNIGHT = 1_700_006_400
"""The end of 2023-11-14."""

ADD = 0x60
CHILD, GRANDCHILD = PrivateKey.generate().public, PrivateKey.generate().public
LINE = AGENT.public


class Disk:
    """A Store: each save waits for `free`, then fails with `error`, or is the last of `saved`.

    `once` is the error of the next save alone.
    """

    def __init__(self) -> None:
        self.saved: list[tuple[bytes, ...]] = []
        self.begun = 0
        self.error: Exception | None = None
        self.once: Exception | None = None
        self.free = asyncio.Event()
        self.free.set()

    async def save(self, delegates: tuple[Delegate, ...]) -> None:
        """As Store.save."""
        self.begun += 1
        await self.free.wait()
        once, self.once = self.once, None
        if error := once or self.error:
            raise error
        self.saved.append(tuple(one.key for one in delegates))


class Bench:
    """An Authority, what it works with, and what it has told."""

    def __init__(
        self, line: str = "agent caps=all,security", *stored: Delegate, others: str = "other"
    ) -> None:
        self.clock = ManualClock()
        self.disk = Disk()
        self.changes = 0
        self.bucket = Bucket(RateLimit(ADD, 100, 1))
        self.authority = Authority(
            book({AGENT: line, OTHER: others}),
            stored,
            self.clock,
            node_key=NODE.public,
            store=self.disk,
            changed=self._changed,
        )

    def _changed(self) -> None:
        self.changes += 1

    def charge(self) -> Charge:
        """For one use, from the bench's own bucket."""
        holding = self.authority.holding(LINE)
        assert holding is not None
        grant = Grant(holding, [], 0, holding.root.scope, {ADD: self.bucket})
        return grant.charge(ADD, self.clock.now())

    async def add(
        self, key: bytes = CHILD, caps: int = CORE, ttl: int = 0, parent: bytes = LINE
    ) -> None:
        """AGENT_ADD."""
        await self.authority.add(parent, key, caps, ttl, "child", self.charge())

    async def remove(self, key: bytes = CHILD, caller: bytes = LINE) -> None:
        """AGENT_REMOVE."""
        await self.authority.remove(caller, key, self.charge())

    def holds(self, key: bytes = CHILD) -> int | None:
        """The map in force of a key; None: it holds nothing."""
        holding = self.authority.holding(key)
        return None if holding is None else self.authority.caps(holding)


def delegate(key: bytes = CHILD, parent: bytes = LINE, expires: int = 0) -> Delegate:
    return Delegate(key, parent, ALL, "stored", expires)


async def turns() -> None:
    """Everything happens that waits for nothing but its turn."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.authority.close()
    assert not bench.clock.pending


# -- additions


async def test_an_addition_is_in_force_before_the_disk_and_answered_after(bench: Bench) -> None:
    bench.disk.free.clear()
    adding = asyncio.create_task(bench.add())
    await turns()
    assert bench.holds() == CORE
    assert bench.changes == 1
    assert not adding.done()
    bench.disk.free.set()
    await adding
    assert bench.disk.saved == [(CHILD,)]
    assert [one.key for one in bench.authority.listing(LINE)] == [CHILD]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), TimeoutError()])
async def test_what_does_not_reach_the_disk_has_not_happened(
    bench: Bench, error: Exception
) -> None:
    await bench.add(caps=parse_caps("core,20"))
    bench.disk.error = error
    for key, caps in ((GRANDCHILD, None), (CHILD, parse_caps("core,20"))):
        with pytest.raises(type(error)):
            await bench.add(key)
        assert bench.holds(key) == caps
    assert [one.key for one in bench.authority.listing(LINE)] == [CHILD]


async def test_what_a_slow_disk_may_still_take_is_overwritten(bench: Bench) -> None:
    bench.disk.error = TimeoutError()
    with pytest.raises(TimeoutError):
        await bench.add()
    bench.disk.error = None
    await turns()
    assert bench.disk.saved == [()]


async def test_what_else_has_changed_meanwhile_stays(bench: Bench) -> None:
    await bench.add()
    bench.disk.free.clear()
    adding = asyncio.create_task(bench.add(GRANDCHILD))
    await turns()
    removing = asyncio.create_task(bench.remove())
    await turns()
    assert bench.holds() is None  # in force already, while the disk is busy
    bench.disk.error = OSError(5, "Input/output error")
    bench.disk.free.set()
    for task in (adding, removing):
        with pytest.raises(OSError, match="Input/output"):
            await task
    assert bench.holds() is None
    assert bench.holds(GRANDCHILD) is None


async def test_an_addition_that_fails_does_not_take_the_next_one_with_it(bench: Bench) -> None:
    """Of the same agent: the second is said to be in, so it is."""
    bench.disk.free.clear()
    bench.disk.once = OSError(5, "Input/output error")
    first = asyncio.create_task(bench.add(caps=CORE))
    second = asyncio.create_task(bench.add(caps=parse_caps("core,20")))
    await turns()
    bench.disk.free.set()
    with pytest.raises(OSError, match="Input/output"):
        await first
    await second
    assert bench.holds() == parse_caps("core,20")
    assert bench.disk.saved == [(CHILD,)]


async def test_a_refusal_changes_nothing_and_costs_nothing(bench: Bench) -> None:
    bench.bucket = Bucket(RateLimit(ADD, 1, 3600))
    for key, caps, sw in (
        (NODE.public, CORE, SW.INVALID_PAYLOAD),
        (bytes(32), CORE, SW.INVALID_PAYLOAD),
        (CHILD, parse_caps("vendor"), SW.DENIED),
        (OTHER.public, CORE, SW.INVALID_PAYLOAD),
    ):
        with pytest.raises(Refused) as raised:
            await bench.add(key, caps)
        assert raised.value.sw is sw
        assert str(raised.value)
    assert (bench.changes, bench.disk.begun) == (0, 0)
    await bench.add()
    with pytest.raises(Refused) as raised:
        await bench.add(GRANDCHILD)
    assert raised.value.sw is SW.BLOCKED
    assert bench.holds(GRANDCHILD) is None


async def test_without_a_store_agents_last_as_long_as_the_daemon() -> None:
    rig = Rig({AGENT: "agent caps=all,security"})
    authority = rig.node.authority
    grant = rig.node.grant(LINE)
    assert grant is not None
    charge = grant.charge(ADD, rig.clock.now())
    await authority.add(LINE, CHILD, CORE, 60, "", charge)
    assert authority.holding(CHILD) is not None
    rig.advance(60)
    assert authority.holding(CHILD) is None
    await rig.close()


# -- removals


async def test_who_is_removed_is_out_before_the_disk_is_waited_for(bench: Bench) -> None:
    await bench.add(caps=parse_caps("core,security"))
    await bench.add(GRANDCHILD, parent=CHILD)
    bench.disk.free.clear()
    before = bench.changes
    removing = asyncio.create_task(bench.remove())
    await turns()
    assert bench.holds() is bench.holds(GRANDCHILD) is None
    assert bench.changes == before + 1
    assert not removing.done()
    bench.disk.free.set()
    await removing
    assert bench.disk.saved[-1] == ()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), TimeoutError()])
async def test_a_removal_is_tried_again_until_it_is_on_the_disk(
    bench: Bench, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.add()
    bench.disk.error = error
    with pytest.raises(type(error)):
        await bench.remove()
    assert bench.holds() is None
    assert "would be back after a restart" in caplog.text
    for _ in range(3):
        begun = bench.disk.begun
        bench.clock.advance(RETRY_SECONDS - 0.001)
        await turns()
        assert bench.disk.begun == begun
        bench.clock.advance(0.001)
        await turns()
        assert bench.disk.begun == begun + 1
    bench.disk.error = None
    bench.clock.advance(RETRY_SECONDS)
    await turns()
    assert bench.disk.saved[-1] == ()
    assert not bench.clock.pending


async def test_two_removals_that_fail_have_one_timer(bench: Bench) -> None:
    await bench.add()
    await bench.add(GRANDCHILD)
    bench.disk.error = OSError(5, "Input/output error")
    for key in (CHILD, GRANDCHILD):
        with pytest.raises(OSError, match="Input/output"):
            await bench.remove(key)
    assert len(bench.clock.pending) == 1


async def test_who_cannot_be_removed(bench: Bench) -> None:
    for key, sw in ((LINE, SW.DENIED), (OTHER.public, SW.DENIED), (CHILD, SW.INVALID_PAYLOAD)):
        with pytest.raises(Refused) as raised:
            await bench.remove(key)
        assert raised.value.sw is sw
    assert (bench.changes, bench.disk.begun) == (0, 0)


# -- another book


async def test_who_has_no_line_above_any_more_goes(bench: Bench) -> None:
    await bench.add()
    new = book({OTHER: "other"})
    bench.authority.replace_book(new)
    assert bench.authority.book is new
    assert bench.holds() is bench.holds(LINE) is None
    await turns()
    assert bench.disk.saved[-1] == ()
    bench.authority.replace_book(book({AGENT: "agent caps=all"}))
    assert bench.holds(LINE) == ALL
    assert bench.holds() is None


async def test_a_book_in_which_nobody_goes_is_not_saved(bench: Bench) -> None:
    await bench.add()
    bench.authority.replace_book(book({AGENT: "agent caps=20"}))
    await turns()
    assert bench.disk.begun == 1
    assert bench.holds() == 0  # nothing that both of them hold


# -- time


async def test_an_agent_ends_with_its_second(bench: Bench) -> None:
    await bench.add(ttl=90)
    await bench.add(GRANDCHILD, ttl=60)
    changes = bench.changes
    bench.clock.advance(59.999)
    assert (bench.holds(GRANDCHILD), bench.changes) == (CORE, changes)
    bench.clock.advance(0.001)
    assert (bench.holds(GRANDCHILD), bench.holds(), bench.changes) == (None, CORE, changes + 1)
    await turns()
    bench.clock.advance(30)
    await turns()
    assert bench.disk.saved[-2:] == [(CHILD,), ()]
    assert bench.changes == changes + 2


async def test_an_ending_that_is_not_on_the_disk_is_tried_again(bench: Bench) -> None:
    await bench.add(ttl=60)
    bench.disk.error = OSError(5, "Input/output error")
    bench.clock.advance(60)
    await turns()
    assert bench.holds() is None
    bench.disk.error = None
    bench.clock.advance(RETRY_SECONDS)
    await turns()
    assert bench.disk.saved[-1] == ()


async def test_a_line_ends_with_its_day() -> None:
    bench = Bench("agent caps=all expires=2023-11-14", delegate())
    await bench.add(GRANDCHILD)
    for _ in range(MIDNIGHT - NOW - 1):
        if not bench.clock.pending or bench.clock.pending[0].due >= 1000 + MIDNIGHT - NOW:
            break
        assert bench.clock.pending[0].due <= bench.clock.now() + LONGEST_WAIT
        bench.clock.run_next()
    assert bench.holds(LINE) == ALL
    assert bench.changes == 1  # of the addition: looking at the clock changes nothing
    bench.clock.run_next()
    assert [bench.holds(key) for key in (LINE, CHILD, GRANDCHILD)] == [None] * 3
    assert bench.holds(OTHER.public) == CORE
    await turns()
    assert bench.disk.saved[-1] == ()
    assert not bench.clock.pending
    await bench.authority.close()


async def test_where_nothing_expires_there_is_no_timer(bench: Bench) -> None:
    await bench.add()
    assert not bench.clock.pending


# -- the start


async def test_who_has_ended_while_nobody_was_there_is_not_kept() -> None:
    bench = Bench("agent caps=all", delegate(expires=NOW), delegate(GRANDCHILD))
    assert bench.holds() is None
    assert bench.holds(GRANDCHILD) == ALL
    await turns()
    assert bench.disk.saved[0] == (GRANDCHILD,)
    assert bench.changes == 0
    await bench.authority.close()


async def test_who_has_got_a_line_is_not_kept() -> None:
    bench = Bench("agent caps=all", delegate(OTHER.public))
    assert bench.holds(OTHER.public) == CORE
    await turns()
    assert bench.disk.saved == [()]
    await bench.authority.close()


async def test_a_store_that_says_what_holds_is_left_alone() -> None:
    bench = Bench("agent caps=all", delegate(), delegate(GRANDCHILD, CHILD, NOW + 10))
    await turns()
    assert bench.disk.begun == 0
    assert len(bench.clock.pending) == 1
    await bench.authority.close()


# -- darkness


async def test_dark_takes_all_but_core_from_everybody(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.add(caps=parse_caps("SYS_HELLO,20"))
    changes = bench.changes
    with caplog.at_level(logging.WARNING, "asyd.agents"):
        for _ in range(2):
            bench.authority.set_dark(True)
    assert bench.authority.dark
    assert (bench.holds(LINE), bench.holds()) == (CORE, parse_caps("SYS_HELLO"))
    assert bench.changes == changes + 1
    bench.authority.set_dark(False)
    assert bench.holds() == parse_caps("SYS_HELLO,20")
    assert [record.getMessage() for record in caplog.records] == [
        "every agent has fallen to core",
        "the maps are lit again",
    ]


# -- the end


async def test_the_end_waits_for_no_disk() -> None:
    bench = Bench("agent caps=all", delegate(expires=NOW))
    bench.disk.free.clear()
    await turns()
    assert bench.disk.begun == 1
    await bench.authority.close()
    assert bench.disk.saved == []
    assert not bench.clock.pending
