"""What a session asks, and how it knows that an answer is its own.

Answers differ by length, by status word, by the page that SYS_CAPS shows, and by whose map that
is: each agent of a soak has a map of its own. So an answer that got lost, came twice, came out of
turn or was meant for another agent does not fit the question that it is taken for.
"""

from __future__ import annotations

from itertools import combinations
from random import Random
from typing import Final, NamedTuple

from asys import isa
from asys.isa.capmap import parse_caps, words
from asys.protocol.apdu import encode_plain
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import SW_SIZE
from asys.protocol.signing import Signer
from asys.protocol.status import SW

_EVERYBODY: Final = (
    isa.SYS_CAPS.name,
    isa.SYS_HELLO.name,
    isa.SYS_STATUS.name,
    isa.REKEY.name,
)

_TOLD_APART: Final = (
    isa.TASK_QUERY.name,
    isa.ABANDON.name,
    isa.AGENT_ADD.name,
    isa.AGENT_REMOVE.name,
    isa.AGENT_LIST.name,
)
"""What every node can do, whatever its machine; each agent holds some of these as well.

The last agent holds all of them, and SYS_PROCS: a node remembers the processes that a session was
shown, up to a limit that is far away, so that is memory which grows for long.
"""

_DONE: Final = (SW.SUCCESS.wire, b"\x91\x01")
"""Success of what was never deployed without node flags."""

_ABSENT: Final = (SW.NO_SUCH_INSTRUCTION.wire,)

_UNKNOWN: Final = 0x0F
"""A code that no node knows."""

_PAGES: Final = 4
_PAGE_AT: Final = 33
_PAGE_BITS: Final = 0x03
_NO_TASK: Final = b"\xff"

_ONE_IN_REKEYS: Final = 400
_ONE_IN_DEEP: Final = 300
_ONE_IN_MIXED: Final = 5
_ONE_IN_SIGNED: Final = 4
"""How often a poll is something else than one SYS_STATUS, and how often a mixture has a signed."""

_MOST_MIXED: Final = 8
_DEEP: Final = 100
"""Requests in one write; more than a node answers in one turn."""

GREETING: Final = 24
"""Requests with which a session begins: what it needs memory for, it needs from then on."""


class Answer(NamedTuple):
    """What must come: its size with the status word, its beginning, its end, its page of a map."""

    to: str
    size: int
    sw: tuple[bytes, ...] = (SW.SUCCESS.wire,)
    head: bytes = b""
    page: int = -1

    def fits(self, message: bytes) -> bool:
        """Whether a message is such an answer."""
        return (
            len(message) == self.size
            and message.endswith(self.sw)
            and message.startswith(self.head)
            and (self.page < 0 or message[_PAGE_AT] & _PAGE_BITS == self.page)
        )


class Asked(NamedTuple):
    """Requests that go out in one write, and the answers to them. `rekeys`: new keys follow."""

    frames: list[bytes]
    answers: list[Answer]
    rekeys: bool = False


def lines() -> dict[PrivateKey, str]:
    """The agents of a soak, and what stands behind their keys in `authorized_agents`."""
    chosen = [
        some for count in range(len(_TOLD_APART) + 1) for some in combinations(_TOLD_APART, count)
    ]
    chosen[-1] += (isa.SYS_PROCS.name,)
    return {
        PrivateKey.generate(): f"soak-{number} caps={','.join((*_EVERYBODY, *some))}"
        for number, some in enumerate(chosen)
    }


def caps(line: str) -> str:
    """The list of instructions in what stands behind a key."""
    return line.partition("caps=")[2]


def _plain(
    instruction: isa.AnyInstruction,
    p1: int = 0,
    data: bytes = b"",
    *,
    size: int,
    sw: tuple[bytes, ...] = (SW.SUCCESS.wire,),
    head: bytes = b"",
    page: int = -1,
) -> tuple[bytes, Answer]:
    frame = encode_plain(instruction.code, p1, 0, data)
    return frame, Answer(instruction.name, size, sw, head, page)


def _size(instruction: isa.AnyInstruction) -> int:
    return instruction.reply.SIZE + SW_SIZE


class Questions:
    """What an agent with that list of capabilities may ask, whatever it is worth."""

    def __init__(self, listed: str) -> None:
        lit = parse_caps(listed)

        def holds(instruction: isa.AnyInstruction) -> bool:
            return bool(lit >> instruction.code & 1)

        self._status: Final = _plain(isa.SYS_STATUS, size=_size(isa.SYS_STATUS))
        self._rekey: Final = _plain(isa.REKEY, size=SW_SIZE, sw=_DONE)
        self._signed: Final = Answer("signed SYS_HELLO", _size(isa.SYS_HELLO), head=b"ASYS")
        self._again: Final = Answer("SYS_HELLO again", SW_SIZE, (SW.ALREADY_RECEIVED.wire,))
        self._others: Final = [
            _plain(isa.SYS_HELLO, size=_size(isa.SYS_HELLO), head=b"ASYS"),
            _plain(isa.SYS_PROCS, size=_size(isa.SYS_PROCS))
            if holds(isa.SYS_PROCS)
            else _plain(isa.SYS_PROCS, size=SW_SIZE, sw=_ABSENT),
            *(
                _plain(
                    isa.SYS_CAPS,
                    page,
                    size=_size(isa.SYS_CAPS),
                    head=b"".join(word.to_bytes(4, "big") for word in words(lit, page)),
                    page=page,
                )
                for page in range(_PAGES)
            ),
            _plain(isa.SYS_CAPS, _PAGES, size=SW_SIZE, sw=(SW.INVALID_PAYLOAD.wire,)),
            _plain(isa.TASK_QUERY, data=b"soak", size=SW_SIZE + 1, head=_NO_TASK)
            if holds(isa.TASK_QUERY)
            else _plain(isa.TASK_QUERY, data=b"soak", size=SW_SIZE, sw=_ABSENT),
            _plain(
                isa.TASK_QUERY,
                data=b"so",
                size=SW_SIZE,
                sw=(SW.WRONG_LENGTH.wire,) if holds(isa.TASK_QUERY) else _ABSENT,
            ),
            _plain(
                isa.AGENT_LIST,
                size=SW_SIZE,
                sw=(SW.DENIED.wire,) if holds(isa.AGENT_LIST) else _ABSENT,  # it is not signed
            ),
            (encode_plain(_UNKNOWN), Answer("an unknown code", SW_SIZE, _ABSENT)),
        ]

    def poll(self, chance: Random, signer: Signer) -> Asked:
        """One SYS_STATUS, mostly; at times a mixture, many at once, or new keys."""
        if not chance.randrange(_ONE_IN_MIXED):
            return self.mixture(chance, signer, chance.randint(2, _MOST_MIXED))
        if not chance.randrange(_ONE_IN_DEEP):
            return self.mixture(chance, signer, _DEEP)
        if not chance.randrange(_ONE_IN_REKEYS):
            frame, answer = self._rekey
            return Asked([frame], [answer], rekeys=True)
        frame, answer = self._status
        return Asked([frame], [answer])

    def mixture(self, chance: Random, signer: Signer, count: int) -> Asked:
        """So many requests, or one more, in an order by chance."""
        frames: list[bytes] = []
        answers: list[Answer] = []
        while len(frames) < count:
            if not chance.randrange(_ONE_IN_SIGNED):
                signed = signer.sign(isa.SYS_HELLO.code, 0, 0, b"")
                frames += [signed, signed]
                answers += [self._signed, self._again]
                continue
            frame, answer = chance.choice(self._others)
            frames.append(frame)
            answers.append(answer)
        return Asked(frames, answers)
