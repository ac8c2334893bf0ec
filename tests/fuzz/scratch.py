"""A directory for the files of targets, of this process alone."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

_given: list[Path] = []


def use(path: Path) -> None:
    """Has the files there: libFuzzer ends a process so that nothing of Python's own end runs."""
    _given[:] = [path.resolve()]


def directory() -> Path:
    """The directory; one that goes with the process where none was given."""
    if not _given:
        made = tempfile.mkdtemp(prefix="asys-fuzz-")
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        use(Path(made))
    return _given[0]


def file(name: str, data: bytes) -> Path:
    """A file in it with that content, for its owner alone; it replaces one of that name."""
    path = directory() / name
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    path.chmod(0o600)
    return path
