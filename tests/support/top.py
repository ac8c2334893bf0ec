"""`asys top` in tests: the application without a terminal, and nodes that it watches."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from textual.pilot import Pilot

import asys
from asys import isa
from asys.isa import Process, ProcessFlags, UntrustedText
from asys.protocol.apdu import Frame
from asys.protocol.keys import PrivateKey
from asys.tui.app import TopApp
from asys.tui.processes import ProcessList
from asys.tui.watcher import Target, Watcher
from support.daemon import AGENT, PATIENCE, Daemon
from support.wire_node import OK, WireNode, serve_b

SIZE: Final = (80, 24)

NOON: Final = 1_700_049_600_000_000_000
"""Unix time in ns at which played actions happen: 12:00:00 UTC."""


def target(daemon: Daemon, key: PrivateKey = AGENT, name: str = "") -> Target:
    """A real asyd, as the view is told of it."""
    host, port = daemon.endpoint
    identity = asys.Identity(key)
    options = {"identity": identity, "node_key": daemon.key, "timeout": PATIENCE}
    return Target(name or f"{host}:{port}", host, port, options)


def target_of(node: WireNode, name: str) -> Target:
    """A played node under a name of its own."""
    return Target(name, node.host, node.port, node.options())


@asynccontextmanager
async def shown(*targets: Target, interval: float = 0.2, **options: Any) -> AsyncIterator[Top]:
    """The application on 80x24, watching these nodes."""
    app = TopApp(targets, interval=interval, **options)
    async with app.run_test(size=SIZE) as pilot:
        yield Top(app, pilot)


class Top:
    """The running application, as somebody at the keyboard has it."""

    def __init__(self, app: TopApp, pilot: Pilot[None]) -> None:
        self.app: Final = app
        self.pilot: Final = pilot

    async def press(self, *keys: str) -> None:
        """Presses keys, one after the other."""
        await self.pilot.press(*keys)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Lets the application go on until something is so."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    await self.pilot.pause(0.01)
        except TimeoutError:
            raise AssertionError("it did not happen; the screen is\n" + self.screen) from None

    async def until_shown(self, text: str) -> None:
        """Lets it go on until a line of the screen has this in it."""
        await self.until(lambda: text in self.screen)

    async def rounds(self, count: int) -> None:
        """Lets every watcher ask so many times more, one after the other."""
        for _ in range(count):
            for watcher in self.app.watchers:
                watcher.again()
                await self.until(partial(_past, watcher, watcher.rounds))

    async def select(self, pid: int) -> None:
        """Moves the cursor to a process."""
        listing = self.app.query_one(ProcessList)
        listing.focus()
        for _ in range(100):
            await self.until(lambda: pid in listing.pids)
            place = listing.pids.index(pid)
            if listing.cursor_row == place:
                return
            await self.press("down" if listing.cursor_row < place else "up")
        raise AssertionError(f"{pid} cannot be reached; the screen is\n{self.screen}")

    async def settled(self) -> None:
        """Lets it go on until it draws the same again and again."""
        seen: list[str] = []
        while len(seen) < 3 or len(set(seen[-3:])) > 1:
            await self.pilot.pause(0.05)
            seen.append(self.svg)

    @property
    def svg(self) -> str:
        """The screen as SVG, without what differs from one run to the next."""
        return plain(self.app.export_screenshot(title="asys top"))

    @property
    def lines(self) -> list[str]:
        """The screen as text, line by line."""
        found: dict[float, list[tuple[float, str]]] = {}
        for x, y, text in _TEXT.findall(self.svg):
            found.setdefault(float(y), []).append((float(x), _unescaped(text)))
        lines = []
        for y in sorted(found):
            line = ""
            for x, text in sorted(found[y]):
                line = line.ljust(round(x / COLUMN)) + text
            lines.append(line.rstrip())
        return lines

    @property
    def screen(self) -> str:
        """The screen as text."""
        return "\n".join(self.lines)

    def offers(self, key: str) -> bool:
        """Whether a key is shown and not greyed out."""
        return any(
            one.binding.key == key and one.enabled for one in self.app.active_bindings.values()
        )


COLUMN: Final = 12.2
"""Width of a character in a screenshot."""

_TEXT: Final = re.compile(
    r'<text class="terminal-r\d+" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>'
)


def _past(watcher: Watcher, rounds: int) -> bool:
    return watcher.rounds > rounds


def _unescaped(text: str) -> str:
    return html.unescape(text).replace("\xa0", " ")


def plain(svg: str) -> str:
    """A screenshot without its id and without fonts from elsewhere."""
    svg = re.sub(r"terminal-\d+-", "terminal-", svg)
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


# -- a node that says the same every time

WAVE: Final = (12, 18, 25, 31, 44, 62, 71, 80, 93, 97, 88, 74, 60, 41, 33, 26, 19, 15, 14, 12)
"""CPU of a played node, in %, reading by reading."""

PROCESSES: Final = (
    (4711, 97.5, 12, ProcessFlags(0), "report-builder"),
    (812, 31.25, 4, ProcessFlags.ROOT, "postgres"),
    (1, 0.5, 0, ProcessFlags.ROOT, "systemd"),
    (2290, 0.25, 1, ProcessFlags.UNINTERRUPTIBLE, "rsync"),
    (3055, 0.0, 0, ProcessFlags.ZOMBIE, "sh"),
)
"""PID, CPU %, memory %, flags, name."""


class Played:
    """What a played node answers; each SYS_STATUS is the next of a wave."""

    def __init__(self, names: dict[int, str] | None = None) -> None:
        self.asked = 0
        self.names: Final = {pid: name for pid, _, _, _, name in PROCESSES} | (names or {})
        self.throttled: list[tuple[int, int]] = []
        """PID and action of each PROC_THROTTLE."""
        self.on_throttle: Callable[[], None] = lambda: None
        """Called when one has come, before it is answered."""
        self.silent = False
        """Nothing is answered any more."""
        self.gone: set[int] = set()
        """PIDs that name nothing any more."""
        self.requests: list[int] = []
        """The code of every request."""
        self.refusals: dict[int, bytes] = {}
        """Status words for codes that are to be refused."""

    def __call__(self, frame: Frame) -> bytes | None:
        """The answer to one request; None: there is none."""
        self.requests.append(frame.ins)
        if self.silent:
            return None
        if frame.ins in self.refusals:
            return self.refusals[frame.ins]
        if frame.ins == isa.SYS_STATUS.code:
            return self._status().pack() + OK
        if frame.ins == isa.SYS_PROCS.code:
            top = tuple(Process(*one[:4]) for one in PROCESSES)
            return isa.Processes(count=214, top=top).pack() + OK
        pid = int.from_bytes(frame.data[4:8])  # behind Seq
        if frame.ins == isa.PROC_THROTTLE.code:
            self.throttled.append((pid, frame.p1))
            self.on_throttle()
            return OK
        if frame.ins == isa.PROC_TREE.code:
            return b"\x6a\x80" if pid in self.gone else self._tree(pid).pack() + OK
        return b"\x6a\x81"

    def _status(self) -> isa.Status:
        cpu = WAVE[self.asked % len(WAVE)]
        self.asked += 1
        return isa.Status(
            load1=cpu / 50,
            load5=0.8,
            cpu_percent=cpu,
            available_mb=9000 + 20 * (50 - cpu),
            root_used_percent=73,
            io_wait_ms=12,
            inbound_mbps=cpu * 3,
            outbound_mbps=cpu,
            rpi_percent=cpu // 2,
        )

    def _tree(self, pid: int) -> isa.ProcessTree:
        one = isa.TreeProcess(
            pid=pid,
            ppid=1,
            uid=1000,
            cpu_percent=0.0,
            threads=1,
            depth=0,
            state="S",
            flags=ProcessFlags(0),
            memory_percent=0,
            name=UntrustedText(self.names[pid]),
        )
        return isa.ProcessTree(total=1, count=1, index=0, processes=(one,))


def played(answers: Played, lit: str = "core,process,diagnostics") -> WireNode:
    """A node that answers so, with this map."""
    return WireNode(serve_b(answers, lit=lit))
