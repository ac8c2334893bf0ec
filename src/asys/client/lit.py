"""What this agent knows of its capability map on a node (docs/protocol.md, sections 4 and 6)."""

from __future__ import annotations

from asys.errors import status_error
from asys.isa import SYS_CAPS, AnyInstruction, Capabilities, CapabilityMap
from asys.isa.core import PAGE_MASK, PAGES
from asys.protocol.status import SW

_PAGE_BITS = 64


class Lit:
    """The capability map as the answers have shown it: page by page, less what answered 6A81.

    Nothing is known before the first answer to SYS_CAPS, nor where SYS_CAPS itself is not granted.
    """

    __slots__ = ("_bits", "_pages", "_refusal", "caps", "speaks_part_b")

    def __init__(self) -> None:
        self.caps: Capabilities | None = None
        """Page 0 as it was last answered."""
        self.speaks_part_b = False
        """The node echoed page 1."""
        self._bits = 0
        self._pages = 0  # bit N: page N has been seen
        self._refusal: int = SW.NO_SUCH_INSTRUCTION

    def learn(self, asked: int, caps: Capabilities) -> None:
        """Takes an answer to SYS_CAPS: its words count for the page that it names itself."""
        page = caps.page & PAGE_MASK
        if asked == 1:
            self.speaks_part_b = page == 1
        if page == 0:
            self.caps = caps
        words = ((1 << _PAGE_BITS) - 1) << _PAGE_BITS * page
        self._bits = self._bits & ~words | caps.lit
        self._pages |= 1 << page

    def refused(self, instruction: AnyInstruction, sw: int) -> None:
        """An instruction was answered with this status word; 6A81: it does not exist any more."""
        if sw == SW.NO_SUCH_INSTRUCTION:
            self._bits &= ~(1 << instruction.code)
        if instruction is SYS_CAPS:
            self._refusal = sw

    def has(self, code: int) -> bool:
        """Known to be lit."""
        return bool(self._bits >> code & 1)

    def can(self, code: int) -> bool:
        """Whether it is lit. StatusError with the word of SYS_CAPS where that is not known."""
        if not self._knows(code // _PAGE_BITS):
            raise status_error(self._refusal, SYS_CAPS.name)
        return self.has(code)

    @property
    def map(self) -> CapabilityMap | None:
        """All pages; None where they are not known."""
        if not all(self._knows(page) for page in range(PAGES)):
            return None
        return CapabilityMap(self._bits)

    def _knows(self, page: int) -> bool:
        # A node that does not echo page 1 has one page, and nothing beyond it.
        return bool(self._pages >> page & 1) or bool(self._pages and not self.speaks_part_b)
