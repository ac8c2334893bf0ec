"""What the SDK does by itself on a connection, without I/O: it asks what nobody has asked for, and
takes from every answer what it goes by itself.

Time is an argument, in seconds of any clock that only goes forward.
"""

from __future__ import annotations

from typing import Final

from asys.client.lit import Lit
from asys.client.next_key import KeyRecord
from asys.client.pending import FOREVER, Pending
from asys.client.pipeline import Pipeline
from asys.client.tasks import Handles
from asys.errors import NoSuchInstruction
from asys.isa import KEY_STATEMENT, REKEY, SYS_CAPS, Capabilities, StatedKey, TaskHandle, TaskState
from asys.protocol.apdu import encode_plain
from asys.protocol.link import AgentLink
from asys.protocol.status import SW

REKEY_SECONDS: Final = 60.0
"""How long a node may leave a REKEY unanswered that nobody asked for but the SDK."""

LOOK_SECONDS: Final = 3600.0
"""How often a connection asks whether the node has a next key; each asks when it is made."""

_PAGES: Final = (1, 2, 3, 0)
"""The pages of SYS_CAPS in the order in which they are asked for: 1 tells a node's kind first."""

_TELLING: Final = (Capabilities, TaskHandle, TaskState, StatedKey)
"""Replies from which the SDK itself learns."""


class Upkeep:
    """The requests of one connection that nobody has made but the SDK, and what it learns.

    The first are all pages of SYS_CAPS (docs/protocol.md, section 4.4). An answer to page 0 that
    shows KEY_STATEMENT is followed by the question for the node's next key, once a connection
    (section 8.4). REKEY goes in front of a call when the keys are due (section 7.6).
    """

    __slots__ = (
        "_handles",
        "_link",
        "_lit",
        "_look_at",
        "_node_keys",
        "_pipeline",
        "_rekey",
        "_statement",
        "opening",
    )

    def __init__(
        self,
        link: AgentLink,
        lit: Lit,
        node_keys: KeyRecord,
        handles: Handles,
        pipeline: Pipeline,
    ) -> None:
        self.opening: Final = _page(0)
        """The last page of the greeting; answered once the node's statement is there too."""
        self._link = link
        self._lit = lit
        self._node_keys = node_keys
        self._handles = handles
        self._pipeline = pipeline
        self._rekey: Pending | None = None  # the REKEY that is due, until it is over
        self._statement: Pending | None = None  # the question for the next key, likewise
        self._look_at = FOREVER

    def greeting(self, now: float) -> list[Pending]:
        """All pages, to ask who this agent is to the node: in one write, so in one round trip."""
        self._look_at = now + LOOK_SECONDS
        return [*capability_pages()[:-1], self.opening]

    def look(self, now: float) -> None:
        """On a connection that lives long: the node may have a next key by now."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        if self._lit.caps is not None and self._node_keys.wanted(self._link):
            self._ask(_page(0), now)

    def rekey(self, now: float) -> None:
        """The keys are due: REKEY goes before the next request, where the node has it."""
        if self._rekey is None and self._lit.has(REKEY.code):
            self._rekey = Pending(REKEY, encode_plain(REKEY.code), 0)
            self._rekey.deadline = now + REKEY_SECONDS
            self._leave(self._rekey)

    def withdrawn(self, pending: Pending) -> None:
        """A request will not leave any more: REKEY is due anew with the next call."""
        if pending is self._rekey:
            self._rekey = None

    def answered(self, pending: Pending, now: float) -> bool:
        """Takes note of any answer, and asks what follows from it. False: it must not be settled
        yet, as it is that of `opening`, and the node's statement is still to come. BadKeyStatement.
        """
        if pending.error is not None or isinstance(pending.result, _TELLING):
            self._learn(pending, now)
            if pending.instruction is SYS_CAPS and not pending.parts[0]:
                self._ask_for_next_key(pending, now)
        if pending is self._rekey:
            self._rekey = None
        elif pending is self._statement:
            self._statement = None
            if not self.opening.answered:
                self.opening.settle()
        return pending is not self.opening or self._statement is None

    def _learn(self, pending: Pending, now: float) -> None:
        """What became of tasks, the capability map, the node's next key. BadKeyStatement."""
        if pending.sw == SW.ALREADY_RECEIVED:
            return  # it repeats an answer, whose time was then
        reply, (p1, _, payload) = pending.result, pending.parts
        if pending.error is not None:
            self._lit.refused(pending.instruction, pending.error.sw)
        elif isinstance(reply, Capabilities):
            self._lit.learn(p1, reply)
        elif isinstance(reply, TaskHandle):
            self._handles.given(reply.handle, now)
        elif isinstance(reply, TaskState):
            self._handles.said(int.from_bytes(payload[:4], "big"), reply)
        elif isinstance(reply, StatedKey) and pending is self._statement:
            self._node_keys.stated(reply, self._link.node_key)

    def _ask_for_next_key(self, page: Pending, now: float) -> None:
        """Asks for the node's statement where it has one, by an answer to SYS_CAPS, page 0; also
        where SYS_CAPS is not granted, so that nothing is known.
        """
        known = page.error is None and self._lit.has(KEY_STATEMENT.code)
        blind = page is self.opening and isinstance(page.error, NoSuchInstruction)
        if (known or blind) and self._node_keys.wanted(self._link):
            self._node_keys.asked = True
            self._statement = Pending(KEY_STATEMENT, encode_plain(KEY_STATEMENT.code), 0)
            self._ask(self._statement, now)

    def _ask(self, pending: Pending, now: float) -> None:
        pending.started = now
        self._leave(pending)

    def _leave(self, pending: Pending) -> None:
        """Lets a request leave that is no call, so that it makes nothing due."""
        pending.unasked = True
        self._pipeline.append(pending)


def capability_pages() -> list[Pending]:
    """Requests for all pages of the capability map, in the order in which they are to leave."""
    return [_page(number) for number in _PAGES]


def _page(number: int) -> Pending:
    pending = Pending(SYS_CAPS, encode_plain(SYS_CAPS.code, number), 0)
    pending.parts = (number, 0, b"")
    return pending
