"""Writes the corpus anew from the targets' own seeds: PYTHONPATH=tests:. python -m fuzz.seeds

An input that a long run has found may be put beside them under another name; it stays.
"""

from __future__ import annotations

import hashlib
import importlib

from fuzz.catalog import CORPUS, TARGETS


def main() -> None:
    """Removes the seeds that are there, and writes those of today."""
    for name, target in TARGETS.items():
        directory = CORPUS / name
        directory.mkdir(parents=True, exist_ok=True)
        for old in directory.glob("seed-*"):
            old.unlink()
        for data in importlib.import_module(target.module).seeds():
            digest = hashlib.blake2b(data, digest_size=5).hexdigest()
            (directory / f"seed-{digest}").write_bytes(data)


if __name__ == "__main__":
    main()
