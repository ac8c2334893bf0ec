"""What the Makefile builds, from a copy of the sources: asyd as one file, the package of Debian."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

import asys
from asys.node.disk.files import locked

ROOT: Final = Path(__file__).resolve().parents[2]

SOURCES: Final = (
    *("Makefile", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "src", "packaging"),
)
"""Of what it is built."""

NAME: Final = "asyd-x86_64"
"""Of asyd as one file."""

PYTHON: Final = "/usr/bin/python3.11"

_ONE_FILE: Final = (
    PYTHON,
    "/usr/lib/python3.11/config-3.11-x86_64-linux-gnu/libpython3.11-pic.a",
    "/usr/lib/x86_64-linux-gnu/libz.a",
    "/usr/lib/x86_64-linux-gnu/libexpat.a",
    "/usr/bin/gcc",
)

_PACKAGE: Final = (PYTHON, "/usr/bin/dpkg-deb", "/usr/bin/readelf", "/usr/bin/strip")


def one_file_missing() -> str:
    """What this machine lacks to build asyd as one file, or ''."""
    return _missing(_ONE_FILE)


def package_missing() -> str:
    """What this machine lacks to build the package of Debian, or ''."""
    return _missing(_PACKAGE)


def _missing(needed: tuple[str, ...]) -> str:
    lacking = [one for one in needed if not os.path.exists(one)]
    return f"needs {', '.join(lacking)}; see .ci/run for the packages" if lacking else ""


def build(
    directory: Path,
    target: str = "sbom",
    umask: int = 0o022,
    version: str = "",
    **environment: str,
) -> Path:
    """Copies the sources to `directory`, as being of `version` if there is one, and makes the
    target there; the directory `dist`.
    """
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, directory / name, ignore=ignored)
        else:
            shutil.copy(source, directory / name)
    if version:
        says_it = directory / "src/asys/__init__.py"
        said = says_it.read_text()
        assert asys.__version__ in said
        says_it.write_text(said.replace(asys.__version__, version))
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


def built_once(
    factory: pytest.TempPathFactory, name: str, target: str = "sbom", version: str = ""
) -> Path:
    """The directory `dist`, built by whichever process of a test run comes first.

    What has another `name` is built apart.
    """
    common = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        common = common.parent
    (common / f"{name}-lock").mkdir(exist_ok=True)
    with locked(common / f"{name}-lock"):
        directory = common / name
        if not (directory / "done").exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            build(directory, target, version=version)
            (directory / "done").touch()
    return directory / "dist"
