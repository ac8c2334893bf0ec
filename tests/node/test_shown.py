"""What a session remembers of the processes that it has shown."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from asys.node.platform.base import TableSnapshot
from asys.node.shown import SHOWN_PIDS, START_BITS, Shown


def test_the_latest_pids_are_remembered() -> None:
    shown = Shown()
    for pid in range(1, 5 * SHOWN_PIDS):
        shown.add(TableSnapshot(1, (), {pid: pid * 100}))
    latest = range(4 * SHOWN_PIDS, 5 * SHOWN_PIDS)
    assert not any(shown.differs(pid, pid * 100) for pid in latest)
    assert all(shown.differs(pid, pid * 100 + 1) for pid in latest)
    assert not shown.differs(1, 7), "it is forgotten, so whoever has it is meant"


def test_a_pid_that_is_shown_again_is_the_latest() -> None:
    shown = Shown()
    shown.remember({500: 1})
    shown.remember({500: 7})
    assert shown.differs(500, 1)
    assert not shown.differs(500, 7)
    shown.remember(dict.fromkeys(range(1000, 1000 + SHOWN_PIDS - 1), 1))
    shown.remember({500: 8})  # in the second generation it is found first
    shown.remember(dict.fromkeys(range(5000, 5000 + SHOWN_PIDS - 1), 1))
    assert not shown.differs(500, 8)
    assert shown.differs(500, 7)


def test_what_it_takes_in_memory() -> None:
    shown = Shown()
    for pid in range(100_000):
        shown.remember({pid: 1 << 30})
    assert sum(sys.getsizeof(one) for one in (shown._now, shown._before)) < 20_000


@given(
    st.lists(
        st.dictionaries(st.integers(1, 1 << 22), st.integers(0, (1 << START_BITS) - 1), max_size=9),
        max_size=30,
    )
)
def test_as_a_dictionary_would(tables: list[dict[int, int]]) -> None:
    shown, expected = Shown(), dict[int, int]()
    for table in tables:
        shown.add(TableSnapshot(len(table), (), table))
        expected |= table
        assert shown.last is not None
        assert shown.last.starts is table
    for pid, start in expected.items():
        assert not shown.differs(pid, start)
        assert shown.differs(pid, start ^ 1)
