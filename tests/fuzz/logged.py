"""What code under test logs, judged: an exception that nobody foresaw is a defect."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _Judge(logging.Handler):
    """Keeps what must not be logged."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Puts it in words, as asyd would."""
        said = record.getMessage()
        if record.exc_info:
            self.faults.append(logging.Formatter().format(record))
        elif not said.isprintable():
            self.faults.append(f"not printable: {said!r}")


@contextmanager
def no_surprise(*names: str) -> Iterator[None]:
    """AssertionError at the end of the block when these loggers told of a traceback, or of peers'
    text as it came."""
    judge = _Judge()
    loggers = [logging.getLogger(name) for name in names]
    before = [(one.level, one.propagate) for one in loggers]
    for one in loggers:
        one.addHandler(judge)
        one.setLevel(logging.DEBUG)
        one.propagate = False
    try:
        yield
    finally:
        for one, (level, propagate) in zip(loggers, before, strict=True):
            one.removeHandler(judge)
            one.setLevel(level)
            one.propagate = propagate
    assert not judge.faults, "\n".join(judge.faults)
