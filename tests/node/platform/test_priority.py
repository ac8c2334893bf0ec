"""The nice value of a process that raises itself, or may not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from support.users import NOBODY

PROGRAM = (
    "import os; from asys.node.platform import priority; {}; "
    "print(os.getpriority(os.PRIO_PROCESS, 0))"
)


def said(work: str, *, nice: int = 0) -> list[str]:
    """What a process prints that was started with a nice value, and its own at the end."""
    more = nice - os.getpriority(os.PRIO_PROCESS, 0)
    done = subprocess.run(
        ["nice", "-n", str(more), sys.executable, "-c", PROGRAM.format(work)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split("\n")[:-1]


@pytest.mark.root
@pytest.mark.parametrize(
    ("started", "wanted", "has"),
    [(0, -10, -10), (0, 0, 0), (-15, -10, -15), (5, 0, 0), (3, -1, -1)],
)
def test_it_is_raised_and_never_lowered(started: int, wanted: int, has: int) -> None:
    work = f"print(repr(priority.raise_priority({wanted})))"
    assert said(work, nice=started) == ["''", str(has)]


@pytest.mark.root
def test_who_may_not_says_so() -> None:
    lack, has = said(f"os.setuid({NOBODY}); print(priority.raise_priority(-10))")
    assert lack == "it has no more of a busy CPU than others: Permission denied"
    assert has == "0"


@pytest.mark.root
@pytest.mark.parametrize(("started", "has"), [(-10, 0), (0, 0), (7, 7)])
def test_it_is_lowered_to_what_programs_have(started: int, has: int) -> None:
    assert said("priority.lower_priority()", nice=started) == [str(has)]
