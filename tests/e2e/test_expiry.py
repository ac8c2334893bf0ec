"""`expires=` and TTL: whoever has ended is closed by itself, and does not come back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from asys.protocol.keys import PrivateKey
from support.daemon import AGENT, CORE_AGENT, Daemon, running
from support.delegates import CORE, add, listing
from support.frames import DENIED, OK
from support.own_daemon import argv
from support.raw_agent import Ended, RawAgent

HELD = CORE | {0x60, 0x61, 0x62}
LINES = {AGENT: "root caps=core,security", CORE_AGENT: "other"}

DAY = 24 * 60 * 60
LAST_DAY = "2031-05-17"
END = 1_936_828_800
"""The first second behind it, as a Unix time."""

SHIFTED = """\
import time
def shifted(real=time.time_ns, path={path!r}):
    with open(path) as file:
        return real() + int(file.read())
time.time_ns = shifted
"""
"""Unix time in the daemon differs from the machine's by as many nanoseconds as a file says."""


class Shift:
    """The daemon's wall clock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.prelude = SHIFTED.format(path=str(path))
        self._write(0)

    def _write(self, nanoseconds: int) -> None:
        aside = self.path.with_suffix(".new")
        aside.write_text(str(nanoseconds))
        aside.rename(self.path)

    def to(self, unix: float) -> None:
        """It is that time now, and goes on from there."""
        self._write(round(unix * 1e9) - time.time_ns())


@pytest.fixture
def shift(tmp_path: Path) -> Shift:
    return Shift(tmp_path / "shift")


@pytest.fixture
def node(tmp_path: Path, shift: Shift) -> Iterator[Daemon]:
    with running(tmp_path, "--handshake-rate", "0", agents=LINES, prelude=shift.prelude) as daemon:
        yield daemon


def hello_time(agent: RawAgent) -> int:
    """The node's own time, in nanoseconds."""
    answer = agent.ask(bytes.fromhex("000100000000"))
    assert answer[-2:] == OK
    return int.from_bytes(answer[8:16], "big")


def turned_away(node: Daemon, key: PrivateKey) -> bool:
    """Whether an agent may not connect."""
    with node.connect(key) as agent:
        return not agent.alive()


def brief(
    node: Daemon, stack: ExitStack, parent: RawAgent, codes: frozenset[int]
) -> tuple[PrivateKey, RawAgent, int]:
    """An agent that ends within seconds, with a session that was open before; and its TTL.

    Where the machine was too busy for that, it gets longer.
    """
    ttl = 1
    while True:
        ttl *= 2
        key = PrivateKey.generate()
        assert add(parent, key.public, codes, ttl)[4:] == OK
        agent = stack.enter_context(node.connect(key))
        if agent.alive():
            return key, agent, ttl


# -- TTL


def test_a_ttl_ends_by_itself(node: Daemon) -> None:
    with ExitStack() as stack, node.connect() as root:
        key, agent, _ = brief(node, stack, root, frozenset(CORE))
        end = next(row.expires for row in listing(root) if row.key == key.public)
        assert agent.final() == []  # nobody asks anything meanwhile
        assert hello_time(root) >= end * 10**9
        assert key.public not in [row.key for row in listing(root)]
        assert turned_away(node, key)
        assert root.alive()


def test_what_ends_takes_its_subtree_along(node: Daemon) -> None:
    with ExitStack() as stack, node.connect() as root:
        key, child, _ = brief(node, stack, root, frozenset(HELD))
        below = PrivateKey.generate()
        added = add(child, below.public, CORE)
        if added[4:] == OK:
            with node.connect(below) as grandchild:
                grandchild.final()
            assert turned_away(node, below)
        assert child.final() == []
        assert [row for row in listing(root) if row.key in (key.public, below.public)] == []


def test_a_session_that_polls_is_not_answered_after_its_time(node: Daemon) -> None:
    with ExitStack() as stack, node.connect() as root:
        _, agent, _ = brief(node, stack, root, frozenset(CORE))
        end = listing(root)[-1].expires
        told = []
        try:
            while True:
                told.append(hello_time(agent))
        except Ended:
            pass
        assert told
        # One may have been let through just before the end, and have got its time behind it.
        assert len([one for one in told if one >= end * 10**9]) <= 1
        assert hello_time(root) >= end * 10**9


def test_the_earliest_time_along_the_chain_counts(node: Daemon) -> None:
    with node.connect() as root:
        before = hello_time(root) // 10**9
        child_key, other_key = PrivateKey.generate(), PrivateKey.generate()
        assert add(root, child_key.public, HELD, 1000)[4:] == OK
        after = hello_time(root) // 10**9
        with node.connect(child_key) as child:
            assert add(child, other_key.public, CORE, 5000)[4:] == OK
            (row,) = listing(child)
            assert before + 1000 <= row.expires <= after + 1000
            assert add(child, other_key.public, CORE, 0)[4:] == OK
            assert listing(child) == [row]
            assert add(child, other_key.public, CORE, 10)[4:] == OK
            assert listing(child)[0].expires < row.expires
        assert add(root, child_key.public, HELD, 0)[4:] == OK
        assert [one.expires == 0 for one in listing(root)] == [True, False]


# -- expires=


def test_a_day_that_has_passed(node: Daemon) -> None:
    with node.connect(CORE_AGENT) as agent:
        assert agent.alive()
        node.reload({**LINES, CORE_AGENT: "other expires=2001-09-09"})
        assert agent.final() == []
        assert turned_away(node, CORE_AGENT)
        node.reload({**LINES, CORE_AGENT: "other expires=2099-12-31"})
        assert not turned_away(node, CORE_AGENT)


def test_it_holds_to_the_end_of_that_day_in_utc(node: Daemon, shift: Shift) -> None:
    lines = {**LINES, CORE_AGENT: f"other expires={LAST_DAY}"}
    shift.to(END - DAY)
    node.reload(lines)
    with node.connect() as root, node.connect(CORE_AGENT) as agent:
        assert agent.alive()
        shift.to(END - 30)
        node.reload(lines)
        assert agent.alive()
        shift.to(END - 0.5)
        node.reload(lines)  # the clock was set; now the timer is as well
        assert agent.final() == []  # by itself, when the day is over
        assert hello_time(root) >= END * 10**9
        assert turned_away(node, CORE_AGENT)


def test_a_clock_that_was_set_is_noticed_at_the_next_request(node: Daemon, shift: Shift) -> None:
    node.reload({**LINES, CORE_AGENT: f"other expires={LAST_DAY}"})
    with node.connect(CORE_AGENT) as agent:
        assert agent.alive()
        shift.to(END + 1)
        assert not agent.alive()
        assert turned_away(node, CORE_AGENT)


def test_a_line_that_ends_takes_its_subtree_along(node: Daemon, shift: Shift) -> None:
    lines = {**LINES, AGENT: f"root caps=core,security expires={LAST_DAY}"}
    shift.to(END - 1000)
    node.reload(lines)
    key = PrivateKey.generate()
    with node.connect() as root:
        assert add(root, key.public)[4:] == OK
        assert listing(root)[0].expires == END  # the line's
        with node.connect(key) as child:
            assert child.alive()
            shift.to(END - 0.5)
            node.reload(lines)
            assert child.final() == []
            assert root.final() == []
    node.reload(LINES)  # for good: the line comes back, and nobody with it
    assert turned_away(node, key)
    with node.connect() as root:
        assert listing(root) == []


def test_who_has_ended_has_ended_after_a_restart_too(tmp_path: Path, shift: Shift) -> None:
    lines = dict(LINES)
    key = PrivateKey.generate()
    with running(tmp_path, agents=lines, prelude=shift.prelude) as daemon, daemon.connect() as root:
        assert add(root, key.public, CORE, 3600)[4:] == OK
    shift.to(time.time() + 4000)
    again = Daemon(daemon.config_dir, argv(daemon.config_dir, prelude=shift.prelude), read_log=True)
    try:
        again.await_ready()
        assert turned_away(again, key)
        with again.connect() as root:
            assert listing(root) == []
        again.stop()
    finally:
        again.kill()


def test_denied_is_the_answer_to_who_has_ended(node: Daemon) -> None:
    node.reload({**LINES, CORE_AGENT: "other expires=2001-09-09"})
    with node.connect(CORE_AGENT) as agent:
        assert agent.final() == [DENIED]
