"""What one node says, answered by its chains; owned by the node's thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from asys.audit.collector.incoming import NotTaken
from asys.audit.collector.store import ChainStore
from asys.audit.push import Ack, BadPush, Open, Put, Reason, Refused, Stands, parse_from_node
from asys.audit.segments import AUDIT, KINDS
from asys.node.logs import Throttled

_log = logging.getLogger("asys.collector")

NO_ANSWER: Final = b""


class Pushed:
    """The chains of a node. A connection of it begins with `connect`."""

    def __init__(self, directory: Path, now: Callable[[], float] = time.time) -> None:
        """`directory` is that of the node, named as it; `now` is Unix time in s."""
        self.label: Final = directory.name
        self._chains = {kind: ChainStore(directory, kind, self._say, now) for kind in KINDS}
        self._opened: set[str] = set()
        self._refused = False
        self._noticed = Throttled(_log)

    def connect(self) -> None:
        """A new connection: what was begun in the one before is void."""
        self._opened.clear()
        self._refused = False

    def close(self) -> None:
        """Lets the files go."""
        for chain in self._chains.values():
            try:
                chain.close()
            except OSError as error:
                _log.error("%s: %s", self.label, error)

    def answer(self, messages: Sequence[bytes]) -> list[bytes]:
        """An answer for each message; NO_ANSWER for a piece, and behind a refusal.

        What is acknowledged has been synced, once for all that came together.
        """
        answers = [NO_ANSWER] * len(messages)
        waiting: list[tuple[int, ChainStore, int, bytes]] = []
        for index, message in enumerate(messages):
            if self._refused:
                break
            kind = AUDIT
            try:
                said = parse_from_node(message)
                kind = said.kind
                chain = self._chains[kind]
                if isinstance(said, Open):
                    self._settle(waiting, answers)
                    answers[index] = self._open(chain, said)
                elif self._put(chain, said):
                    at = chain.standing
                    ack = Ack(kind, at.count, at.h).pack()
                    waiting.append((index, chain, chain.lost, ack))
            except (BadPush, NotTaken, OSError) as error:
                self._settle(waiting, answers)
                answers[index] = self._refuse(kind, error)
        self._settle(waiting, answers)
        return answers

    def _open(self, chain: ChainStore, said: Open) -> bytes:
        at = chain.open(anew=said.anew)
        self._opened.add(said.kind)
        return Stands(said.kind, at.segment, at.offset, at.count, at.h).pack()

    def _put(self, chain: ChainStore, said: Put) -> bool:
        if said.kind not in self._opened:
            raise NotTaken(Reason.MALFORMED, f"a PUT of the {said.kind} chain before its OPEN")
        return chain.put(said)

    def _settle(
        self, waiting: list[tuple[int, ChainStore, int, bytes]], answers: list[bytes]
    ) -> None:
        """Syncs what was put, and acknowledges what has not been taken back."""
        for chain in {id(chain): chain for _, chain, _, _ in waiting}.values():
            try:
                chain.sync()
            except OSError as error:
                first = next(index for index, one, _, _ in waiting if one is chain)
                answers[first] = self._refuse(chain.kind, error)
        for index, chain, lost, ack in waiting:
            if chain.lost == lost:
                answers[index] = ack
        waiting.clear()

    def _refuse(self, kind: str, error: BadPush | NotTaken | OSError) -> bytes:
        self._refused = True
        if isinstance(error, OSError):
            reason = Reason.DISK
            words = f"the disk does not take it: {error}"
        else:
            reason = error.reason if isinstance(error, NotTaken) else Reason.MALFORMED
            words = str(error)
        self._noticed.log(f"{self.label}: refused ({reason.name}):", words, time.monotonic())
        return Refused(kind, reason).pack()

    def _say(self, words: str) -> None:
        _log.warning("%s: %s", self.label, words)
