"""What one answered request cost and said, for a caller who watches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asys.protocol.limits import AEAD_TAG_SIZE, RECORD_PREFIX_SIZE

if TYPE_CHECKING:
    from asys.client.pending import Pending

RECORD_OVERHEAD: Final = RECORD_PREFIX_SIZE + AEAD_TAG_SIZE


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer.

    `instruction` is its name, `sw` the status word, `seq` the Seq of a signed request. Bytes are
    those of the records, with length prefix and tag, without TCP's own. `round_trip_ns` runs from
    the call to the answer, so it holds what stood before it in the pipeline. A call whose payload
    is too long for one frame gives an Exchange for each fragment.
    """

    instruction: str
    sw: int
    seq: int | None
    round_trip_ns: int
    bytes_sent: int
    bytes_received: int

    @property
    def succeeded(self) -> bool:
        """The node did what it was asked, or queued it."""
        return is_success(self.sw)

    @property
    def node_flags(self) -> int:
        """The flags of a success with node flags, 91xx (bit 0: the audit is degraded); else 0."""
        return self.sw & 0xFF if self.sw >> 8 == 0x91 else 0


def exchange_of(pending: Pending, sw: int, size: int, now: float) -> Exchange:
    """What is told about a request whose answer has `size` bytes."""
    return Exchange(
        pending.instruction.name,
        sw,
        pending.seq or None,
        round((now - pending.started) * 1e9),
        RECORD_OVERHEAD + len(pending.frame),
        RECORD_OVERHEAD + size,
    )


def is_success(sw: int) -> bool:
    """True for 9000 and for 91xx, success with node flags."""
    return sw == 0x9000 or sw >> 8 == 0x91
