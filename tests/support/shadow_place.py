"""A node in memory with a collector that acknowledges when a test says so."""

from __future__ import annotations

from typing import Final

from asys.audit.records import EntryType
from asys.node.audit.ring import Ring
from asys.node.audit.shadow.strict import Strict
from support.on_record import Place, Witnessed


class Shadowed(Witnessed):
    """What it is told takes slots of a ring, as with a real audit."""

    def __init__(self, steps: list[str]) -> None:
        super().__init__()
        self.steps = steps
        self.ring: Final = Ring.create("test-strict", 1000)

    def intent(self, number: int, cla: int, ins: int, seq: int, payload: bytes) -> bool:
        """As Audit.intent."""
        taken = super().intent(number, cla, ins, seq, payload)
        if taken:
            self.ring.put(EntryType.GAP, 0, bytes(24))
        return taken


class ShadowPlace(Place):
    """As Place. `hurries` counts how often the shipper was asked to be quick."""

    def __init__(self, *, more: bool = True) -> None:
        super().__init__()
        self.hurries = 0
        self.audit = self.held = Shadowed(self.audit.steps)
        self.ring = self.held.ring
        self.strict = Strict(self.ring, self.rig.clock, more=more, hurry=self._hurry)
        self.rig.node.audit = self.held
        self.rig.node.strict = self.strict
        self.agent = self.rig.session()
        self.audit.counted()

    def _hurry(self) -> None:
        self.hurries += 1

    def acknowledge(self, slots: int | None = None) -> None:
        """The collector has all of them, or so many."""
        self.ring.acknowledged = self.ring.head if slots is None else slots
        self.strict.look()

    async def close(self) -> None:
        """Ends the node; nobody waits any more then."""
        await self.rig.close()
        assert self.strict.waiting == 0
        assert self.machine.target.handles == 0
        self.ring.close()
