"""A request on its way, and whoever waits for its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from asys.client.exchange import is_success
from asys.errors import AlreadyReceived, AsysError, StatusError, status_error
from asys.isa import AnyInstruction
from asys.protocol.codec import Layout
from asys.protocol.status import SW

FOREVER: Final = float("inf")
"""The deadline of what has none."""


class Waiter(Protocol):
    """Whoever waits for an answer; `asyncio.Future` is one."""

    def done(self) -> bool:
        """True when it no longer waits."""

    def set_result(self, result: Any, /) -> None:
        """Ends the waiting with a reply."""

    def set_exception(self, exception: BaseException, /) -> None:
        """Ends the waiting with an exception."""


class Pending:
    """A request on its way. It keeps its place in the pipeline also when nobody waits any more.

    Once `answered`, `result` or `error` is what the node said, whoever heard it, and `sw` its
    status word; `told` says whether somebody did. `parts` are P1, P2 and payload; `keys` counts the
    REKEYs before the keys with which a signed frame is made. `code`, `reply` and `more` are INS,
    the layout of the answer and M: not those of the instruction where this is a fragment of its
    payload. One that is `unasked` is no call, but the SDK's own, and no trace shows it.
    """

    __slots__ = (
        "abandoned",
        "answered",
        "code",
        "deadline",
        "error",
        "frame",
        "instruction",
        "keys",
        "more",
        "note",
        "original",
        "parts",
        "reply",
        "result",
        "seq",
        "started",
        "sw",
        "told",
        "unasked",
        "waiter",
    )

    def __init__(
        self, instruction: AnyInstruction, frame: bytes, seq: int, original: Pending | None = None
    ) -> None:
        """`seq` is 0 for a plain request; `original` the first sending of a frame sent again."""
        self.instruction = instruction
        self.code = instruction.code
        self.reply: type[Layout] = instruction.reply
        self.more = False
        self.frame = frame
        self.seq = seq
        self.original = original
        self.parts = (0, 0, b"")
        self.keys = 0
        self.started = 0.0
        self.deadline = FOREVER
        self.waiter: Waiter | None = None
        self.note: Callable[[Any], None] | None = None
        self.abandoned = False
        self.answered = False
        self.told = False
        self.unasked = False
        self.sw: int | None = None
        self.result: Layout | None = None
        self.error: StatusError | None = None

    @property
    def has_outcome(self) -> bool:
        """The node has said what became of it; 6985 says nothing of that."""
        return self.answered and not isinstance(self.error, AlreadyReceived)

    def answer(self, sw: int, payload: bytes) -> None:
        """Takes what the node said, and tells nobody yet. LayoutError: the payload is malformed."""
        self.sw = sw
        if is_success(sw):
            self.result = self.reply.unpack(payload)
        elif sw == SW.ALREADY_RECEIVED:
            self._repeat()
        else:
            self.error = status_error(sw, self.instruction.name, self.seq)

    def settle(self) -> None:
        """Tells the waiter what the node said; the original of a frame sent again learns it too."""
        self.answered = True
        if self.note is not None and self.error is None:
            self.note(self.result)
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            self.told = True
            if self.error is None:
                waiter.set_result(self.result)
            else:
                waiter.set_exception(self.error)
        original = self.original
        if original is not None:
            if not original.has_outcome:
                original.result, original.error = self.result, self.error
                original.answered = True
            original.told = original.told or self.told

    def give_up(self, error: AsysError) -> None:
        """Tells the waiter that there is no answer."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(error)

    def _repeat(self) -> None:
        """6985 says that the frame came before, and nothing more: the first answer counts."""
        first = self.original
        if first is None or not first.has_outcome:
            self.error = status_error(SW.ALREADY_RECEIVED, self.instruction.name, self.seq)
        elif first.error is None:
            self.result = first.result
        else:
            self.error = status_error(first.error.sw, self.instruction.name, self.seq)
