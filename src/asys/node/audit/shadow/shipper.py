"""Pushes the audit to a collector. It is a process of its own beside the writer; both may hang.

shipper.py DOING READING CONTROL LEASH DIRECTORY HOST PORT COLLECTOR_KEY

The first four are descriptors; the node's key is read from LEASH, and asyd has ended when that is
at its end. It starts as a file and finds this very version of `asys`.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Works until asyd has ended."""
    if not __spec__:
        sys.path.insert(0, str(Path(__file__).resolve().parents[4]))
    from asys.node.audit.shadow.road import work
    from asys.node.audit.shadow.words import Destination

    doing, reading, control, leash = map(int, arguments[:4])
    work(Path(arguments[4]), Destination.of_words(arguments[5:]), doing, reading, control, leash)


if __name__ == "__main__":
    main(sys.argv[1:])
