"""asyd as one file, built as `make binary` builds it, from a copy of the sources."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from asys.node.disk.files import locked

ROOT: Final = Path(__file__).resolve().parents[2]

SOURCES: Final = ("Makefile", "pyproject.toml", "README.md", "LICENSE", "src", "packaging")
"""Of what it is built."""

NAME: Final = "asyd-x86_64"

_NEEDED: Final = (
    "/usr/bin/python3.11",
    "/usr/lib/python3.11/config-3.11-x86_64-linux-gnu/libpython3.11-pic.a",
    "/usr/lib/x86_64-linux-gnu/libz.a",
    "/usr/lib/x86_64-linux-gnu/libexpat.a",
    "/usr/bin/gcc",
)


def one_file_missing() -> str:
    """What this machine lacks to build it, or ''."""
    lacking = [one for one in _NEEDED if not os.path.exists(one)]
    return f"needs {', '.join(lacking)}; see .ci/run for the packages" if lacking else ""


def build(directory: Path, target: str = "sbom", umask: int = 0o022, **environment: str) -> Path:
    """Copies the sources to `directory` and makes the target there; the directory `dist`."""
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, directory / name, ignore=ignored)
        else:
            shutil.copy(source, directory / name)
    (directory / ".venv").symlink_to(ROOT / ".venv")
    done = subprocess.run(
        # What is installed stays as it is, however old it looks beside the copy.
        ["make", "-o", ".venv/.ready", target],
        cwd=directory,
        env=os.environ | {"SOURCE_DATE_EPOCH": "1700000000"} | environment,
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return directory / "dist"


def built_once(factory: pytest.TempPathFactory) -> Path:
    """The directory `dist`, built by whichever process of a test run comes first."""
    common = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        common = common.parent
    with locked(common):
        directory = common / "one-file"
        if not (directory / "done").exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            build(directory)
            (directory / "done").touch()
    return directory / "dist"
