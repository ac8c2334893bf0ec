"""CPU time is counted whoever used it, however short its life was, and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.peers.accounts import accounts, unavailable

from asys.node.platform.processes import cgroups
from support.nobody import as_nobody

BURN = "import time\nwhile time.process_time() < 0.3: pass"
ORPHAN = f"import os\nif os.fork() == 0:\n    {BURN.replace(chr(10), chr(10) + '    ')}"
CHECKOUT = Path(__file__).resolve().parents[3]

linux = pytest.mark.skipif(sys.platform != "linux", reason="cgroups are Linux's")


def home() -> str:
    unified = cgroups.mounted().unified
    assert unified is not None
    return unified.of(os.getpid())


@linux
@pytest.mark.root
def test_what_an_orphan_used_is_counted_where_it_ran() -> None:
    before = home()
    with accounts() as books:
        node, other = books.open("node"), books.open("other")
        directory = Path(home()).parent
        assert directory.parent == Path(before)
        # Its output ends when the orphan has ended, and not when its parent has.
        subprocess.run(
            [*node.launcher, sys.executable, "-c", ORPHAN], check=True, capture_output=True
        )
        assert node.seconds() >= 0.3
        assert other.seconds() == 0
        client = books.client.seconds()
        subprocess.run([sys.executable, "-c", BURN], check=True)
        assert books.client.seconds() - client >= 0.3
    assert home() == before
    assert not directory.exists()


@linux
@pytest.mark.root
def test_what_still_runs_ends_with_it() -> None:
    with accounts() as books:
        process = subprocess.Popen([*books.open("node").launcher, "sleep", "3600"])
    assert process.wait(60) == -9


@linux
@pytest.mark.root
def test_who_may_not_make_cgroups_is_told_how_to(tmp_path: Path) -> None:
    assert unavailable() == ""
    program = "from benchmarks.peers.accounts import unavailable; print(unavailable())"
    said = subprocess.run(
        [*as_nobody(), sys.executable, "-c", program],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.startswith("CPU is not counted: ")
    assert "Delegate=yes" in said
