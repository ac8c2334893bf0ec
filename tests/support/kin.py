"""Processes that are each other's parents, in a shape that a test gives."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, TypeAlias

Shape: TypeAlias = list[Any]
"""A process: the shapes of its children."""

_SCRIPT = """\
import json, os, signal, sys, threading
def live(shape, out):
    found = [os.getpid()]
    for child in shape:
        back, there = os.pipe()
        if not os.fork():
            os.close(back)
            live(child, there)
        os.close(there)
        with os.fdopen(back) as lines:
            found.append(json.loads(lines.readline()))
    os.write(out, json.dumps(found).encode() + b"\\n")
    while True:
        signal.pause()
os.setpgid(0, 0)
live(json.loads(sys.argv[1]), 1)
"""


@contextlib.contextmanager
def kin(shape: Shape) -> Iterator[Any]:
    """PIDs in that shape: each process a list of its own PID and of its children's lists."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _SCRIPT, json.dumps(shape)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.communicate()


def in_order(pids: Any, depth: int = 0) -> list[tuple[int, int]]:
    """Each PID of what `kin` gives with its depth, in pre-order, siblings by PID."""
    found = [(pids[0], depth)]
    for child in sorted(pids[1:]):
        found += in_order(child, depth + 1)
    return found
