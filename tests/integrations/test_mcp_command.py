"""The command `asys-mcp`: what it needs, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import asys
from support import bare_python

MAIN = "import sys; from asys.integrations.mcp.command import main; sys.exit(main(sys.argv[1:]))"


def run(*arguments: str, prelude: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", prelude + MAIN, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("missing", ["mcp", "mcp.server.mcpserver"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    done = run("node", prelude=f"import sys; sys.modules[{missing!r}] = None;")
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'asys[mcp]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_needs_nothing() -> None:
    done = run("--help", prelude="import sys; sys.modules['mcp'] = None;")
    assert done.returncode == 0
    assert "--allow-changes" in done.stdout


def test_importing_the_package_loads_nothing_of_the_sdk() -> None:
    code = (
        "import sys, asys, asys.integrations.mcp, asys.integrations.mcp.command\n"
        "print([one for one in ('mcp', 'pydantic', 'starlette', 'anyio') if one in sys.modules])"
    )
    assert bare_python.run(code).strip() == "[]"


def test_no_key(tmp_path: Path) -> None:
    done = run("node", "--identity", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "make one with: asys keygen" in done.stderr


def test_a_node_named_twice(tmp_path: Path) -> None:
    asys.Identity.create(tmp_path / "agent")
    done = run("node", "NODE", "--identity", str(tmp_path / "agent"))
    assert done.returncode == 2
    assert "named twice" in done.stderr


def test_a_node_that_nobody_has_confirmed(tmp_path: Path) -> None:
    asys.Identity.create(tmp_path / "agent")
    known = tmp_path / "known_hosts"
    known.touch()
    done = run(
        *("unix:/nonexistent", "--identity", str(tmp_path / "agent")),
        *("--known-hosts", str(known)),
    )
    assert done.returncode == 3
    assert "asys-mcp: unix:/nonexistent: cannot reach" in done.stderr
