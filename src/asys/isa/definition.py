"""What an instruction is: one declaration, from which everything else follows.

Packing and parsing, SYS_CAPS bits, the client's checks, SDK methods, command line, help texts and
the tables of the documentation are made from it (docs/protocol.md, sections 4, 6 and 7).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Annotated, Generic, ParamSpec, TypeAlias, TypeVar

from asys.protocol.codec import Layout, layout, u32

P = ParamSpec("P")
R = TypeVar("R", bound=Layout, covariant=True)


class Level(IntEnum):
    """The least protection that a request must have; more is accepted."""

    PLAIN = 0
    SIGNED = 1
    ENC_SIGN = 2

    @property
    def title(self) -> str:
        """The level's name in listings."""
        return self.name.lower().replace("_", "-")


class Mode(StrEnum):
    """SYNC: 9000 means done. ASYNC: 9000 means queued, and a task handle tells the rest."""

    SYNC = "sync"
    ASYNC = "async"


class Risk(StrEnum):
    """How much harm a wrong use can do."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Group(IntEnum):
    """The high nibble of an instruction's code; 9 to B are reserved, C to F are the vendors'."""

    CORE = 0x0
    CONTROL = 0x1
    PROCESS = 0x2
    NETWORK = 0x3
    DIAGNOSTICS = 0x4
    STORAGE = 0x5
    SECURITY = 0x6
    RUNTIME = 0x7
    HARDWARE = 0x8
    VENDOR_C = 0xC
    VENDOR_D = 0xD
    VENDOR_E = 0xE
    VENDOR_F = 0xF

    @property
    def title(self) -> str:
        """The group's name in listings and in `authorized_agents`."""
        return "vendor" if self >= Group.VENDOR_C else self.name.lower()


@layout
class Empty(Layout):
    """No payload."""


@layout
class TaskHandle(Layout):
    """What an asynchronous instruction answers: the handle of its task."""

    handle: Annotated[int, u32("task handle, valid in this session only")]


@dataclass(frozen=True, slots=True)
class Guide:
    """What an agent needs to choose an instruction: plain sentences, honest about harm."""

    description: str
    when: str
    when_not: str
    side_effects: str
    reversible: str
    risk: Risk


class Instruction(Generic[P, R]):
    """One instruction. `request` and `reply` are layouts; the rest is metadata.

    `ignores_extra`: bytes behind the request's layout are ignored instead of refused. `chainable`:
    it may be sent in fragments, as CONTINUE says. `carrier`: it only carries others and is nobody's
    to call, so it is neither a method of the SDK nor a command. `since`: the first version of asyd
    that has it; '' for a vendor's. `vendor_id`: the vendor that has declared it, whose id stands in
    front of its payload; None for the instruction set itself.
    """

    __slots__ = (
        "carrier",
        "chainable",
        "code",
        "guide",
        "idempotent",
        "ignores_extra",
        "level",
        "make_request",
        "mode",
        "name",
        "reply",
        "request",
        "since",
        "vendor_id",
    )

    def __init__(
        self,
        code: int,
        name: str,
        *,
        request: Callable[P, Layout],
        reply: type[R],
        guide: Guide,
        level: Level = Level.PLAIN,
        mode: Mode = Mode.SYNC,
        idempotent: bool = True,
        ignores_extra: bool = False,
        chainable: bool = False,
        carrier: bool = False,
        since: str = "",
    ) -> None:
        if not (isinstance(request, type) and issubclass(request, Layout)):
            raise TypeError(f"{name}: request must be a layout")
        if not 0 <= code <= 0xFF:
            raise ValueError(f"{name}: code {code:#x} is not a byte")
        self.code = code
        self.name = name
        self.make_request = request
        self.request: type[Layout] = request
        self.reply = reply
        self.guide = guide
        self.level = level
        self.mode = mode
        self.idempotent = idempotent
        self.ignores_extra = ignores_extra
        self.chainable = chainable
        self.carrier = carrier
        self.since = since
        self.vendor_id: int | None = None

    @property
    def group(self) -> Group:
        """The group that the code's high nibble names."""
        return Group(self.code >> 4)

    @property
    def method(self) -> str:
        """Its name in the SDK: SYS_STATUS -> sys_status."""
        return self.name.lower()

    @property
    def command(self) -> str:
        """Its name on the command line: SYS_STATUS -> sys-status."""
        return self.name.lower().replace("_", "-")

    def parse(self, p1: int, p2: int, payload: bytes) -> Layout:
        """The request in a payload (Seq not included). WrongSize: 6700; BadValue: 6A80."""
        return self.request.unpack(payload, p1, p2, more=self.ignores_extra)

    def __repr__(self) -> str:
        return f"<Instruction {self.code:02X} {self.name}>"


AnyInstruction: TypeAlias = Instruction[..., Layout]
"""Any instruction, whatever it takes and gives."""


class Registry:
    """Instructions by code and by name; each stands once."""

    def __init__(self) -> None:
        self._by_code: dict[int, AnyInstruction] = {}
        self._by_name: dict[str, AnyInstruction] = {}

    def add(self, *instructions: AnyInstruction) -> None:
        """Takes instructions in. ValueError when a code or a name is taken or reserved."""
        for instruction in instructions:
            if 0x9 <= instruction.code >> 4 <= 0xB:
                raise ValueError(f"{instruction!r}: the codes 90 to BF are reserved")
            taken = self._by_code.get(instruction.code) or self._by_name.get(instruction.name)
            if taken is not None:
                raise ValueError(f"{instruction!r} collides with {taken!r}")
            self._by_code[instruction.code] = instruction
            self._by_name[instruction.name] = instruction

    def get(self, code: int) -> AnyInstruction | None:
        """The instruction with that code."""
        return self._by_code.get(code)

    def named(self, name: str) -> AnyInstruction | None:
        """The instruction with that name, in any case, with - or _."""
        return self._by_name.get(name.upper().replace("-", "_"))

    def __iter__(self) -> Iterator[AnyInstruction]:
        """In order of code."""
        return iter([self._by_code[code] for code in sorted(self._by_code)])

    def __len__(self) -> int:
        return len(self._by_code)
