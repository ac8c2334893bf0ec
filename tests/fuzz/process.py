"""A process that fuzzes one target, and what it said."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fuzz.catalog import HERE

_ROOT: Final = HERE.parent.parent
_MEMORY: Final = Path("/dev/shm")  # noqa: S108  a directory of its own is made there


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended. `edges` and `features` are as libFuzzer counts them, in all of asys.

    `crash` is the file with the input that failed; None where all went well.
    """

    status: int
    executions: int
    edges: int
    features: int
    seconds: float
    crash: Path | None
    output: str


def environment() -> dict[str, str]:
    """Of a process that fuzzes: the same in every run, and nobody else measures coverage in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    return {
        **kept,
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(_ROOT)]),
    }


def fuzz(target: str, *options: str, crashes: Path, log: Path | None = None) -> Outcome:
    """Runs `python -m fuzz.run`; returns when it has ended. Output goes to `log` as it comes."""
    memory = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="asys-fuzz-", dir=memory) as scratch:
        path = log or Path(scratch, "out")
        command = [sys.executable, "-m", "fuzz.run", target, *options]
        command += ["--crashes", str(crashes), "--scratch", str(Path(scratch, "files"))]
        with path.open("wb") as output:
            status = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(),
                cwd=_ROOT,
                check=False,
            ).returncode
        said = path.read_text("utf-8", "replace")
    found = re.findall(r"Test unit written to (\S+)", said)
    done = re.findall(r"stat::number_of_executed_units: *([0-9]+)", said)
    state = re.findall(r"^#([0-9]+).* cov: ([0-9]+) ft: ([0-9]+)", said, re.MULTILINE)
    last = state[-1] if state else ("0", "0", "0")
    rate = re.findall(r"^Done [0-9]+ runs in ([0-9]+) second", said, re.MULTILINE)
    return Outcome(
        status,
        int(done[-1]) if done else int(last[0]),
        int(last[1]),
        int(last[2]),
        float(rate[-1]) if rate else 0.0,
        Path(found[-1]) if found else None,
        said,
    )
