"""What an agent would be answered, and which rule decides: for admins, without asking a node.

The checks are those of docs/protocol.md, section 5.2, on the files and the machine as they are now.
Left out is what only a running node knows: what is left of a rate, PIDs that a session was shown,
and room for tasks.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from asys.isa import (
    LOG_DETAIL,
    LOG_SUMMARY,
    NET_ISOLATE,
    PROC_THROTTLE,
    PROC_TREE,
    REGISTRY,
    SVC_RESTART,
    TASK_CANCEL,
    AnyInstruction,
    CapabilityMap,
    IsolateAction,
)
from asys.isa.capmap import CARRIER, CORE, EVERYTHING, SETS, STATEMENT, UNGRANTED
from asys.isa.network import Isolate
from asys.isa.process import Restart, Throttle
from asys.isa.security import AgentKey, NewAgent
from asys.node.agents.directory import Directory, DirectoryRefusal, Holding
from asys.node.clock import Clock
from asys.node.platform.base import Platform, PlatformError, ProcessHandle, ServiceManager
from asys.node.platform.services import own_unit
from asys.protocol.codec import BadValue, LayoutError, WrongSize
from asys.protocol.status import SW
from asys.vendor.definition import CODES

_EVERYBODY: Final = "protected for everybody"

_RELEASING: Final = (
    "only if this agent, or one below it, has isolated that PID, which a running asyd knows: 6982 "
    "if another has, 6A80 if nobody",
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The status word that an agent would get, the rule behind it, and what else is to be said."""

    sw: SW
    rule: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Asyd:
    """An asyd that runs: whom nobody may touch for its sake. Nothing of that is known by default.

    `pid` is its own, `family` that and its ancestors', `units` the services that it is part of.
    """

    pid: int = 0
    family: frozenset[int] = frozenset()
    units: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Link:
    """One agent of a chain. `line` is 0 for one that was added.

    `given` is the map of its line, or that it was added with; `left` what the chain up to it leaves
    of that. `expires` is its own, as in Delegate.
    """

    key: bytes
    name: str
    line: int
    given: int
    left: int
    expires: int


def chain(directory: Directory, key: bytes) -> tuple[Link, ...]:
    """From the line down to the agent with this key; empty for an agent without one."""
    delegates = {one.key: one for one in directory.delegates}
    added = []
    while key in delegates:
        added.append(delegates[key])
        key = delegates[key].parent
    root = directory.book.agents.get(key)
    if root is None:
        return ()
    links = [Link(key, root.name, root.line, root.caps, root.caps, root.expires)]
    for one in reversed(added):
        left = one.caps & links[-1].left
        name = one.label or one.key.hex()[:8]
        links.append(Link(one.key, name, 0, one.caps, left, one.expires))
    return tuple(links)


def grants(links: tuple[Link, ...], name: str) -> str:
    """Says where what the last of a chain holds comes from: its line, and who handed it on."""
    through = " and then ".join(link.name for link in links[:-1])
    said = f"line {links[0].line} grants {name}"
    return f"{said}, handed on by {through}" if through else said


def lacks(
    platform: Platform, services: ServiceManager | None, clock: Clock, state_dir: Path
) -> dict[int, str]:
    """What a node with that state directory cannot do on this machine, by code, and why not.

    Nothing is started, and nothing is left behind.
    """
    found = {}
    if not platform.can_throttle():
        found[PROC_THROTTLE.code] = "processes cannot be held on this machine"
    isolator = platform.isolator(state_dir)
    if isolator is None:
        found[NET_ISOLATE.code] = "processes cannot be cut off the network on this machine"
    else:
        with closing(isolator):
            if isolator.lack:
                found[NET_ISOLATE.code] = isolator.lack
    if services is None:
        for code in (SVC_RESTART.code, TASK_CANCEL.code):
            found[code] = "there is no service manager that asyd could use"
    if platform.logs(clock) is None:
        for code in (LOG_SUMMARY.code, LOG_DETAIL.code):
            found[code] = "there are no logs that asyd could read"
    trees = platform.process_trees()
    if trees is None:
        found[PROC_TREE.code] = "who started whom cannot be told on this machine"
    else:
        trees.close()
    return found


@dataclass(frozen=True, slots=True)
class Trial:
    """A node's files and its machine, for one agent after the other. `now` is Unix time in seconds.

    `offered` is the map of the node's mode, `lacks` what the machine cannot do. The service manager
    is the caller's to close.
    """

    directory: Directory
    node_key: bytes
    platform: Platform
    services: ServiceManager | None
    now: int
    dark: bool = False
    offered: int = EVERYTHING
    asyd: Asyd = field(default_factory=Asyd)
    lacks: Mapping[int, str] = field(default_factory=dict)

    def gate(self, holding: Holding, code: int) -> Verdict | None:
        """What decides before it matters what is asked: existence, then mode and platform.

        None: nothing of these does.
        """
        instruction = REGISTRY.get(code)
        if instruction is None and code not in CODES:
            return Verdict(SW.NO_SUCH_INSTRUCTION, f"this version has no instruction {code:02X}")
        if CARRIER >> code & 1:
            return _carrier(holding)
        if STATEMENT >> code & 1:
            return Verdict(
                SW.NO_SUCH_INSTRUCTION,
                "no line grants it: every agent has it while the node has a next key",
                ("see: asyd key status",),
            )
        if not holding.caps >> code & 1:
            name = instruction.name if instruction is not None else f"{code:02X}"
            return Verdict(SW.NO_SUCH_INSTRUCTION, self._why_lacking(holding, code, name))
        if self.dark and not CORE >> code & 1:
            rule = "the node is dark: every agent is down to core; to lift it, run: asyd light"
            return Verdict(SW.NO_SUCH_INSTRUCTION, rule)
        if not self.offered >> code & 1:
            return Verdict(SW.NOT_SUPPORTED, "in monitor mode nobody has more than core")
        if code in self.lacks:
            return Verdict(SW.NOT_SUPPORTED, self.lacks[code])
        return None

    async def answer(
        self,
        holding: Holding,
        instruction: AnyInstruction,
        p1: int = 0,
        p2: int = 0,
        payload: bytes = b"",
    ) -> Verdict:
        """What this request would be answered, sent as the instruction wants it protected.

        `payload` is without Seq.
        """
        decided = self.gate(holding, instruction.code)
        if decided is not None:
            return decided
        try:
            request = instruction.parse(p1, p2, payload)
        except WrongSize as error:
            return Verdict(SW.WRONG_LENGTH, _malformed(instruction, error))
        except BadValue as error:
            return Verdict(SW.INVALID_PAYLOAD, _malformed(instruction, error))
        given = grants(chain(self.directory, holding.key), instruction.name)
        try:
            if isinstance(request, Isolate) and request.action == IsolateAction.RELEASE:
                return Verdict(SW.SUCCESS, given, _RELEASING)
            if isinstance(request, Throttle | Isolate):
                return self._process(holding, request.pid, given)
            if isinstance(request, Restart):
                return await self._restart(holding, request, given)
        except PlatformError as error:
            return Verdict(error.sw, str(error))
        if isinstance(request, NewAgent | AgentKey):
            return self._delegation(holding, request, given)
        return Verdict(SW.SUCCESS, given)

    def vendor(self, holding: Holding, code: int, vendor_id: int, domain: str) -> Verdict:
        """What an instruction of a vendor would be answered, if asyd has that enabled.

        `domain` is the vendor's where it is installed on this machine, else ''.
        """
        decided = self.gate(holding, code)
        if decided is not None:
            return decided
        scope = holding.root.scope
        if not scope.allows_vendor(vendor_id):
            option = _option(scope.describe(), "vendors")
            fault = f"{option} does not have 0x{vendor_id:X}" if option else "it has no vendors="
            return Verdict(SW.DENIED, f"line {holding.root.line}: {fault}")
        if not domain:
            return Verdict(SW.DENIED, f"no vendor with the id 0x{vendor_id:X} is installed")
        given = grants(chain(self.directory, holding.key), f"{code:02X}")
        notes = (
            f"only if asyd runs with --vendor {domain}: else 6982",
            f"only if {domain} has an instruction {code:02X}: else 6A81",
        )
        return Verdict(SW.SUCCESS, f"{given}, and its vendors= has {domain}", notes)

    def _why_lacking(self, holding: Holding, code: int, name: str) -> str:
        return " and ".join(self._lacking(holding, code, name))

    def _lacking(self, holding: Holding, code: int, name: str) -> Iterator[str]:
        """The links of the chain that do not have it, from the line down."""
        above = None
        for link in chain(self.directory, holding.key):
            if not link.given >> code & 1:
                if above is None:
                    yield f"line {link.line} does not grant {name}"
                else:
                    yield f"{above.name} has not handed {name} on to {link.name}"
            above = link

    # -- targets

    def _process(self, holding: Holding, pid: int, given: str) -> Verdict:
        if pid == 1:
            return Verdict(SW.DENIED, f"PID 1 is {_EVERYBODY}")
        if pid in self.asyd.family:
            return Verdict(SW.DENIED, f"PID {pid} is {_EVERYBODY}: asyd or an ancestor of it")
        with closing(self.platform.process(pid)) as process:
            refusal = process.refusal()
            if self.asyd.pid and process.parent == self.asyd.pid:
                refusal = refusal or "a child of asyd"
            if refusal:
                return Verdict(SW.DENIED, f"PID {pid} is {_EVERYBODY}: {refusal}")
            scope = holding.root.scope
            foreign = sorted(uid for uid in process.owners() if not scope.allows_user(uid))
            if foreign:
                option = _option(scope.describe(), "users")
                rule = f"line {holding.root.line}: {option} does not have the owner of PID {pid}"
                return Verdict(SW.DENIED, f"{rule}, {user(foreign[0])}")
            if process.zombie:
                return Verdict(SW.INVALID_PAYLOAD, f"PID {pid} has ended")
            return self._signal(holding, process, given)

    def _signal(self, holding: Holding, process: ProcessHandle, given: str) -> Verdict:
        """Whether the kernel would let asyd do it, if asyd may do what this process may."""
        owner = user(process.uid)
        try:
            os.kill(process.pid, 0)
        except PermissionError:
            rule = (
                f"the kernel does not let {user(os.geteuid())} touch PID {process.pid} of {owner}"
            )
            return Verdict(SW.DENIED, rule)
        except ProcessLookupError:
            return Verdict(SW.INVALID_PAYLOAD, f"PID {process.pid} has ended")
        option = _option(holding.root.scope.describe(), "users")
        reach = f"{option} has its owner, {owner}" if option else "without users=, so for all users"
        return Verdict(SW.SUCCESS, f"{given}, {reach}")

    async def _restart(self, holding: Holding, request: Restart, given: str) -> Verdict:
        if self.services is None:
            return Verdict(SW.NOT_SUPPORTED, "there is no service manager that asyd could use")
        try:
            unit = await self.services.resolve(request.name)
        except PlatformError as error:
            return Verdict(error.sw, f"{self.services.name} cannot be asked: {error}")
        refusal = "asyd itself" if unit in self.asyd.units else self.services.refusal(unit)
        mine = self.asyd.pid and unit not in self.asyd.units and unit in own_unit.own_units()
        if refusal and not mine:  # what this command is started from is no part of asyd
            return Verdict(SW.DENIED, f"{unit} is {_EVERYBODY}: {refusal}")
        scope = holding.root.scope
        option = _option(scope.describe(), "services")
        name = unit.removesuffix(".service")
        if not scope.allows_service(name):
            return Verdict(SW.DENIED, f"line {holding.root.line}: {option} does not match {name}")
        reach = f"{option} matches {name}" if option else "without services=, so for all services"
        queued = (
            f"it would restart {unit}; 9000 says that this is queued, and TASK_QUERY how it ended, "
            "such as 2, failed, where there is no such unit"
        )
        return Verdict(SW.SUCCESS, f"{given}, {reach}", (queued,))

    def _delegation(self, holding: Holding, request: NewAgent | AgentKey, given: str) -> Verdict:
        scratch = Directory(
            self.directory.book,
            self.directory.delegates,
            node_key=self.node_key,
            ended=self.directory.ended,
        )
        try:
            if isinstance(request, NewAgent):
                scratch.add(
                    holding.key,
                    request.key,
                    CapabilityMap.of(request.caps).bits & ~UNGRANTED,
                    request.ttl_s,
                    request.label,
                    self.now,
                    charge=_no_rate,
                )
            else:
                scratch.remove(holding.key, request.key, self.now, charge=_no_rate)
        except DirectoryRefusal as refusal:
            return Verdict(refusal.sw, str(refusal))
        return Verdict(SW.SUCCESS, given)


def _carrier(holding: Holding) -> Verdict:
    """CONTINUE, which no line grants. No instruction but vendors' may come in fragments."""
    notes: tuple[str, ...] = ()
    if holding.root.scope.vendors and holding.caps & SETS["vendor"]:
        notes = ("only while asyd runs with no vendor of its vendors= that takes fragments",)
    return Verdict(SW.NO_SUCH_INSTRUCTION, "it holds nothing that may come in fragments", notes)


def user(uid: int) -> str:
    """A user as a person reads it: www-data (uid 33)."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _malformed(instruction: AnyInstruction, error: LayoutError) -> str:
    fields = instruction.request.FIELDS.items()
    takes = ", ".join(f"{name.upper()} ({one.doc})" for name, one in fields)
    return f"{instruction.name} takes {takes or 'nothing'}: {error}"


def _option(described: str, option: str) -> str:
    return next((word for word in described.split() if word.startswith(f"{option}=")), "")


def _no_rate() -> None:
    """Nobody knows here what is left of a rate."""
