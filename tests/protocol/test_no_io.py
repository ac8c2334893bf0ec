"""The protocol and the instruction set reach no socket, no event loop, no clock and no thread."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import asys
from support import bare_python

ROOT = Path(asys.__file__).parent
FILES = sorted([*ROOT.joinpath("protocol").glob("*.py"), *ROOT.joinpath("isa").glob("*.py")])

FORBIDDEN = {
    "asyncio",
    "concurrent",
    "fcntl",
    "multiprocessing",
    "os",
    "pathlib",
    "sched",
    "select",
    "selectors",
    "signal",
    "socket",
    "socketserver",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "uvloop",
}
ABOVE = ("asys.node", "asys.client", "asys.cli")


def imported(source: str) -> set[str]:
    """Every module that the source imports, wherever in it that stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "__import__",
            "import_module",
            "importlib.import_module",
        ):
            found.add("importlib")
    return found


def forbidden(modules: set[str]) -> set[str]:
    """Those that have no place in the core."""
    return {
        module
        for module in modules
        if module.partition(".")[0] in FORBIDDEN
        or module == "importlib"
        or module.startswith(ABOVE)
    }


def test_there_are_files_to_look_at() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in FILES}
    assert {"protocol/link.py", "protocol/apdu.py", "isa/core.py", "isa/export.py"} <= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_file_imports_what_does_io(path: Path) -> None:
    assert forbidden(imported(path.read_text(encoding="utf-8"))) == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_file_asks_for_the_time(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("now", "utcnow", "today")


@pytest.mark.parametrize(
    "source",
    [
        "import socket",
        "import os.path",
        "from asyncio import sleep",
        "def f():\n    import time",
        "from asys.node import session",
        "from asys import client",
        "import importlib\nimportlib.import_module('socket')",
    ],
)
def test_the_check_finds_what_it_looks_for(source: str) -> None:
    assert forbidden(imported(source))


def test_importing_the_core_loads_no_io() -> None:
    """Also not by way of something else: the SDK's core starts where there is no event loop."""
    modules = [f"asys.{path.parent.name}.{path.stem}" for path in FILES if path.stem != "__init__"]
    code = "\n".join(
        [
            "import importlib, sys",
            f"for name in {modules!r}:",
            "    importlib.import_module(name)",
            "print(*sorted({name.partition('.')[0] for name in sys.modules}))",
        ]
    )
    loaded = set(bare_python.run(code).split())
    assert {"asys", "cryptography"} <= loaded
    assert loaded & {"asyncio", "socket", "_socket", "select", "selectors", "ssl", "_ssl"} == set()
    assert loaded & {"subprocess", "multiprocessing", "uvloop", "psutil", "dbus_fast"} == set()
