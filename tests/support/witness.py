"""A well-behaved agent that goes on while others misbehave, and notices every wrong answer."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Final

from asys.protocol.limits import MAGIC
from support.daemon import Daemon
from support.frames import CAPS, HELLO, NO_SUCH_INSTRUCTION, OK, PROCS, STATUS, frame
from support.raw_agent import Ended, RawAgent

PAUSE: Final = 0.002
"""Seconds between two rounds, so that it does not take the CPU from those whom it watches."""


class Witness:
    """While its block lasts, a session in a thread of its own asks one thing after the other."""

    def __init__(self, daemon: Daemon) -> None:
        self._agent = daemon.connect()
        self._stop = threading.Event()
        self._failure = ""
        self._rounds = 0
        self._thread = threading.Thread(target=self._run, name="witness")

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._agent.close()
        if kind is None:
            assert not self._failure, self._failure
            assert self._rounds, "the witness was never answered"

    def _run(self) -> None:
        try:
            while not self._failure:
                self._failure = self._round(self._agent)
                self._rounds += 1
                if self._stop.wait(PAUSE):
                    return
        except (Ended, OSError) as error:
            self._failure = f"after {self._rounds} rounds: {error!r}"

    def _round(self, agent: RawAgent) -> str:
        """Some requests in one write; what is wrong with the answers."""
        agent.send(HELLO, CAPS, frame(0x04), STATUS, PROCS, agent.signed(0x01))
        hello, caps, none, status, procs, signed = (agent.answer() for _ in range(6))
        right = (
            (hello[:4], len(hello), hello[-2:]) == (MAGIC, 18, OK)
            and (len(caps), caps[-2:]) == (36, OK)
            and none == NO_SUCH_INSTRUCTION
            and (len(status), status[-2:]) == (23, OK)
            and (len(procs), procs[-2:]) == (44, OK)
            and (signed[:8], len(signed)) == (hello[:8], 18)
        )
        return (
            "" if right else f"wrong: {hello!r} {caps!r} {none!r} {status!r} {procs!r} {signed!r}"
        )
