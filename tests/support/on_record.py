"""A node in memory whose audit is watched: what it is told, among the effects of instructions."""

from __future__ import annotations

from typing import Final

from asys.node.agents.directory import Delegate
from asys.node.audit.coalesce import NO_KEY
from asys.node.audit.log import NoAudit
from support.node_rig import AGENT, Rig
from support.services import Job, Services
from support.target import Machine

LINE: Final = "agent caps=all,security,vendor,95 rate=ABANDON:2/h,AGENT_LIST:1/h,PROC_THROTTLE:20/h"


class Witnessed(NoAudit):
    """An audit that only remembers what it is told, among the effects: `steps`, in order.

    A step is written as its name, INS, Seq, payload and status word, as far as it has them.
    """

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.room = True
        self.payload_room = True
        self.classes: set[int] = set()
        self.reads: list[tuple[int, int, int]] = []
        self.opened: list[tuple[bytes, str, int, str]] = []
        self.closed: list[int] = []
        self.turned_away: list[tuple[int, bytes]] = []

    def open_session(self, key: bytes, label: str, line: int, peer: str) -> int:
        """As Audit.open_session."""
        self.opened.append((key, label, line, peer))
        return len(self.opened)

    def close_session(self, number: int) -> None:
        """As Audit.close_session."""
        self.closed.append(number)

    def intent(self, number: int, cla: int, ins: int, seq: int, payload: bytes) -> bool:
        """As Audit.intent."""
        self._may(number)
        self.classes.add(cla)
        if self.room:
            self.steps.append(f"intent {ins:02X} {seq} {payload.hex()}")
        return self.room

    def outcome(
        self,
        number: int,
        cla: int,
        ins: int,
        seq: int,
        payload: bytes,
        sw: int,
        *,
        intended: bool = False,
    ) -> None:
        """As Audit.outcome."""
        self._may(number)
        self.classes.add(cla)
        promised = " intended" if intended else ""
        self.steps.append(f"outcome {ins:02X} {seq} {payload.hex()} {sw:04X}{promised}")

    def task_end(self, number: int, ins: int, seq: int, digest: bytes, status: int) -> None:
        """As Audit.task_end; it may come after the end of its session."""
        self.steps.append(f"end {ins:02X} {seq} {digest.hex()} {status}")

    def payload(self, number: int, seq: int, ins: int, payload: bytes) -> bool:
        """As Audit.payload."""
        self._may(number)
        if self.payload_room:
            self.steps.append(f"payload {ins:02X} {seq} {payload.hex()}")
        return self.payload_room

    def read(self, number: int, ins: int, sw: int, count: int = 1) -> None:
        """As Audit.read."""
        self._may(number)
        self.reads.append((ins, sw, count))

    def refused(self, reason: int, key_hash: bytes = NO_KEY) -> None:
        """As Audit.refused."""
        self.turned_away.append((reason, key_hash))

    def _may(self, number: int) -> None:
        assert 0 < number <= len(self.opened)
        assert number not in self.closed, "the session is closed on record"

    def take(self) -> list[str]:
        """The steps since the last call."""
        found = self.steps[:]
        self.steps.clear()
        return found

    def counted(self) -> dict[tuple[int, int], int]:
        """Readings since the last call, for each INS and SW."""
        found: dict[tuple[int, int], int] = {}
        for ins, sw, count in self.reads:
            found[ins, sw] = found.get((ins, sw), 0) + count
        self.reads.clear()
        return found


class Restarts(Services):
    """Says among the steps when it restarts."""

    def __init__(self, steps: list[str]) -> None:
        super().__init__()
        self.steps = steps

    async def restart(self, unit: str) -> Job:
        """As ServiceManager.restart."""
        job = await super().restart(unit)
        self.steps.append("restart")
        return job


class Disk:
    """A Store that says among the steps when it keeps delegates."""

    def __init__(self, steps: list[str]) -> None:
        self.steps = steps

    async def save(self, delegates: tuple[Delegate, ...]) -> None:
        """As Store.save."""
        self.steps.append("save")


class Place:
    """A node with an audit that is watched, and an agent of it."""

    def __init__(self) -> None:
        self.audit = Witnessed()
        self.machine = Machine()
        self.machine.target.signals = self.audit.steps
        self.services = Restarts(self.audit.steps)
        self.rig = Rig(
            {AGENT: LINE},
            platform=self.machine,
            services=self.services,
            store=Disk(self.audit.steps),
        )
        self.rig.node.audit = self.audit
        self.agent = self.rig.session()
        self.audit.counted()

    async def ask(self, request: bytes) -> bytes:
        """The one answer to a request."""
        self.agent.send(request)
        answers: list[bytes] = []

        def answered() -> bool:
            answers.extend(self.agent.responses())
            return bool(answers)

        await self.rig.until(answered)
        [answer] = answers
        return answer
