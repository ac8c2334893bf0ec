"""How a handler refuses: the answer is a status word, and the log learns why."""

from __future__ import annotations

from asys.protocol.status import SW


class Refused(Exception):
    """The answer is this status word. The reason is for the log alone."""

    def __init__(self, sw: SW, reason: str) -> None:
        super().__init__(reason)
        self.sw = sw
