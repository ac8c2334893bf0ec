"""Inputs once more, without a fuzzer: python tests/fuzz/replay.py TARGET FILE...

With --coverage TARGET DIRECTORY it says, as JSON, how much of the code under test the inputs of a
directory and of the corpus reach.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

_TESTS: Final = Path(__file__).parent.parent
if __name__ == "__main__":
    sys.path[:0] = [str(_TESTS), str(_TESTS.parent)]


class Reached(NamedTuple):
    """Percent of lines and branches, of which modules, by how many inputs."""

    lines: float
    branches: float
    what: str
    inputs: int


def reached(target: str, directory: Path) -> Reached:
    """What the inputs in a directory, and those of the corpus, reach together."""
    from fuzz.process import environment

    command = [sys.executable, __file__, "--coverage", target, str(directory)]
    said = subprocess.run(
        command, env=environment(), capture_output=True, text=True, check=True
    ).stdout
    return Reached(*json.loads(said.splitlines()[-1]))


def _measure(target: str, directory: Path) -> Reached:
    from coverage import Coverage

    from fuzz.catalog import CORPUS

    measured = Coverage(data_file=None, branch=True, config_file=False, source_pkgs=["asys"])
    measured.start()
    module = importlib.import_module(f"fuzz.targets.{target}")
    inputs = [*sorted((CORPUS / target).iterdir())]
    inputs += sorted(directory.iterdir()) if directory.is_dir() else []
    for path in inputs:
        module.one(path.read_bytes())
    measured.stop()
    files = [importlib.import_module(name).__file__ or "" for name in module.COVERS]
    totals = [0, 0, 0, 0]
    for file in files:
        numbers = measured._analyze(file).numbers
        totals[0] += numbers.n_executed
        totals[1] += numbers.n_statements
        totals[2] += numbers.n_executed_branches
        totals[3] += numbers.n_branches
    what = module.COVERS[0] + (f" and {len(files) - 1} more" if len(files) > 1 else "")
    return Reached(
        100 * totals[0] / max(totals[1], 1),
        100 * totals[2] / max(totals[3], 1),
        what,
        len(inputs),
    )


def main() -> None:
    """Replays, or measures; what fails is raised."""
    what, *rest = sys.argv[1:]
    if what == "--coverage":
        print(json.dumps(_measure(rest[0], Path(rest[1]))))
        return
    module = importlib.import_module(f"fuzz.targets.{what}")
    for path in map(Path, rest):
        module.one(path.read_bytes())
        print(f"{path}: good")


if __name__ == "__main__":
    main()
