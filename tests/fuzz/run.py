"""Fuzzes one target, guided by coverage: python -m fuzz.run TARGET --runs N --seed S

Ends with 0 after so many executions, and with another status at the first input for which the
target raises, is too slow or takes too much memory; that input is then in the crashes directory.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from pathlib import Path
from typing import Final

import atheris

from fuzz import scratch
from fuzz.catalog import CORPUS, SCRATCH, TARGETS

MEMORY_MB: Final = 1024
"""What a process that fuzzes may take: so much no input is worth."""

ROOM: Final = 0
"""Bytes by which an input may get longer on the way to a planted bug."""

_FAR: Final = ("-use_value_profile=1",)
"""Every comparison that comes closer is something new."""

_NEAR: Final = ("-use_value_profile=0", "-mutate_depth=1", "-cross_over=0", "-reduce_inputs=0")
"""One step from a right input, so that few executions do."""

SECONDS: Final = 120
"""How long one input may take, on a machine that is busy."""


def main() -> None:
    """Runs as the command line says; ends the process."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.run", description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument(
        "--runs", type=int, default=10_000, help="executions (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="of the mutations (default: %(default)s)"
    )
    parser.add_argument(
        "--found", type=Path, help="a directory for inputs that reach something new"
    )
    parser.add_argument("--crashes", type=Path, default=Path(), help="a directory for what fails")
    parser.add_argument(
        "--planted", action="store_true", help="with a bug put into asys on purpose"
    )
    parser.add_argument("--unguided", action="store_true", help="and no coverage of that bug")
    parser.add_argument("--scratch", type=Path, default=SCRATCH, help="a directory for its files")
    options = parser.parse_args()

    options.scratch.mkdir(parents=True, exist_ok=True)
    scratch.use(options.scratch)
    target = TARGETS[options.target]
    include = ["asys"] if options.unguided else ["asys", "fuzz.planted"]
    with atheris.instrument_imports(include=include):
        module = importlib.import_module(target.module)
        planted = None
        if options.planted:
            planted = importlib.import_module(f"fuzz.planted.{options.target}")
    corpus = CORPUS / options.target
    longest = target.longest
    if planted is not None:
        corpus = scratch.directory() / "begin"
        corpus.mkdir(exist_ok=True)
        planted.plant()
        (corpus / "begin").write_bytes(planted.BEGIN)
        longest = len(planted.BEGIN) + ROOM
    # What is logged is put in words, as that may fail too, and then dropped.
    logging.basicConfig(handlers=[_Listener()], level=logging.DEBUG, force=True)

    found = options.found or scratch.directory() / "found"
    found.mkdir(parents=True, exist_ok=True)  # libFuzzer adds to the first directory
    options.crashes.mkdir(parents=True, exist_ok=True)
    flags = [
        f"-runs={options.runs}",
        f"-seed={options.seed}",
        f"-max_len={longest}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-timeout={SECONDS}",
        f"-artifact_prefix={options.crashes}/{options.target}-",
        *(_NEAR if options.planted else _FAR),
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *flags, str(found), str(corpus)], module.one)
    atheris.Fuzz()


class _Listener(logging.Handler):
    """Puts every event in words."""

    def emit(self, record: logging.LogRecord) -> None:
        record.getMessage()


if __name__ == "__main__":
    main()
