"""Signed requests: made once, kept for sending again, made anew when the keys change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from asys.client.address import Address
from asys.client.pending import Pending
from asys.errors import ArgumentError
from asys.isa import AnyInstruction, Level
from asys.protocol.apdu import MAX_STANDARD_DATA
from asys.protocol.limits import SEQ_SIZE
from asys.protocol.signing import Signer

REMEMBERED: Final = 64
"""Signed frames and their outcomes kept for `resend`; as many as a node takes in flight."""


class SignedRequests:
    """The signed requests of one connection; the last REMEMBERED of them are kept."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._kept: dict[int, Pending] = {}
        self._keys = 0  # which keys are in use: 0 the first, 1 those after one REKEY

    def make(
        self,
        signer: Signer,
        instruction: AnyInstruction,
        parts: tuple[int, int, bytes],
        *,
        speaks_part_b: bool,
    ) -> Pending:
        """A new one with the next Seq; `parts` are P1, P2 and payload.

        ArgumentError when the node cannot take it, ProtocolError when Seq is used up.
        """
        if not speaks_part_b:
            self._check_deployed(instruction, len(parts[2]))
        pending = Pending(instruction, b"", 0)
        self.fill(signer, pending, parts)
        return pending

    def fill(self, signer: Signer, pending: Pending, parts: tuple[int, int, bytes]) -> None:
        """Makes the frame of one that has none. ProtocolError: Seq is used up."""
        pending.parts = parts
        pending.frame = _frame(signer, pending)
        pending.seq = signer.seq
        pending.keys = self._keys
        kept = self._kept
        kept[pending.seq] = pending
        if len(kept) > REMEMBERED:
            del kept[next(iter(kept))]

    def again(self, signer: Signer, seq: int) -> Pending:
        """One to be sent again. ArgumentError when it is not among the last REMEMBERED."""
        original = self._kept.get(seq)
        if original is None:
            raise ArgumentError(
                f"seq {seq} is not among the last {REMEMBERED} signed requests of this connection"
            )
        self._renew(signer, original)
        pending = Pending(original.instruction, original.frame, seq, original)
        pending.parts = original.parts
        pending.code, pending.reply, pending.more = original.code, original.reply, original.more
        pending.keys = original.keys
        return pending

    def forget(self, pending: Pending) -> None:
        """It never left: its Seq stays unused; gaps are allowed."""
        if self._kept.get(pending.seq) is pending:
            del self._kept[pending.seq]

    def rekeyed(self, signer: Signer, waiting: Iterable[Pending]) -> None:
        """The signer has new keys; those that are still to leave are signed with them."""
        self._keys += 1
        for pending in waiting:
            if pending.seq:
                self._renew(signer, pending)

    @property
    def unsettled(self) -> bool:
        """Somebody may still want to `resend` one, because its outcome was never told."""
        return any(not (one.told and one.has_outcome) for one in self._kept.values())

    def _renew(self, signer: Signer, pending: Pending) -> None:
        if pending.keys == self._keys:
            return
        last = signer.seq
        signer.seq = pending.seq - 1  # the same request under other keys, so the same Seq
        try:
            pending.frame = _frame(signer, pending)
        finally:
            signer.seq = last
        pending.keys = self._keys

    def _check_deployed(self, instruction: AnyInstruction, size: int) -> None:
        """ArgumentError for what a node cannot verify that does not speak part B."""
        if instruction.level is Level.ENC_SIGN:
            raise ArgumentError(
                f"{instruction.name} must be encrypted and signed, which {self._address} cannot "
                "open: it does not speak part B of the protocol, or does not let this agent see "
                "that it does (SYS_CAPS)"
            )
        if size > MAX_STANDARD_DATA - SEQ_SIZE:
            raise ArgumentError(
                f"{instruction.name} with {size} bytes needs an extended signed frame, "
                f"which {self._address} cannot verify; it takes {MAX_STANDARD_DATA - SEQ_SIZE} "
                "bytes"
            )


def _frame(signer: Signer, pending: Pending) -> bytes:
    """The next frame of a signer, encrypted where its instruction must be."""
    make = signer.seal if pending.instruction.level is Level.ENC_SIGN else signer.sign
    return make(pending.code, *pending.parts, more=pending.more)
