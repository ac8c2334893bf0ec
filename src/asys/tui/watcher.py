"""One node, watched: asked again and again, tried again when it is lost. No terminal in here."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from asys import isa
from asys.client.aio import Node, connect
from asys.client.backoff import delays
from asys.client.reconnect import is_final
from asys.errors import (
    AsysError,
    ConnectionLost,
    Denied,
    InvalidPayload,
    NoSuchInstruction,
    NotSupported,
    OutcomeUnknown,
    StatusError,
)
from asys.isa import AnyInstruction, Capabilities, ThrottleAction
from asys.tui.readings import DEEDS, Deed, Exchanges, Held, Looked, Row, Vitals

FIRST_DELAY: Final = 1.0
"""Seconds until a lost node is tried again for the first time."""

LAST_DELAY: Final = 30.0
"""Seconds between tries of a node that stays lost."""


class State(StrEnum):
    """How a node stands."""

    CONNECTING = "connecting"
    LIVE = "live"
    LOST = "lost"
    """It is tried again by itself."""
    REFUSED = "refused"
    """It is tried again only when somebody asks for it."""


@dataclass(frozen=True, slots=True)
class Target:
    """A node as the view names it, and what `asys.connect` needs to reach it."""

    name: str
    host: str
    port: int
    options: dict[str, Any]


def waits() -> Iterator[float]:
    """Seconds to wait before each try of a lost node."""
    return delays(FIRST_DELAY, LAST_DELAY, random.random)


class Watcher:
    """A node and all that is shown of it; `changed` is called after every change.

    `interval` in seconds. `now` gives Unix time in ns.
    """

    def __init__(
        self,
        target: Target,
        interval: float,
        changed: Callable[[], None],
        *,
        now: Callable[[], int] = time.time_ns,
        waits: Callable[[], Iterator[float]] = waits,
    ) -> None:
        self.target: Final = target
        self.state = State.CONNECTING
        self.trouble = ""
        """What is wrong, in a line; empty when nothing is."""
        self.caps: Capabilities | None = None
        self.vitals: Final = Vitals()
        self.count = 0
        """Processes on the node."""
        self.rows: tuple[Row, ...] = ()
        """Those with most CPU, then those that were suspended from here."""
        self.deeds: Final[deque[Deed]] = deque(maxlen=DEEDS)
        """What was done from here, the newest first."""
        self.exchanges: Final = Exchanges()
        self.attended = True
        """Somebody looks at its processes: their names are worth asking for."""
        self.rounds = 0
        """How often it has been asked all there is to ask."""
        self._interval: Final = interval
        self._changed: Final = changed
        self._now: Final = now
        self._waits: Final = waits
        self._node: Node | None = None
        self._wake: Final = asyncio.Event()
        self._looking: Final = asyncio.Lock()
        self._renew = False
        self._pointless: dict[AnyInstruction, str] = {}
        """What was refused for good, and in which words."""
        self._looked: dict[int, Looked] = {}
        self._held: dict[int, Row] = {}

    # -- for the view

    @property
    def held(self) -> tuple[Row, ...]:
        """The processes that were suspended from here and not let go."""
        return tuple(self._held.values())

    @property
    def can_throttle(self) -> bool:
        """The connection lives, and PROC_THROTTLE is known to exist for this agent there."""
        node = self._node
        return node is not None and not node.closed and self._lit(isa.PROC_THROTTLE, unknown=False)

    def again(self) -> None:
        """Asks now what would be asked later: the node, or, when it is lost, whether it is back.

        What it may do there is asked anew too.
        """
        self._renew = True
        self._wake.set()

    @asynccontextmanager
    async def standing(self, pid: int) -> AsyncIterator[Row | None]:
        """A block in which no process is looked at anew, so a PID goes on to mean the process
        that was shown; gives the row of `pid` as it is now, None: it is not shown any more.

        A node keeps for each session which process a PID meant when it was shown last.
        """
        async with self._looking:
            node = self._node
            if node is not None and self._lit(isa.PROC_TREE, unknown=False):
                try:
                    await self._look(node, pid)
                except AsysError as error:
                    self._note(error)
                self._renamed(pid)
            yield next((row for row in self.rows if row.pid == pid), None)

    @property
    def connection(self) -> object:
        """Which connection it is; another object after each new one. None: there is none."""
        return self._node

    async def throttle(self, row: Row, action: ThrottleAction, connection: object) -> str:
        """Suspends a process or lets it go on; a line that says how it went.

        It is done on `connection` only: on a later one the PID may mean another process.
        """
        node = self._node
        stop = action is ThrottleAction.STOP
        what = f"{'suspend' if stop else 'resume'} {row.pid} {row.called}"
        try:
            if node is None or node is not connection:
                raise ConnectionLost(
                    "the connection is not the one on which this process was shown; nothing was "
                    "sent, look again"
                )
            await node.proc_throttle(row.pid, action)
        except OutcomeUnknown as error:
            if stop:
                self._hold(row, Held.PERHAPS)
            return self._did(what, f"whether it was done is not known: {error}", good=False)
        except InvalidPayload as error:
            self._release(row.pid)
            return self._did(what, str(error), good=False)
        except AsysError as error:
            return self._did(what, str(error), good=False)
        if stop:
            self._hold(row, Held.YES)
        else:
            self._release(row.pid)
        return self._did(what, "9000 done", good=True)

    # -- asking

    async def run(self) -> None:
        """Watches until it is cancelled."""
        waits = self._waits()
        while True:
            self._renew = False
            rounds = self.rounds
            try:
                async with connect(
                    self.target.host,
                    self.target.port,
                    trace=self.exchanges.add,
                    **self.target.options,
                ) as node:
                    self._begin(node)
                    await self._poll(node)
            except AsysError as error:
                self._node = None
                self.vitals.add(None)
                if self.rounds > rounds:  # it was really there
                    waits = self._waits()
                final = is_final(error) and not isinstance(error, OutcomeUnknown)
                wait = None if final else next(waits)
                self.state = State.REFUSED if final else State.LOST
                self.trouble = str(error)
                self._changed()
                await self._sleep(wait)
            finally:
                self._node = None

    def _begin(self, node: Node) -> None:
        self._node = node
        self._pointless.clear()
        self._looked.clear()
        self.caps = node.caps or self.caps
        self.state = State.LIVE
        self.trouble = ""
        self._changed()

    async def _poll(self, node: Node) -> None:
        """Asks at every interval. LinkError and OutcomeUnknown: the connection has ended."""
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            self.trouble = next(iter(self._pointless.values()), "")
            if self._renew:
                self._renew = False
                await self._refresh(node)
            await self._ask_status(node)
            if not self._looking.locked():
                async with self._looking:
                    await self._ask_processes(node)
            self.rounds += 1
            self._changed()
            due = max(due + self._interval, clock())
            await self._sleep(due - clock())

    async def _refresh(self, node: Node) -> None:
        self._pointless.clear()
        try:
            await node.refresh_capabilities()
        except StatusError as error:
            if not isinstance(error, NoSuchInstruction):
                self._note(error)
        self.caps = node.caps or self.caps

    async def _ask_status(self, node: Node) -> None:
        status = None
        if self._lit(isa.SYS_STATUS):
            try:
                status = await node.sys_status()
            except StatusError as error:
                self._refused(isa.SYS_STATUS, error)
        else:
            self._dark(isa.SYS_STATUS)
        self.vitals.add(status)

    async def _ask_processes(self, node: Node) -> None:
        if not self._lit(isa.SYS_PROCS):
            self.rows = self.held
            self._dark(isa.SYS_PROCS)
            return
        try:
            found = await node.sys_procs()
        except StatusError as error:
            self._refused(isa.SYS_PROCS, error)
            return
        self.count = found.count
        shown = {one.pid for one in found.top} | set(self._held)
        self._looked = {pid: one for pid, one in self._looked.items() if pid in shown}
        self._show(found.top)
        for one in found.top:
            wanted = self.attended and one.pid not in self._looked
            if not (wanted and self._lit(isa.PROC_TREE, unknown=False)):
                continue
            try:
                await self._look(node, one.pid)
            except StatusError as error:
                self._refused(isa.PROC_TREE, error)
                break
        self._show(found.top)

    def _show(self, top: tuple[isa.Process, ...]) -> None:
        rows = []
        for one in top:
            held = self._held.get(one.pid)
            rows.append(Row.of(one, self._looked.get(one.pid), held.held if held else Held.NO))
        above = {one.pid for one in top}
        self.rows = (*rows, *(row for row in self.held if row.pid not in above))

    async def _look(self, node: Node, pid: int) -> None:
        """Asks for the name and the state of a process. StatusError where that is hopeless now."""
        try:
            tree = await node.proc_tree(pid, 1)
        except (InvalidPayload, Denied):  # it has ended, or is outside this agent's scope
            self._looked[pid] = Looked(None)
            return
        one = tree.processes[tree.index]
        self._looked[pid] = Looked(one.name, one.state)
        if pid in self._held:
            self._held[pid] = replace(self._held[pid], name=one.name, state=one.state)

    def _renamed(self, pid: int) -> None:
        """Shows what was looked up of a process."""
        looked = self._looked.get(pid)
        if looked is not None:
            self.rows = tuple(
                replace(row, name=looked.name, state=looked.state) if row.pid == pid else row
                for row in self.rows
            )
            self._changed()

    def _lit(self, instruction: AnyInstruction, *, unknown: bool = True) -> bool:
        """Whether it is worth asking; `unknown` where the node does not show this agent its map."""
        node = self._node
        if node is None or instruction in self._pointless:
            return False
        try:
            return node.can(instruction.code)
        except StatusError:
            return unknown

    def _refused(self, instruction: AnyInstruction, error: StatusError) -> None:
        """Shows a status word; what it says for good is not asked again on this connection."""
        self._note(error)
        if isinstance(error, Denied | NoSuchInstruction | NotSupported):
            self._pointless[instruction] = str(error)

    def _dark(self, instruction: AnyInstruction) -> None:
        """Says that something cannot be shown, where nothing else has been said."""
        self.trouble = self.trouble or f"{instruction.name} does not exist for this agent here"

    def _note(self, error: AsysError) -> None:
        self.trouble = str(error)

    # -- what was done

    def _hold(self, row: Row, held: Held) -> None:
        self._held[row.pid] = replace(row, held=held, state="")
        self._mark(row.pid, held)

    def _release(self, pid: int) -> None:
        self._held.pop(pid, None)
        self._mark(pid, Held.NO)

    def _mark(self, pid: int, held: Held) -> None:
        self._looked.pop(pid, None)  # its state is another now
        self.rows = tuple(
            replace(row, held=held, state="") if row.pid == pid else row for row in self.rows
        )

    def _did(self, what: str, outcome: str, *, good: bool) -> str:
        self.deeds.appendleft(Deed(self._now(), "this agent", what, outcome, good))
        self._changed()
        return f"{what}: {outcome}"

    async def _sleep(self, seconds: float | None) -> None:
        """Waits so long, None: for ever, or until `again`."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()
